//! Input without keys through the internal topic, on real servers: the sessions of a sort, whoever is killed when, and however
//! many workers share the work.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use serde_json::json;

use super::cli::{path, run, try_lines};
use super::instances::arena::{Arena, PARTITIONS, until};
use super::sessions::{EVENTS, ROWS, USERS, counted, event, expected, live_twice, pipeline};

const USER_SESSIONS: &str = "pipelines/user-sessions.yaml";

/// The pipeline of sessions, over a topic whose producers send no key.
fn unkeyed(name: &str, servers: &str, url: &str) -> String {
    pipeline(name, servers, url)
        .replace("keyed_by: who", "repartition_by: { field: who, partitions: 3 }")
        .replace("delay: 1m", "delay: 1m, idle_after: 2s")
}

const SIGKILL: i32 = 9;

/// Sends these events, each to some partition that its user has nothing to do with; they are not waited for.
fn begin_sending(arena: &Arena, events: std::ops::Range<i64>) {
    for n in events {
        let (at, user) = event(n);
        let value = json!({ "at": at, "who": format!("u{user:02}"), "n": n }).to_string();
        arena.send_event(i32::try_from(n / 3).unwrap() % PARTITIONS, &value);
    }
}

fn send(arena: &Arena, events: std::ops::Range<i64>) {
    begin_sending(arena, events);
    arena.flush();
}

/// The tables, the counts and the output topic are those of all events, once each.
fn assert_everything(arena: &Arena) {
    until("rows", || counted(arena) == EVENTS);
    let (found, expected) = (arena.query(ROWS), expected());
    assert!(expected.lines().count() > usize::try_from(3 * USERS).unwrap(), "too few sessions");
    assert_eq!(found, expected);
    let sums = "SELECT concat_ws(' ', sum(read), sum(accepted), sum(duplicate), sum(dead), sum(routed))
        FROM millstream.status";
    assert_eq!(arena.query(sums), format!("{EVENTS} {EVENTS} 0 0 {EVENTS}"));
    // Kafka commits after PostgreSQL.
    until("outputs", || i64::try_from(arena.outputs().len()).unwrap() >= EVENTS);
    let outputs = arena.outputs();
    assert_eq!(i64::try_from(outputs.len()).unwrap(), EVENTS);
    assert!(outputs.values().all(|times| *times == 1), "an output twice");
}

#[test]
fn any_number_of_workers_leaves_the_sessions_of_a_sort() {
    for workers in ["1", "3"] {
        let arena = Arena::with(unkeyed);
        send(&arena, 0..EVENTS);
        let mut process = arena.start("a", &["--workers", workers, "--until-end"]);
        assert_eq!(process.wait_exit(), 0, "{}", process.said());
        assert_everything(&arena);
        let topics =
            "SELECT string_agg(DISTINCT replace(topic, application, 'app'), ' ') FROM millstream.progress";
        assert_eq!(arena.query(topics), "app app.clicks.by-who");
        let internal = "SELECT count(*)::text FROM millstream.progress WHERE topic LIKE '%.by-who'";
        assert_eq!(arena.query(internal), "3");
        let watermarks = "SELECT concat(count(DISTINCT watermark), ' ', bool_and(watermark IS NOT NULL))
            FROM millstream.progress WHERE topic LIKE '%.by-who'";
        assert_eq!(arena.query(watermarks), "1 t", "the last ticks came before the end");
    }
}

#[test]
fn killed_and_restarted_with_and_without_its_state_a_run_leaves_them_too() {
    // A machine that pauses the test before it kills lets the program come to the end first.
    assert!((0..5).any(|_| killed_and_restarted()), "killed when nothing was under way");
}

/// Whether records were under way each time it was killed.
fn killed_and_restarted() -> bool {
    let arena = Arena::with(unkeyed);
    let (sent, under_way) = live_twice(&arena, "2", begin_sending);
    let _last = arena.start_ready("a", &["--workers", "2"]);
    send(&arena, sent..EVENTS);
    assert_everything(&arena);
    under_way
}

#[test]
fn killed_within_epochs_of_routers_a_run_leaves_them_too() {
    let arena = Arena::with(unkeyed);
    send(&arena, 0..EVENTS);
    let points = [
        "kafka-offsets-sent:2",
        "postgres-committed:2",
        "kafka-committing:2",
        "kafka-committed:2",
        "outputs-only-checked:1",
    ];
    for point in points {
        let mut process = arena.start_fault("a", &["--workers", "1"], &[("MILLSTREAM_CRASH", point)]);
        assert_eq!(process.wait_end().signal(), Some(SIGKILL), "{point}:\n{}", process.said());
    }
    let mut process = arena.start("a", &["--workers", "1", "--until-end"]);
    assert_eq!(process.wait_exit(), 0, "{}", process.said());
    assert_everything(&arena);
}

#[test]
fn partitions_without_records_hold_nobody_back_for_long() {
    let arena = Arena::with(unkeyed);
    let process = arena.start_ready("a", &["--workers", "1"]);
    let value = |at: i64| json!({ "at": at, "who": "u01", "n": 1 }).to_string();
    arena.send_event(0, &value(1_769_735_890));
    arena.flush();
    let watermarks = "SELECT string_agg(coalesce(extract(epoch FROM watermark)::bigint::text, 'none'), ' ')
        FROM millstream.progress WHERE topic LIKE '%.by-who'";
    let everywhere = |at: i64| [at.to_string(), at.to_string(), at.to_string()].join(" ");
    process.until("idle sources left out", |_| arena.query(watermarks) == everywhere(1_769_735_830));
    let through =
        "SELECT coalesce(extract(epoch FROM final_through)::bigint::text, 'none') FROM millstream.finality";
    process.until("rows final", |_| arena.query(through) == (1_769_735_830 - 3_600).to_string());
    arena.send_event(0, &value(1_769_739_890));
    arena.flush();
    process.until("going on without them", |_| arena.query(watermarks) == everywhere(1_769_739_830));
}

#[test]
fn internal_topic_of_another_kind_is_refused() {
    let compacted = Arena::with(unkeyed);
    let topic = |arena: &Arena| format!("{0}.clicks.by-who", arena.name);
    compacted.make_topic(&topic(&compacted), 3, &[("cleanup.policy", "compact")]);
    let mut process = compacted.start("a", &[]);
    assert_ne!(process.wait_exit(), 0);
    assert_ne!(process.times_said("COMPACTED_INPUT"), 0, "{}", process.said());

    let written = Arena::with(unkeyed);
    written.make_topic(&topic(&written), 3, &[]);
    written.send_elsewhere(&topic(&written), 1, "{}");
    written.flush();
    let mut process = written.start("a", &[]);
    assert_ne!(process.wait_exit(), 0);
    let why = "holds records that this application did not write";
    assert_ne!(process.times_said(why), 0, "{}", process.said());
}

#[test]
fn record_that_no_router_wrote_stops_its_partition_and_no_other() {
    let arena = Arena::with(unkeyed);
    let process = arena.start_ready("a", &["--workers", "1"]);
    process.until("all run", |process| process.running().len() == 7);
    arena.send_elsewhere(&format!("{}.clicks.by-who", arena.name), 1, "{}");
    arena.flush();
    process.until("stopped", |process| process.stopped().len() == 1);
    send(&arena, 0..USERS);
    let others = "SELECT count(*)::text FROM millstream.status WHERE topic LIKE '%.by-who' AND accepted > 0";
    process.until("the others go on", |_| arena.query(others) == "2");
    assert_eq!((process.stopped().len(), process.running().len()), (1, 6), "{}", process.said());
    let (task, reason) = process.stopped().pop_first().unwrap();
    assert!(task.contains("by-who-1") && reason.contains("INTERNAL_TOPIC_FOREIGN"), "{task}: {reason}");
}

#[test]
fn try_gives_what_a_keyed_source_gives() {
    let text = fs::read_to_string(path(USER_SESSIONS)).unwrap();
    let keyed = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(&keyed, text.replace("repartition_by: user_id", "keyed_by: user_id")).unwrap();
    let line = |n: i64| {
        // One in ten comes hours after its time.
        let hour = if n % 10 == 3 { (n / 40 - 5).max(0) } else { n / 40 };
        let (minute, user) = (n * 7_919 % 60, n % 9);
        format!(
            r#"{{"event_time":"2026-01-30T{:02}:{minute:02}:00Z","user_id":"user{user}","page_url":"/{}","event_type":"page_view"}}"#,
            hour,
            n % 5
        ) + "\n"
    };
    let lines: String = (0..900).map(line).chain(["{}\n".to_owned()]).collect();
    for partitions in ["1", "4"] {
        let arguments =
            ["--output", "json", "--partitions", partitions, "--commit-time", "2026-01-30T12:00:00Z"];
        let hop = try_lines(USER_SESSIONS, lines.as_bytes(), &arguments);
        let plain = try_lines(&keyed.path().display().to_string(), lines.as_bytes(), &arguments);
        assert_eq!((hop.code, plain.code), (0, 0), "{}{}", hop.stderr, plain.stderr);
        assert_eq!(hop.json(), plain.json(), "{partitions}");
        assert!(
            hop.json()["aggregates"]["user_sessions"]["too_late"].as_i64().unwrap() > 0,
            "nothing is late"
        );
    }
}

#[test]
fn plan_tells_of_the_hop_and_of_what_dedup_means() {
    let said = run(&["plan", &path(USER_SESSIONS)], b"");
    let line = "user_id, through topic user-sessions.activity.by-user_id, created with as many partitions as it has itself";
    assert!(said.stdout.contains(line), "{}", said.stdout);
    let json = run(&["plan", &path(USER_SESSIONS), "--output", "json"], b"").json();
    assert_eq!(
        json["sources"][0]["repartition_by"],
        json!({ "field": "user_id", "topic": "user-sessions.activity.by-user_id", "create_partitions": null })
    );
    let text = fs::read_to_string(path(USER_SESSIONS)).unwrap();
    for (by, key, among) in [("user_id", "user_id", "all"), ("user_id", "page_url", "those of one partition")]
    {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        let dedup = format!("repartition_by: {by}\n    dedup: {{ key: [{key}], within: 1h }}");
        fs::write(&file, text.replace("repartition_by: user_id", &dedup)).unwrap();
        let file = file.path().display().to_string();
        let said = run(&["plan", &file], b"").stdout;
        assert!(said.contains(&format!("within 1h, among {among}")), "{said}");
        assert_eq!(said.contains("copies in different partitions are not found"), among != "all");
    }
}
