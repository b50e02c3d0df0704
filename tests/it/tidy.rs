//! What the compiler cannot check: the order of modules, sizes, unfinished marks, unsafe code, the listing.
//!
//! Each check is a pure function from sources to problems, and is shown to bite on small fake sources beside it.
//! Nothing here is clever about Rust: `source` blanks comments and literals, the rest counts words and braces.

mod listing;
mod order;
mod sizes;
mod source;
mod words;

use std::path::{Path, PathBuf};

use source::Source;

/// The checkout that is being tested.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust and Python file of the checkout, with its path from the root.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), &root(), &mut found);
    assert!(found.iter().any(|source| source.path == "tests/it/tidy.rs"), "the walk missed this very file");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if is_foreign(&name) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, found);
        } else if name.ends_with(".rs") || name.ends_with(".py") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            found.push(Source::new(path, text));
        }
    }
}

/// Hidden, built or installed: not ours to judge.
fn is_foreign(name: &str) -> bool {
    name.starts_with('.') || ["target", "node_modules", "__pycache__", "venv"].contains(&name)
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
}
