//! The listing in README is true: every top-level folder stands in it, and nothing else does.

use std::collections::BTreeSet;

use super::{assert_none, is_foreign, root};

const HEADING: &str = "## Layout";

#[test]
fn readme_lists_every_top_level_folder() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let folders = std::fs::read_dir(root())
        .expect("the root can be read")
        .map(|entry| entry.expect("a directory entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !is_foreign(name))
        .collect();
    assert_none(&problems(&readme, &folders));
}

fn problems(readme: &str, folders: &BTreeSet<String>) -> Vec<String> {
    let Some(listed) = listing(readme) else {
        return vec![format!("README.md: no fenced listing under '{HEADING}'")];
    };
    let missing = folders.difference(&listed).map(|name| format!("README.md: '{name}/' is not listed"));
    let stale =
        listed.difference(folders).map(|name| format!("README.md: lists '{name}/', which is not there"));
    missing.chain(stale).collect()
}

/// The names that end in a slash at the beginning of a line of the fenced block under the heading.
fn listing(readme: &str) -> Option<BTreeSet<String>> {
    let section = readme.lines().skip_while(|line| line.trim_end() != HEADING).skip(1);
    let mut block =
        section.take_while(|line| !line.starts_with("## ")).skip_while(|line| !line.starts_with("```"));
    block.next()?;
    let lines = block.take_while(|line| !line.starts_with("```"));
    Some(
        lines
            .filter_map(|line| line.split_once('/'))
            .map(|(name, _)| name.to_string())
            .filter(|name| is_plain(name))
            .collect(),
    )
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn check(readme: &str, folders: &[&str], expect: &[&str]) {
    let folders = folders.iter().map(|name| name.to_string()).collect();
    let problems = problems(readme, &folders);
    assert_eq!(problems.len(), expect.len(), "{problems:?}");
    for (problem, expect) in problems.iter().zip(expect) {
        assert!(problem.contains(expect), "{problem} lacks {expect}");
    }
}

#[test]
fn listing_must_match_the_folders() {
    let readme = "# a\n## Layout\n\n```\ncore/   decides\n  model/  nouns\nsrc/    acts, see core/\nCargo.toml\n```\n## Next\n```\nx/\n```\n";
    check(readme, &["core", "src"], &[]);
    check(readme, &["core", "src", "docs"], &["'docs/' is not listed"]);
    check(readme, &["core"], &["lists 'src/'"]);
}

#[test]
fn readme_without_a_listing_is_a_problem() {
    check("", &["core"], &["no fenced listing"]);
    check("## Layout\nwords\n## Next\n```\ncore/\n```\n", &["core"], &["no fenced listing"]);
}
