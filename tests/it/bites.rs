//! Deliberate faults in the protocol, each shown to do harm that the protocol as it is does not let happen.
//!
//! The fault build runs each scene twice: with the fault, which must be seen in the books, and without, which must not.

use super::instances::arena::{Arena, Process};

/// Runs one instance of the fault build under these variables.
fn start(arena: &Arena, name: &str, variables: &[(&str, &str)]) -> Process {
    arena.start_fault(name, &["--workers", "1"], variables)
}

/// Sends, and looks at the books, until they are wrong; false if they stay right for so many rounds.
fn goes_wrong(arena: &mut Arena, process: &Process, rounds: usize) -> bool {
    for _ in 0..rounds {
        arena.send(40);
        let settled = || arena.rows() >= arena.sent() && arena.outputs().len() as i64 >= arena.sent();
        process.until("processed or stopped", |process| settled() || !process.stopped().is_empty());
        if arena.rows() != arena.sent() || arena.outputs().values().any(|times| *times != 1) {
            return true;
        }
    }
    false
}

/// Replies of one kind are lost; with the fault the books go wrong, without it they do not.
fn check_lost_replies(fault: &str, lost: &str) {
    for (broken, expect) in [(fault, true), ("", false)] {
        let mut arena = Arena::open();
        let process = start(&arena, "a", &[("MILLSTREAM_BREAK", broken), ("MILLSTREAM_LOSE", lost)]);
        process.wait_ready();
        let rounds = if expect { 20 } else { 4 };
        assert_eq!(goes_wrong(&mut arena, &process, rounds), expect, "{fault}: {broken}\n{}", process.said());
    }
}

#[test]
fn a_lost_reply_to_commit_is_no_rollback() {
    check_lost_replies("lost-reply-is-failure", "postgres-commit:3");
}

#[test]
fn a_kafka_commit_is_not_repeated_before_it_was_asked_for() {
    check_lost_replies("kafka-commit-retried", "kafka-commit:3");
}

#[test]
fn a_producer_is_not_used_again_after_an_indefinite_reply() {
    check_lost_replies("producer-kept", "postgres-commit:3");
}
