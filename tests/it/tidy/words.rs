//! Words that must not be there: unfinished marks, ignored tests, sleeps in tests, unsafe code.

use super::source::{Source, line_of, words};
use super::{assert_none, sources};

/// The files that may hold unsafe code.
const UNSAFE_FILES: [&str; 2] = ["src/cli/heap.rs", "src/kafka/ffi.rs"];

// Spelled in halves, so that this file passes its own check.
const COMMENT_MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const CODE_MARKS: [&str; 3] = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!")];

#[test]
fn nothing_is_unfinished_ignored_asleep_or_unsafe() {
    assert_none(&problems(&sources()));
}

fn problems(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        for mark in COMMENT_MARKS {
            report(source, words(&source.text, mark), &format!("unfinished: '{mark}'"), &mut problems);
        }
        if source.is_rust() {
            check_rust(source, &mut problems);
        }
    }
    problems
}

fn check_rust(source: &Source, problems: &mut Vec<String>) {
    let code = &source.code;
    for mark in CODE_MARKS {
        let found = code.match_indices(mark).map(|(at, _)| at).filter(|at| !follows_word(code, *at));
        report(source, found, &format!("unfinished: '{mark}'"), problems);
    }
    let ignored = words(code, "ignore").filter(|at| code[..*at].trim_end().ends_with(['[', ',']));
    report(source, ignored, "an ignored test proves nothing: mend it or remove it", problems);
    let tests = tests_from(source);
    let asleep = words(code, "sleep").filter(|at| *at >= tests && code[..*at].ends_with("thread::"));
    report(source, asleep, "a test waits for a condition, it does not sleep", problems);
    if !UNSAFE_FILES.contains(&source.path.as_str()) {
        let problem = format!("unsafe code lives in {} alone", UNSAFE_FILES.join(" and "));
        report(source, words(code, "unsafe"), &problem, problems);
    }
}

/// The byte from which on a file is test code.
fn tests_from(source: &Source) -> usize {
    let whole = source.path.split('/').any(|part| part == "tests" || part == "tests.rs");
    if whole { 0 } else { source.code.find("#[cfg(test)]").unwrap_or(source.code.len()) }
}

fn follows_word(code: &str, at: usize) -> bool {
    code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn report(source: &Source, found: impl Iterator<Item = usize>, problem: &str, problems: &mut Vec<String>) {
    problems.extend(found.map(|at| format!("{}:{}: {problem}", source.path, line_of(&source.text, at))));
}

fn count(path: &str, text: &str) -> usize {
    problems(&[Source::new(path, text)]).len()
}

#[test]
fn unfinished_marks_are_problems_in_comments_and_code() {
    for mark in COMMENT_MARKS {
        assert_eq!(count("src/a.rs", &format!("// {mark}: later\n")), 1, "{mark}");
        assert_eq!(count("chaos/a.py", &format!("# {mark} later\n")), 1, "{mark}");
        assert_eq!(count("src/a.rs", &format!("let {mark}S = 1;\n")), 0, "{mark}");
    }
    for mark in CODE_MARKS {
        assert_eq!(count("src/a.rs", &format!("fn a() {{ {mark}() }}\n")), 1, "{mark}");
        assert_eq!(count("src/a.rs", &format!("// {mark}()\nlet a = \"{mark}\";\n")), 0, "{mark}");
    }
}

#[test]
fn ignored_test_is_a_problem() {
    assert_eq!(count("tests/it/a.rs", "#[test]\n#[ignore]\nfn a() {}\n"), 1);
    assert_eq!(count("tests/it/a.rs", "#[cfg_attr(unix, ignore = \"slow\")]\nfn a() {}\n"), 1);
    assert_eq!(count("src/a.rs", "fn ignore() { ignore(1); }\n"), 0);
}

#[test]
fn sleep_is_a_problem_in_tests_alone() {
    let sleep = "fn a() { std::thread::sleep(pause); }\n";
    assert_eq!(count("tests/it/a.rs", sleep), 1);
    assert_eq!(count("src/http/tests.rs", sleep), 1);
    assert_eq!(count("src/a.rs", &format!("#[cfg(test)]\nmod tests {{ {sleep} }}\n")), 1);
    assert_eq!(count("src/a.rs", sleep), 0);
}

#[test]
fn unsafe_code_is_a_problem_outside_its_files() {
    let text = "#![deny(unsafe_code)]\n// unsafe\nfn a() { unsafe { b() } }\n";
    assert_eq!(count("src/kafka/consumer.rs", text), 1);
    assert_eq!(count("src/kafka/ffi.rs", text), 0);
}
