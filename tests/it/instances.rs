//! Workers and instances of one pipeline, as real processes on real servers.

pub mod arena;

use std::process::Command;
use std::time::{Duration, Instant};

use super::cli::binary;
use arena::{Arena, PARTITIONS, breathe, copy, until};

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
        assert!(before.elapsed() < Duration::from_secs(60), "{}\n{}", first.said(), second.said());
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
        assert!(before.elapsed() < Duration::from_secs(60), "{}\n{}", first.said(), second.said());
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
        assert!(before.elapsed() < Duration::from_secs(60), "{}\n{}", first.said(), second.said());
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

#[test]
fn drained_instance_leaves_its_partitions_at_once() {
    let mut arena = Arena::open();
    let mut first = arena.start_ready("a", &["--workers", "2"]);
    let second = arena.start("b", &["--workers", "1"]);
    until("both share", || {
        !second.running().is_empty() && first.running().len() + second.running().len() == ALL
    });
    arena.send(100);
    let before = Instant::now();
    let state = first.state.display().to_string();
    let drained = Command::new(binary()).args(["drain", "--state-dir", &state]).output().unwrap();
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    assert_eq!(first.wait_exit(), 0, "{}", first.said());
    second.until("all of it", |process| process.running().len() == ALL);
    assert!(
        before.elapsed() < Duration::from_secs(25),
        "the session time-out is 30 s: {:?}",
        before.elapsed()
    );
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
