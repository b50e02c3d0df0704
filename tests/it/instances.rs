//! Workers and instances of one pipeline, as real processes on real servers.

pub mod arena;

use std::process::Command;
use std::time::{Duration, Instant};

use super::awake::Awake;
use super::cli::{binary, run};
use arena::{Arena, LIMIT, PARTITIONS, breathe, copy, until};

const ALL: usize = PARTITIONS as usize;

#[test]
fn two_workers_of_a_process_share_the_partitions() {
    let mut arena = Arena::open();
    arena.send(400);
    let process = arena.start_ready("a", &["--workers", "2"]);
    process.until("shared by two workers", |process| process.shares() == [2, 2]);
    arena.send(400);
    arena.wait_for_rows();
    arena.assert_outputs();
    let workers = "SELECT count(DISTINCT owner)::text FROM millstream.progress";
    assert_eq!(arena.query(workers), "2", "the rows name instance and worker");
    process.until("said by /status where the rows are", |process| {
        let found = process.witnesses();
        let alike = found.iter().all(|[rows, outputs, state, end]| [rows, outputs, state] == [end; 3]);
        alike && found.len() == ALL && found.iter().map(|[.., end]| end).sum::<i64>() == 800
    });
}

#[test]
fn second_instance_takes_partitions_and_both_go_on_exactly_once() {
    let mut arena = Arena::open();
    let first = arena.start_ready("a", &["--workers", "1"]);
    arena.send(400);
    arena.wait_for_rows();
    let second = arena.start("b", &["--workers", "1"]);
    let shared = || {
        let (mine, theirs) = (first.running().len(), second.running().len());
        mine > 0 && theirs > 0 && mine + theirs == ALL
    };
    let before = Instant::now();
    while !shared() {
        arena.send(20);
        breathe();
        assert!(before.elapsed() < LIMIT, "{}\n{}", first.said(), second.said());
    }
    arena.send(400);
    arena.wait_for_rows();
    arena.assert_outputs();
}

#[test]
fn clean_restart_moves_nothing() {
    let mut arena = Arena::open();
    let mut first = arena.start_ready("a", &["--workers", "2"]);
    let second = arena.start("b", &["--workers", "1"]);
    until("both share", || {
        !second.running().is_empty() && first.running().len() + second.running().len() == ALL
    });
    arena.send(100);
    arena.wait_for_rows();
    let (mine, theirs) = (first.running(), arena.owned(&second.instance()));
    first.terminate();
    assert_eq!(first.wait_exit(), 0, "{}", first.said());
    let again = arena.start_ready("a", &["--workers", "2"]);
    again.until("the same again", |process| process.running() == mine);
    assert_eq!(arena.owned(&second.instance()), theirs, "the other was not disturbed");
    arena.send(100);
    arena.wait_for_rows();
    arena.assert_outputs();
}

/// The old owner is killed after the group took partitions from it, and before it let go of them.
#[test]
fn partition_on_its_way_finds_an_owner_though_the_old_one_was_killed() {
    let mut arena = Arena::open();
    let killed = [("MILLSTREAM_CRASH", "group-revoking:1")];
    let mut first = arena.start_fault("a", &["--workers", "1"], &killed);
    first.wait_ready();
    let second = arena.start("b", &["--workers", "1"]);
    let before = Instant::now();
    while !first.has_ended() {
        breathe();
        assert!(before.elapsed() < LIMIT, "{}\n{}", first.said(), second.said());
    }
    let again = arena.start_ready("a", &["--workers", "1"]);
    until("every partition has an owner", || again.running().len() + second.running().len() == ALL);
    arena.send(100);
    arena.wait_for_rows();
    arena.assert_outputs();
}

#[test]
fn duplicate_of_an_instance_exits_77_and_does_not_come_back() {
    let mut arena = Arena::open();
    let mut first = arena.start_ready("a", &["--workers", "2"]);
    arena.send(100);
    arena.wait_for_rows();
    copy(&first.state, &arena.folder.path().join("b"));
    let mut second = arena.start("b", &["--workers", "2"]);
    let before = Instant::now();
    while !first.has_ended() && !second.has_ended() {
        breathe();
        assert!(before.elapsed() < LIMIT, "{}\n{}", first.said(), second.said());
    }
    let (fenced, other) =
        if first.has_ended() { (&mut first, &mut second) } else { (&mut second, &mut first) };
    assert_eq!(fenced.wait_exit(), 77, "{}", fenced.said());
    other.until("all of it", |process| process.running().len() == ALL);
    arena.send(100);
    arena.wait_for_rows();
    arena.assert_outputs();
    assert!(!other.has_ended(), "{}", other.said());
}

/// One of two workers panics inside an epoch; the other goes on meanwhile, and the one comes back.
#[test]
fn trouble_of_one_worker_does_not_stop_the_other() {
    let mut arena = Arena::open();
    let panics = [("MILLSTREAM_PANIC", "kafka-drained:6")];
    let process = arena.start_fault("a", &["--workers", "2"], &panics);
    process.wait_ready();
    process.until("shared by two workers", |process| process.shares() == [2, 2]);
    let epochs = "SELECT string_agg(owner_epoch::text, ' ' ORDER BY partition) FROM millstream.progress";
    let taken = arena.query(epochs);
    let before = Instant::now();
    while process.times_said("panicked") == 0 {
        arena.send(20);
        breathe();
        assert!(before.elapsed() < LIMIT, "{}", process.said());
    }
    arena.send(400);
    process.until("shared by two workers again", |process| process.shares() == [2, 2]);
    arena.wait_for_rows();
    arena.assert_outputs();
    let again = arena.query(epochs);
    let same = taken.split(' ').zip(again.split(' ')).filter(|(before, now)| before == now).count();
    assert_eq!(same, 2, "only the worker that panicked took its tasks again: {taken}, then {again}");
}

#[test]
fn drained_instance_leaves_its_partitions_at_once() {
    let mut arena = Arena::open();
    let mut first = arena.start_ready("a", &["--workers", "2"]);
    let second = arena.start("b", &["--workers", "1"]);
    until("both share", || {
        !second.running().is_empty() && first.running().len() + second.running().len() == ALL
    });
    arena.send(100);
    let awake = Awake::start();
    let state = first.state.display().to_string();
    let drained = Command::new(binary()).args(["drain", "--state-dir", &state]).output().unwrap();
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    assert_eq!(first.wait_exit(), 0, "{}", first.said());
    second.until("all of it", |process| process.running().len() == ALL);
    assert!(awake.elapsed() < Duration::from_secs(25), "the session time-out is 30 s: {:?}", awake.elapsed());
    arena.send(100);
    arena.wait_for_rows();
    arena.assert_outputs();
    let nobody = Command::new(binary()).args(["drain", "--state-dir", &state]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{}", String::from_utf8_lossy(&nobody.stderr));
}

#[test]
fn end_is_reached_when_every_instance_has_done_its_part() {
    let mut arena = Arena::open();
    let first = arena.start_ready("a", &["--workers", "1"]);
    arena.send(400);
    let mut ending = arena.start("b", &["--workers", "2", "--until-end"]);
    assert_eq!(ending.wait_exit(), 0, "{}", ending.said());
    arena.wait_for_rows();
    arena.assert_outputs();
    first.until("all of it again", |process| process.running().len() == ALL);
}

#[test]
fn stale_taker_does_not_stop_the_rightful_owner() {
    let mut arena = Arena::open();
    let process = arena.start_ready("a", &["--workers", "2"]);
    arena.send(100);
    arena.wait_for_rows();
    let epochs = "SELECT string_agg(owner_epoch::text, ' ' ORDER BY partition) FROM millstream.progress";
    let of = |text: String| text.split(' ').map(|epoch| epoch.parse().unwrap()).collect::<Vec<i64>>();
    let before = of(arena.query(epochs));
    arena.query("UPDATE millstream.progress SET owner_epoch = owner_epoch + 1 WHERE partition IN (1, 2)");
    arena.send(100);
    arena.wait_for_rows();
    arena.assert_outputs();
    process.until("all of it", |process| process.running().len() == ALL);
    let taken: Vec<i64> = of(arena.query(epochs)).iter().zip(&before).map(|(now, then)| now - then).collect();
    assert_eq!((taken[0], taken[3]), (0, 0), "the others were not disturbed");
    assert!(
        taken[1] >= 2 && taken[2] >= 2,
        "fenced once by the stale one, taken again by the owner: {taken:?}"
    );
}

#[test]
fn status_tells_k_of_all_partitions_but_that_in_an_open_transaction() {
    let mut arena = Arena::open();
    let dwell = [("MILLSTREAM_DWELL", "kafka-offsets-sent:1:9000")];
    let process = arena.start_fault("a", &["--workers", "1"], &dwell);
    process.wait_ready();
    arena.send_on(1, 20);
    process.until("in its transaction", |process| process.has_reached("kafka-offsets-sent", 1));
    let file = arena.pipeline().display().to_string();
    let said = run(&["status", &file, "--http", "127.0.0.1:1", "--output", "json"], b"");
    assert_eq!(said.code, 0, "{}", said.stderr);
    let tasks = said.json()["tasks"].as_array().cloned().unwrap();
    let offsets: Vec<Option<i64>> = tasks.iter().map(|task| task["group_offset"].as_i64()).collect();
    assert_eq!(offsets, [Some(0), None, Some(0), Some(0)], "{}", process.said());
}
