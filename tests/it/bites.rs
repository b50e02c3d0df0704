//! Deliberate faults in the protocol, each shown to do harm that the protocol as it is does not let happen.
//!
//! The fault build runs each scene twice: with the fault, which must be seen in the books, and without, which must not.

use std::collections::BTreeMap;

use super::instances::arena::{Arena, Process, copy};

const LAST: i32 = super::instances::arena::PARTITIONS - 1;

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
        let books = [arena.rows(), arena.offsets()];
        if books != [arena.sent(); 2] || arena.outputs().values().any(|times| *times != 1) {
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

#[test]
fn nothing_of_an_epoch_with_a_fenced_task_is_visible() {
    for (broken, expect) in [("fenced-task-committed", true), ("", false)] {
        let mut arena = Arena::open();
        let process = start(&arena, "a", &[("MILLSTREAM_BREAK", broken)]);
        process.wait_ready();
        assert!(!goes_wrong(&mut arena, &process, 1), "{}", process.said());
        arena.query("UPDATE millstream.progress SET owner_epoch = owner_epoch + 1 WHERE partition = 1");
        assert_eq!(goes_wrong(&mut arena, &process, 3), expect, "{}", process.said());
    }
}

/// A first process is frozen at a point of its first epoch, which is of one partition; a second on a copy of its state
/// takes over as far as another point; then the first goes on from where it stood.
fn take_over(
    arena: &mut Arena,
    broken: &str,
    (first, second): (&str, &str),
    partition: i32,
) -> (Process, Process) {
    let aim = format!("{first}:1:6000");
    let frozen = start(arena, "a", &[("MILLSTREAM_BREAK", broken), ("MILLSTREAM_DWELL", &aim)]);
    frozen.wait_ready();
    arena.send_on(partition, 20);
    frozen.until("at its point", |process| process.has_reached(first, 1));
    frozen.signal("STOP");
    arena.send_on(partition, 20);
    copy(&frozen.state, &arena.folder.path().join("b"));
    let (point, arrival) = second.rsplit_once(':').expect("point:arrival");
    let aim = format!("{second}:8000");
    let taker = start(arena, "b", &[("MILLSTREAM_BREAK", broken), ("MILLSTREAM_DWELL", &aim)]);
    let arrival = arrival.parse().expect("a number");
    taker.until("at its point", |process| process.has_reached(point, arrival));
    frozen.signal("CONT");
    (frozen, taker)
}

#[test]
fn an_offset_of_the_group_is_read_behind_the_fence() {
    for (broken, expect) in [("group-offset-before-fence", true), ("", false)] {
        let mut arena = Arena::open();
        let (mut frozen, taker) =
            take_over(&mut arena, broken, ("kafka-committing", "take-group-offset-read:1"), 0);
        assert_eq!(frozen.wait_exit(), 77, "{}", frozen.said());
        let wrong = goes_wrong(&mut arena, &taker, 1);
        assert_eq!(wrong, expect, "{}\n{}", frozen.said(), taker.said());
    }
}

#[test]
fn the_owner_epoch_keeps_a_stale_owner_from_stopping_the_rightful_one() {
    for (broken, expect) in [("no-owner-epoch", true), ("", false)] {
        let mut arena = Arena::open();
        let points = ("kafka-offsets-sent", "take-decided:4");
        let (mut frozen, taker) = take_over(&mut arena, broken, points, LAST);
        assert_eq!(frozen.wait_exit(), 77, "{}", frozen.said());
        let wrong = goes_wrong(&mut arena, &taker, 1);
        assert_eq!(wrong, expect, "{}\n{}", frozen.said(), taker.said());
        let stopped: BTreeMap<String, String> = taker.stopped();
        assert_eq!(stopped.values().any(|why| why.contains("PG_WENT_BACK")), expect, "{stopped:?}");
    }
}
