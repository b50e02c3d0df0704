//! What a release binary must not contain.

use std::process::Command;

/// The fault build that `./dev` makes beside the release.
pub fn fault_binary() -> String {
    std::env::var("MILLSTREAM_FAULT_BIN").expect("MILLSTREAM_FAULT_BIN: run the tests by ./dev test")
}

fn contains(bytes: &[u8], name: &str) -> bool {
    memchr::memmem::find(bytes, name.as_bytes()).is_some()
}

#[test]
fn a_release_binary_has_no_crash_point_and_no_deliberate_fault() {
    let listed = Command::new(fault_binary()).arg("fault-points").output().expect("the fault build runs");
    let names = String::from_utf8(listed.stdout).expect("names");
    let mut names: Vec<&str> = names.lines().collect();
    assert!(names.len() >= 30, "{names:?}");
    names.extend([
        "MILLSTREAM_CRASH",
        "MILLSTREAM_DWELL",
        "MILLSTREAM_BREAK",
        "MILLSTREAM_LOSE",
        "no-owner-epoch",
        "lost-reply-is-failure",
        "state-first",
        "two-transactions",
    ]);

    let fault = std::fs::read(fault_binary()).expect("the fault build");
    let release = std::fs::read(env!("CARGO_BIN_EXE_millstream")).expect("the release build");
    for name in names {
        assert!(contains(&fault, name), "the check itself is blind: {name} is not in the fault build");
        assert!(!contains(&release, name), "{name} is in the release binary");
    }
}

#[test]
fn a_release_binary_does_not_know_the_command_fault_points() {
    let run = Command::new(env!("CARGO_BIN_EXE_millstream")).arg("fault-points").output().expect("it runs");
    assert_eq!(run.status.code(), Some(2));
}
