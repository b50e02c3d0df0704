//! Workers and instances of one pipeline, as real processes on real servers.

pub mod arena;

use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::cli::{binary, run};
use arena::{Arena, LIMIT, PARTITIONS, breathe, copy, members, servers, until};

const ALL: usize = PARTITIONS as usize;
/// Well within the session time-out: whoever is away for longer may lose partitions, as intended.
const BRIEF: Duration = Duration::from_secs(20);

/// Repeats a scene that says nothing where this machine was too slow for it; then it answers false.
fn in_time(scene: impl Fn() -> bool) {
    assert!((0..5).any(|_| scene()), "this machine is too slow for the session time-out");
}

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
    arena.assert_ended([process]);
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
    arena.assert_ended([first, second]);
}

#[test]
fn clean_restart_moves_nothing() {
    in_time(clean_restart);
}

fn clean_restart() -> bool {
    let mut arena = Arena::open();
    let mut first = arena.start_ready("a", &["--workers", "2"]);
    let second = arena.start("b", &["--workers", "1"]);
    until("both share", || {
        !second.running().is_empty() && first.running().len() + second.running().len() == ALL
    });
    arena.send(100);
    arena.wait_for_rows();
    let (mine, theirs) = (first.running(), arena.owned(&second.instance()));
    let gone = Instant::now();
    first.terminate();
    assert_eq!(first.wait_exit(), 0, "{}", first.said());
    let again = arena.start_ready("a", &["--workers", "2"]);
    if gone.elapsed() > BRIEF {
        return false;
    }
    again.until("the same again", |process| process.running() == mine);
    assert_eq!(arena.owned(&second.instance()), theirs, "the other was not disturbed");
    arena.send(100);
    arena.wait_for_rows();
    arena.assert_outputs();
    arena.assert_ended([again, second]);
    true
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
    arena.assert_ended([again, second]);
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
    in_time(trouble_of_one_worker);
}

fn trouble_of_one_worker() -> bool {
    let mut arena = Arena::open();
    let panics = [("MILLSTREAM_PANIC", "kafka-drained:6")];
    let process = arena.start_fault("a", &["--workers", "2"], &panics);
    process.wait_ready();
    process.until("shared by two workers", |process| process.shares() == [2, 2]);
    let epochs = "SELECT string_agg(owner_epoch::text, ' ' ORDER BY partition) FROM millstream.progress";
    let taken = arena.query(epochs);
    let before = Instant::now();
    let mut quiet = before;
    while process.times_said("panicked") == 0 {
        quiet = Instant::now();
        arena.send(20);
        breathe();
        assert!(before.elapsed() < LIMIT, "{}", process.said());
    }
    arena.send(400);
    process.until("shared by two workers again", |process| process.shares() == [2, 2]);
    if quiet.elapsed() > BRIEF {
        return false;
    }
    arena.wait_for_rows();
    arena.assert_outputs();
    let again = arena.query(epochs);
    let same = taken.split(' ').zip(again.split(' ')).filter(|(before, now)| before == now).count();
    assert_eq!(same, 2, "only the worker that panicked took its tasks again: {taken}, then {again}");
    arena.assert_ended([process]);
    true
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
    arena.wait_for_rows();
    assert_eq!(members(&arena.name), 3);
    let state = first.state.display().to_string();
    let drain = ["drain", "--timeout", "170", "--state-dir", &state];
    let drained = Command::new(binary()).args(drain).output().unwrap();
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    assert_eq!(first.wait_exit(), 0, "{}", first.said());
    assert_eq!(members(&arena.name), 1, "it has left the group, which need not wait for its session to end");
    second.until("all of it", |process| process.running().len() == ALL);
    arena.send(100);
    arena.wait_for_rows();
    arena.assert_outputs();
    arena.assert_ended([second]);
    let nobody = Command::new(binary()).args(["drain", "--state-dir", &state]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{}", String::from_utf8_lossy(&nobody.stderr));
}

#[test]
fn end_is_reached_when_every_instance_has_done_its_part() {
    let mut arena = Arena::open();
    let first = arena.start_ready("a", &["--workers", "1"]);
    let mut second = arena.start_ready("b", &["--workers", "1"]);
    until("both share", || [&first, &second].iter().all(|process| process.running().len() == ALL / 2));
    second.terminate();
    assert_eq!(second.wait_exit(), 0, "{}", second.said());
    // The other stands still until this one has done its own part and had time to look at the rest.
    first.signal("STOP");
    arena.send(400);
    let mut ending = arena.start("b", &["--workers", "1", "--until-end"]);
    ending.until("half of it", |_| arena.rows() >= arena.sent() / 2);
    let before = Instant::now();
    while before.elapsed() < Duration::from_secs(3) && !ending.has_ended() {
        breathe();
    }
    first.signal("CONT");
    assert_eq!(ending.wait_exit(), 0, "{}", ending.said());
    assert_eq!(arena.rows(), arena.sent(), "the other's part is done too");
    arena.assert_outputs();
    first.until("all of it again", |process| process.running().len() == ALL);
    arena.assert_ended([first]);
}

#[test]
fn stale_taker_does_not_stop_the_rightful_owner() {
    let mut arena = Arena::open();
    let process = arena.start_ready("a", &["--workers", "2"]);
    process.until("shared by two workers", |process| process.shares() == [2, 2]);
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
    arena.assert_ended([process]);
}

#[test]
fn status_tells_k_of_all_partitions_but_that_in_an_open_transaction() {
    let arena = Arena::open();
    let _process = arena.start_ready("a", &["--workers", "1"]);
    let offsets = || {
        let file = arena.pipeline().display().to_string();
        let said = run(&["status", &file, "--http", "127.0.0.1:1", "--output", "json"], b"");
        assert_eq!(said.code, 0, "{}", said.stderr);
        let tasks = said.json()["tasks"].as_array().cloned().unwrap();
        tasks.iter().map(|task| task["group_offset"].as_i64()).collect::<Vec<_>>()
    };
    until("all of them", || offsets() == [Some(0); ALL]);
    let open = offset_in_transaction(&arena, 1);
    until("all but one", || offsets() == [Some(0), None, Some(0), Some(0)]);
    open.abort_transaction(LIMIT).unwrap();
    until("all of them again", || offsets() == [Some(0); ALL]);
}

/// A transaction that stays open, with an offset of the application's group for this partition.
fn offset_in_transaction(arena: &Arena, partition: i32) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers())
        .set("transactional.id", &arena.name)
        .set("transaction.timeout.ms", "600000")
        .create()
        .unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&arena.name, partition, Offset::Offset(0)).unwrap();
    // A broker takes the offsets of somebody who has not joined.
    let group = arena.onlooker().group_metadata().unwrap();
    producer.send_offsets_to_transaction(&offsets, &group, LIMIT).unwrap();
    producer
}
