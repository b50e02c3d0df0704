//! Deliberate faults in the protocol, each shown to do harm that the protocol as it is does not let happen.
//!
//! The fault build runs each scene twice: with the fault, which must be seen in the books, and without, which must not.

mod wire;

use super::instances::arena::{Arena, Process, copy, servers};

const LAST: i32 = super::instances::arena::PARTITIONS - 1;

/// Harm depends on who is first, so a machine may be too slow for it in one scene or another; the protocol as it is
/// must hold in any. A scene answers the signs of harm.
fn check<const N: usize>(fault: &str, scene: impl Fn(&str) -> [bool; N]) {
    assert!((0..5).any(|_| scene(fault) == [true; N]), "{fault} did no harm");
    assert_eq!(scene(""), [false; N]);
}

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

/// Replies of one kind are lost; the books go wrong under those faults of which that is expected.
fn check_lost_replies(lost: &str, faults: &[(&str, bool)]) {
    for (broken, expect) in faults {
        let mut arena = Arena::open();
        let process = start(&arena, "a", &[("MILLSTREAM_BREAK", broken), ("MILLSTREAM_LOSE", lost)]);
        process.wait_ready();
        let rounds = if *expect { 20 } else { 4 };
        assert_eq!(goes_wrong(&mut arena, &process, rounds), *expect, "{broken}\n{}", process.said());
    }
}

/// Two guards stand before a second run of the same transaction, and one is enough.
#[test]
fn a_lost_reply_to_commit_is_no_rollback() {
    let faults = [
        ("lost-reply-is-failure,no-next-compare", true),
        ("lost-reply-is-failure", false),
        ("no-next-compare", false),
        ("", false),
    ];
    check_lost_replies("postgres-commit:3", &faults);
}

#[test]
fn a_kafka_commit_is_not_repeated_before_it_was_asked_for() {
    check_lost_replies("kafka-commit:3", &[("kafka-commit-retried", true), ("", false)]);
}

/// A request to commit is on its way when its time is up. It arrives in the next transaction, after the outputs and
/// before the offsets; then the process dies. A producer that was used again has its outputs in the topic, and K
/// behind them; one that was replaced is not the one that the request names.
#[test]
fn a_producer_is_not_used_again_after_an_indefinite_reply() {
    check("producer-kept", |broken| {
        let mut arena = Arena::open();
        let variables = [
            ("MILLSTREAM_BREAK", broken),
            ("MILLSTREAM_LOSE", "kafka-commit-late:1"),
            ("MILLSTREAM_DWELL", "kafka-drained:2:9000"),
        ];
        let process = start(&arena, "a", &variables);
        process.wait_ready();
        let name = format!("{}.{}.0", arena.name, process.instance());
        let before = wire::incarnation(&servers(), &name);
        arena.send_on(0, 20);
        process.until("in the next transaction", |process| process.has_reached("kafka-drained", 2));
        let kept = wire::incarnation(&servers(), &name) == before;
        let obeyed = wire::commit(&servers(), &name, before) == 0;
        println!("{}", process.said());
        drop(process);
        let process = start(&arena, "a", &[]);
        process.wait_ready();
        let wrong = goes_wrong(&mut arena, &process, 1);
        println!("{}", process.said());
        [kept, obeyed, wrong]
    });
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

/// A commit refuses what recovery does not see; but then it is tried for ever, and the other tasks wait.
#[test]
fn recovery_lets_go_of_a_task_that_was_fenced() {
    for (broken, expect) in [("no-owner-epoch-in-recovery", true), ("", false)] {
        let mut arena = Arena::open();
        let process = start(&arena, "a", &[("MILLSTREAM_BREAK", broken)]);
        process.wait_ready();
        assert!(!goes_wrong(&mut arena, &process, 1), "{}", process.said());
        let decided = || process.times_said(r#""decision":"WholeEpoch""#);
        let before = decided();
        arena.query("UPDATE millstream.progress SET owner_epoch = owner_epoch + 1 WHERE partition = 1");
        arena.send(40);
        let stuck = || decided() >= before + 9;
        process.until("done or stuck", |_| arena.rows() == arena.sent() || stuck());
        assert_eq!(stuck(), expect, "{}", process.said());
        assert_eq!(arena.rows() < arena.sent(), expect);
    }
}

/// A first process is frozen at a point of its first epoch, which is of one partition; a second on a copy of its state
/// takes over as far as another point and is frozen there; then the first goes on from where it stood, to its end, and
/// after it the second.
fn take_over(arena: &mut Arena, broken: &str, (first, second): (&str, &str), partition: i32) -> Process {
    let aim = format!("{first}:1:6000");
    let mut frozen = start(arena, "a", &[("MILLSTREAM_BREAK", broken), ("MILLSTREAM_DWELL", &aim)]);
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
    taker.signal("STOP");
    frozen.signal("CONT");
    assert_eq!(frozen.wait_exit(), 77, "{}", frozen.said());
    taker.signal("CONT");
    println!("{}", frozen.said());
    taker
}

#[test]
fn an_offset_of_the_group_is_read_behind_the_fence() {
    check("group-offset-before-fence", |broken| {
        let mut arena = Arena::open();
        let taker = take_over(&mut arena, broken, ("kafka-committing", "take-group-offset-read:1"), 0);
        let wrong = goes_wrong(&mut arena, &taker, 1);
        println!("{}", taker.said());
        [wrong]
    });
}

#[test]
fn the_owner_epoch_keeps_a_stale_owner_from_stopping_the_rightful_one() {
    check("no-owner-epoch", |broken| {
        let mut arena = Arena::open();
        let taker = take_over(&mut arena, broken, ("kafka-offsets-sent", "take-decided:4"), LAST);
        let wrong = goes_wrong(&mut arena, &taker, 1);
        println!("{}", taker.said());
        [wrong, taker.stopped().values().any(|why| why.contains("PG_WENT_BACK"))]
    });
}
