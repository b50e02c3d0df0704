//! A file fits a sitting, a function fits a screen.

use super::source::{Source, line_of, words};
use super::{assert_none, sources};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Functions that may be longer, as `path: name`, each with its reason beside it.
const LONG_FUNCTIONS: &[&str] = &[];

#[test]
fn files_and_functions_are_small() {
    assert_none(&problems(&sources(), LONG_FUNCTIONS));
}

fn problems(sources: &[Source], allowed: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut used = Vec::new();
    for source in sources {
        let lines = source.text.lines().count();
        if lines > FILE_LINES {
            problems.push(format!("{}: {lines} lines, at most {FILE_LINES}", source.path));
        }
        for (name, line, lines) in functions(source) {
            let label = format!("{}: {name}", source.path);
            match allowed.iter().find(|allowed| **allowed == label) {
                Some(allowed) if lines > FUNCTION_LINES => used.push(*allowed),
                None if lines > FUNCTION_LINES => problems.push(format!(
                    "{}:{line}: function '{name}' has {lines} lines, at most {FUNCTION_LINES}",
                    source.path
                )),
                _ => {}
            }
        }
    }
    let idle = allowed.iter().filter(|allowed| !used.contains(allowed));
    problems.extend(
        idle.map(|allowed| format!("{allowed}: allowed to be long but is not; remove the exception")),
    );
    problems
}

/// Name, first line and body lines of every function of a Rust file.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    if !source.is_rust() {
        return Vec::new();
    }
    let code = &source.code;
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let rest = code[at + 2..].trim_start();
        let name: String =
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '#').collect();
        if name.is_empty() {
            continue;
        }
        if let Some((open, close)) = body(code, at) {
            let lines = (line_of(code, close) - line_of(code, open)).saturating_sub(1);
            found.push((name, line_of(code, at), lines));
        }
    }
    found
}

/// The braces around the body of the function whose `fn` stands at `at`; none if it only declares.
fn body(code: &str, at: usize) -> Option<(usize, usize)> {
    let mut open = None;
    let mut depth = 0_i32;
    for (index, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' if open.is_none() => depth += 1,
            b')' | b']' if open.is_none() => depth -= 1,
            b';' if open.is_none() && depth == 0 => return None,
            b'{' if open.is_none() && depth == 0 => (open, depth) = (Some(index), 1),
            b'{' if open.is_some() => depth += 1,
            b'}' if open.is_some() => depth -= 1,
            _ => {}
        }
        if let Some(open) = open
            && depth == 0
        {
            return Some((open, index));
        }
    }
    None
}

#[test]
fn long_file_is_a_problem() {
    let check = |path: &str, lines: usize, expect: usize| {
        let source = Source::new(path, "// a\n".repeat(lines));
        assert_eq!(problems(&[source], &[]).len(), expect, "{path} {lines}");
    };
    check("src/a.rs", 500, 0);
    check("src/a.rs", 501, 1);
    check("chaos/a.py", 501, 1);
}

#[test]
fn long_function_is_a_problem_unless_excepted() {
    let function = |lines: usize| {
        format!("impl A {{\n    fn long(&self) {{\n{}    }}\n}}\n", "        a();\n".repeat(lines))
    };
    let check = |lines: usize, allowed: &[&str], expect: usize| {
        assert_eq!(problems(&[Source::new("src/a.rs", function(lines))], allowed).len(), expect, "{lines}");
    };
    check(70, &[], 0);
    check(71, &[], 1);
    check(71, &["src/a.rs: long"], 0);
    check(70, &["src/a.rs: long"], 1);
}

#[test]
fn bodies_are_found_past_signatures_and_braces_in_literals() {
    let text = "fn a<T: Fn(i32) -> [u8; 2]>(f: fn(u8), x: [u8; 3]) -> T\nwhere\n    T: Copy,\n{\n    \"}\";\n    '}'\n}\ntrait B {\n    fn b(&self);\n}\n";
    assert_eq!(functions(&Source::new("src/a.rs", text)), [("a".to_string(), 1, 2)]);
}
