//! Sessions: the golden cases by the binary, and a run on real servers that is killed in the middle.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::cli::{path, run, try_lines};
use super::instances::arena::{Arena, PARTITIONS, until};

const GOLDEN: &str = "tests/golden/session-rules/pipeline.yaml";

#[test]
fn cases_of_every_file_pass() {
    let cases = [
        (GOLDEN, 4),
        ("pipelines/clickstream-10m.yaml", 3),
        ("pipelines/clickstream-minute.yaml", 4),
        ("pipelines/enriched-activity.yaml", 5),
        ("pipelines/user-activity.yaml", 5),
        ("pipelines/user-sessions.yaml", 4),
    ];
    let entries = fs::read_dir(path("pipelines")).unwrap().map(|entry| entry.unwrap().path());
    let yaml = entries.filter(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    assert_eq!(yaml.count(), cases.len() - 1, "every file of pipelines/ is listed here");
    for (file, cases) in cases {
        let said = run(&["test", &path(file)], b"");
        assert_eq!(said.code, 0, "{file}: {}{}", said.stdout, said.stderr);
        assert!(said.stdout.ends_with(&format!("\n{cases} passed, 0 failed\n")), "{file}: {}", said.stdout);
    }
}

#[test]
fn rows_are_those_of_their_key_in_any_number_of_partitions() {
    let event = |user: &str, minute: i64| {
        format!(
            r#"{{"event_time":"2026-01-30T01:{minute:02}:00Z","user_id":"{user}","page_url":"/a","amount":1}}"#
        ) + "\n"
    };
    let lines: String = [("b", 0), ("a", 9), ("a", 0), ("b", 11), ("a", 19)]
        .map(|(user, minute)| event(user, minute))
        .concat();
    let row = |user: &str, start: i64, end: i64, events: i64| {
        json!({
            "user_id": user, "session_start_time": format!("2026-01-30T01:{start:02}:00.000000Z"),
            "session_end_time": format!("2026-01-30T01:{end:02}:00.000000Z"), "session_duration_seconds": (end - start) * 60,
            "events": events, "spent": events, "mean": 1.0, "first_page": "/a", "pages": 1, "late": 0, "final": false,
        })
    };
    for partitions in ["1", "3"] {
        let said = try_lines(GOLDEN, lines.as_bytes(), &["--output", "json", "--partitions", partitions]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let sessions = &said.json()["aggregates"]["sessions"];
        assert_eq!(
            sessions["rows"],
            json!([row("a", 0, 19, 3), row("b", 0, 0, 1), row("b", 11, 11, 1)]),
            "{partitions}"
        );
        assert_eq!((&sessions["matched"], &sessions["counted"]), (&json!(5), &json!(5)));
    }
}

#[test]
fn plan_and_schema_know_sessions() {
    let said = run(&["plan", &path(GOLDEN)], b"");
    let line = "session 10m max_duration 30m of activity, allowed lateness 20m, to table short_sessions by key \
                (session_start_time, user_id)";
    assert!(said.stdout.contains(line), "{}", said.stdout);
    assert!(said.stdout.contains("view sessions_latest of the latest by (user_id)"), "{}", said.stdout);
    let json = run(&["plan", &path(GOLDEN), "--output", "json"], b"").json();
    assert_eq!(json["aggregates"][0]["latest"], json!({ "view": "sessions_latest", "by": ["user_id"] }));
    assert_eq!(json["aggregates"][1]["latest"], Value::Null);
    let schema = run(&["schema"], b"").json();
    assert!(schema["$defs"]["session_window"]["properties"]["max_duration"].is_object());
}

/// A pipeline of sessions over an arena's topic.
pub(super) fn pipeline(name: &str, servers: &str, url: &str) -> String {
    format!(
        r#"version: 1
name: {name}
commit_interval: 20ms
connections:
  kafka: {{ bootstrap.servers: "{servers}" }}
  postgres: {{ url: "{url}" }}
sources:
  clicks:
    topic: {name}
    fields: {{ at: timestamp_s!, who: text!, n: bigint! }}
    event_time: at
    watermark: {{ delay: 1m }}
    keyed_by: who
late: {{ allowed_lateness: 1h }}
aggregates:
  visits:
    from: clicks
    window: {{ session: 1m }}
    by: [who]
    select: {{ events: count(*), total: sum(n), mean: avg(n), kinds: approx_distinct(n % 5) }}
    to: {{ table: visits, key: [who, session_start_time], latest: [who] }}
records:
  copies: {{ from: clicks, set: {{ seen: who }}, to: {{ topic: "{name}.out" }} }}
"#
    )
}

pub(super) const USERS: i64 = 40;
pub(super) const EVENTS: i64 = 6_000;
/// So many events of a life show that it works; the rest of them is under way when it is killed.
const FEW: i64 = 100;

/// Time in seconds and user of each event: users come for ten events and pause for three minutes, which jitter bridges
/// now and then.
pub(super) fn event(n: i64) -> (i64, i64) {
    let (round, jitter) = (n / USERS, n * 7_919 % 151);
    (1_769_735_890 + round * 10 + round / 10 * 180 + jitter, n % USERS)
}

/// Who, start, end, events, total, kinds: a sort per user, cut where the pause is longer than a minute.
pub(super) fn expected() -> String {
    let mut users: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for n in 0..EVENTS {
        let (at, user) = event(n);
        users.entry(format!("u{user:02}")).or_default().push((at, n));
    }
    let mut rows = Vec::new();
    for (user, mut events) in users {
        events.sort_unstable();
        for visit in events.chunk_by(|a, b| b.0 - a.0 <= 60) {
            let total: i64 = visit.iter().map(|(_, n)| n).sum();
            let mut kinds: Vec<i64> = visit.iter().map(|(_, n)| n % 5).collect();
            kinds.sort_unstable();
            kinds.dedup();
            let (start, end) = (visit[0].0, visit[visit.len() - 1].0);
            let mean = total as f64 / visit.len() as f64;
            rows.push(format!(
                "{user} {start} {end} {} {} {total} {mean:.6} {}",
                end - start,
                visit.len(),
                kinds.len()
            ));
        }
    }
    rows.join("\n")
}

pub(super) const ROWS: &str = "SELECT concat_ws(' ', who, extract(epoch from session_start_time)::bigint,
    extract(epoch from session_end_time)::bigint, session_duration_seconds, events, total, round(mean::numeric, 6), kinds)
    FROM visits ORDER BY who, session_start_time";

/// How many events the rows count.
pub(super) fn counted(arena: &Arena) -> i64 {
    arena.query("SELECT coalesce(sum(events), 0)::text FROM visits").parse().unwrap()
}

/// Sends these events, each to the partition of its user; they are not waited for.
fn begin_sending(arena: &Arena, events: std::ops::Range<i64>) {
    for n in events {
        let (at, user) = event(n);
        let value = json!({ "at": at, "who": format!("u{user:02}"), "n": n }).to_string();
        arena.send_event(i32::try_from(user).unwrap() % PARTITIONS, &value);
    }
}

#[test]
fn killed_and_restarted_with_and_without_its_state_a_run_leaves_the_sessions_of_a_sort() {
    // A machine that pauses the test before it kills lets the program come to the end first.
    assert!((0..5).any(|_| killed_and_restarted()), "killed when nothing was under way");
}

/// Two lives, each killed while it works off events that `begin` sends; the one to come has no local state. Answers how many
/// events were sent, and whether records were under way each time.
pub(super) fn live_twice(
    arena: &Arena,
    workers: &str,
    begin: impl Fn(&Arena, std::ops::Range<i64>),
) -> (i64, bool) {
    let (mut sent, mut under_way) = (0, true);
    for until_n in [EVENTS / 3, 2 * EVENTS / 3] {
        let process = arena.start_ready("a", &["--workers", workers]);
        begin(arena, sent..sent + FEW);
        arena.flush();
        until("rows", || counted(arena) > sent);
        begin(arena, sent + FEW..until_n);
        let state = process.state.join("tasks");
        drop(process);
        under_way &= counted(arena) < until_n;
        arena.flush();
        // The last life begins without it: it replays what PostgreSQL and Kafka hold, muted.
        if sent > 0 {
            fs::remove_dir_all(state).unwrap();
        }
        sent = until_n;
    }
    (sent, under_way)
}

/// Whether records were under way each time it was killed.
fn killed_and_restarted() -> bool {
    let arena = Arena::with(pipeline);
    let (sent, under_way) = live_twice(&arena, "1", begin_sending);
    let _last = arena.start_ready("a", &["--workers", "1"]);
    begin_sending(&arena, sent..EVENTS);
    arena.flush();
    until("rows", || counted(&arena) == EVENTS);
    let (found, expected) = (arena.query(ROWS), expected());
    assert!(
        expected.lines().count() > usize::try_from(3 * USERS).unwrap(),
        "too few sessions to tell anything"
    );
    assert_eq!(found, expected);
    let latest = "SELECT concat(count(*), ' ', count(DISTINCT who)) FROM visits_latest";
    assert_eq!(arena.query(latest), format!("{USERS} {USERS}"));
    let newest = "SELECT count(*)::text FROM visits v JOIN visits_latest l USING (who)
        WHERE v.session_start_time > l.session_start_time";
    assert_eq!(arena.query(newest), "0");
    under_way
}
