//! Inside a crate a module uses only those above it, and never a sibling.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, line_of};
use super::{assert_none, sources};

/// Module names from the top down; names on one line are siblings.
type Order = [&'static [&'static str]];

const CORE: &Order = &[
    &["model"],
    &["expr"],
    &["pipeline"],
    &["codec"],
    &["aggregate", "verdict", "window"],
    &["commit"],
    &["engine"],
];
const SRC: &Order = &[
    &["clock", "fault"],
    &["files", "kafka", "postgres", "state"],
    &["checkpoint"],
    &["generate", "runtime"],
    &["http"],
    &["cli"],
];

#[test]
fn modules_use_only_those_above_them() {
    assert_none(&problems(&sources(), "core/src/", CORE));
    assert_none(&problems(&sources(), "src/", SRC));
}

/// A mention of one module in another.
struct Use {
    from: String,
    to: String,
    place: String,
}

fn problems(sources: &[Source], folder: &str, order: &Order) -> Vec<String> {
    let level = |module: &str| order.iter().position(|names| names.contains(&module));
    let mut problems = Vec::new();
    let mut uses = Vec::new();
    for source in sources {
        let Some(module) = module_of(source, folder) else { continue };
        if level(&module).is_none() {
            problems
                .push(format!("{}: module '{module}' has no place in the order of {folder}", source.path));
        }
        uses.extend(uses_of(source, folder, &module));
    }
    for Use { from, to, place } in &uses {
        match (level(from), level(to)) {
            (Some(mine), Some(theirs)) if theirs > mine => {
                problems.push(format!("{place}: '{from}' uses '{to}', which stands below it"));
            }
            (Some(mine), Some(theirs)) if theirs == mine => {
                problems.push(format!("{place}: '{from}' uses its sibling '{to}'"));
            }
            _ => {}
        }
    }
    problems.extend(cycle(&uses).map(|cycle| format!("{folder}: modules depend on each other: {cycle}")));
    problems
}

/// The top-level module a file belongs to; none for the roots of a crate and for programs.
fn module_of(source: &Source, folder: &str) -> Option<String> {
    let below = source.path.strip_prefix(folder)?;
    let first = below.split('/').next()?.trim_end_matches(".rs");
    (source.is_rust() && !["lib", "main", "bin"].contains(&first)).then(|| first.to_string())
}

/// Every other module that a file names by way of the crate's root.
fn uses_of(source: &Source, folder: &str, module: &str) -> Vec<Use> {
    let below = &source.path[folder.len()..];
    let depth = below.split('/').count() - usize::from(below.ends_with("/mod.rs"));
    let to_root = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", to_root.as_str()] {
        for (at, _) in source.code.match_indices(prefix) {
            if source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            for name in first_names(&source.code[at + prefix.len()..]) {
                let place = format!("{}:{}", source.path, line_of(&source.code, at));
                found.push(Use { from: module.to_string(), to: name, place });
            }
        }
    }
    found.retain(|mention| mention.to != module);
    found
}

/// The first name of a path, or of each path of a braced group.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else {
        return Some(name(rest)).filter(|name| !name.is_empty()).into_iter().collect();
    };
    let mut names = Vec::new();
    let mut depth = 1;
    let mut fresh = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            _ if fresh && !c.is_whitespace() => {
                names.push(name(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// One cycle among the modules, written out, if there is any: what remains once every module is stripped that uses
/// only stripped ones.
fn cycle(uses: &[Use]) -> Option<String> {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for mention in uses {
        graph.entry(&mention.from).or_default().insert(&mention.to);
    }
    while let Some(leaf) =
        graph.keys().copied().find(|module| graph[module].iter().all(|used| !graph.contains_key(used)))
    {
        graph.remove(leaf);
    }
    let mut path = vec![*graph.keys().next()?];
    loop {
        let next = *graph[path.last()?].iter().find(|used| graph.contains_key(*used))?;
        if let Some(start) = path.iter().position(|module| *module == next) {
            path.push(next);
            return Some(path[start..].join(" -> "));
        }
        path.push(next);
    }
}

fn check(files: &[(&str, &str)], expect: &[&str]) {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
    let problems = problems(&sources, "src/", SRC);
    assert_eq!(problems.len(), expect.len(), "{problems:?}");
    for (problem, expect) in problems.iter().zip(expect) {
        assert!(problem.contains(expect), "{problem} lacks {expect}");
    }
}

#[test]
fn use_of_a_module_above_is_fine() {
    check(&[("src/runtime/worker.rs", "use crate::kafka::Consumer;\nuse crate::runtime::Epoch;\n")], &[]);
    check(&[("src/cli/run.rs", "use crate::{clock, http::serve, runtime::{Worker, state}};\n")], &[]);
    check(
        &[("src/kafka/mod.rs", "// crate::runtime\nlet a = \"crate::http\"; use millstream_core::engine;\n")],
        &[],
    );
    check(&[("src/main.rs", "use crate::cli;\n"), ("src/bin/other.rs", "use crate::cli;\n")], &[]);
}

#[test]
fn use_of_a_module_below_is_a_problem() {
    check(
        &[("src/runtime/mod.rs", "\nuse crate::http::Health;\n")],
        &["src/runtime/mod.rs:2: 'runtime' uses 'http'"],
    );
    check(&[("src/clock.rs", "fn a() { crate::cli::main() }")], &["'clock' uses 'cli'"]);
    check(&[("src/state/store.rs", "use super::super::runtime::Worker;\n")], &["'state' uses 'runtime'"]);
    check(&[("src/state/mod.rs", "use super::runtime::Worker;\n")], &["'state' uses 'runtime'"]);
}

#[test]
fn use_of_a_sibling_is_a_problem() {
    check(
        &[("src/kafka/producer.rs", "use crate::{fault, postgres::Row};\n")],
        &["'kafka' uses its sibling 'postgres'"],
    );
    check(&[("src/fault.rs", "use crate::clock::Clock;\n")], &["sibling 'clock'"]);
}

#[test]
fn module_without_a_place_is_a_problem() {
    check(&[("src/utils.rs", "")], &["module 'utils' has no place"]);
}

#[test]
fn cycle_is_written_out() {
    let files = [
        ("src/state/mod.rs", "use crate::runtime::A;"),
        ("src/runtime/mod.rs", "use crate::state::B; use crate::clock::Clock;"),
    ];
    check(&files, &["'state' uses 'runtime'", "runtime -> state -> runtime"]);
}
