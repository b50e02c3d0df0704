//! The load generator by the real binary: what it writes, and what a pipeline and a broker make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use millstream::kafka::partition_for;
use millstream_core::model::{Offset, Partition, TopicPartition};

use super::cli::binary;
use super::kafka::{join, read, settings, unique};

const START: &str = "2026-01-30T01:00:00Z";
const ENRICHED: &str = "pipelines/enriched-activity.yaml";

/// What a command said; its answer may be no text.
struct Said {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stderr))
    }
}

fn path(below_root: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below_root).display().to_string()
}

/// Runs a command with `input` on its stdin.
fn run(arguments: &[&str], input: &[u8]) -> Said {
    let mut child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let output = thread::scope(|scope| {
        // Not every command reads it.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("the binary ends")
    });
    Said {
        code: output.status.code().expect("no signal"),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Lines of a profile, from a fixed start.
fn lines(profile: &str, more: &[&str]) -> Said {
    let said = run(&[&["generate", profile, "--output", "-", "--start", START], more].concat(), b"");
    assert_eq!(said.code, 0, "{}", said.stderr);
    said
}

fn try_lines(pipeline: &str, lines: &[u8], more: &[&str]) -> Said {
    let pipeline = path(pipeline);
    run(&[&["try", &pipeline, "--input", "-", "--output", "json"], more].concat(), lines)
}

fn time(event: &Value) -> i64 {
    let text = event["event_time"].as_str().expect("a time");
    DateTime::parse_from_rfc3339(text).expect("a time").timestamp_millis()
}

#[test]
fn shares_are_hit_exactly_and_a_pipeline_finds_them() {
    for seed in ["1", "2"] {
        let faults = ["--late", "2%", "--duplicates", "3%", "--bad", "1%", "--seed", seed];
        let said =
            run(
                &[
                    &[
                        "generate",
                        "enriched-activity",
                        "--events",
                        "10000",
                        "--start",
                        START,
                        "--output",
                        "-",
                    ][..],
                    &faults,
                ]
                .concat(),
                b"",
            );
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert!(
            said.stderr.contains("10000 events: 9400 sound, 200 late, 300 duplicates, 100 bad"),
            "{}",
            said.stderr
        );

        let tried = try_lines(ENRICHED, &said.stdout, &[]).json();
        let verdicts = &tried["verdicts"][0];
        let counts = ["read", "accepted", "duplicate", "dead"].map(|name| verdicts[name].as_i64());
        assert_eq!(counts, [10_000, 9_900, 0, 100].map(Some), "{verdicts}");
        let reasons: BTreeSet<&str> =
            verdicts["dead_by_reason"].as_object().expect("a map").keys().map(String::as_str).collect();
        let expect = [
            "BAD_TIMESTAMP",
            "MISSING_FIELD",
            "NOT_JSON",
            "NOT_UTF8",
            "NUL_CHARACTER",
            "OUT_OF_RANGE",
            "WRONG_TYPE",
        ];
        assert_eq!(reasons, BTreeSet::from(expect));

        let values = tried["records"].as_array().expect("a list").iter().map(|record| &record["value"]);
        let (mut latest, mut late) = (0, 0);
        for at in values.map(time) {
            // Of its own minute, and two more of the watermark's delay.
            late += usize::from(latest - at > 3 * 60_000);
            latest = latest.max(at);
        }
        assert_eq!(late, 200, "seed {seed}");
    }
}

#[test]
fn one_in_fifty_is_late_where_the_profile_has_it() {
    let said = lines("user-sessions", &["--events", "5000"]);
    assert!(said.stderr.contains("4900 sound, 100 late, 0 duplicates, 0 bad"), "{}", said.stderr);
    let said = lines("clickstream-minute", &["--events", "5000"]);
    assert!(said.stderr.contains("4950 sound, 0 late, 50 duplicates, 0 bad"), "{}", said.stderr);
}

#[test]
fn same_seed_makes_the_same_bytes() {
    for profile in
        ["user-activity", "enriched-activity", "clickstream-minute", "clickstream-10m", "user-sessions", "w1"]
    {
        let more = ["--events", "2000", "--bad", "5%", "--duplicates", "5%", "--late", "5%", "--seed"];
        let of = |seed: &str| lines(profile, &[&more[..], &[seed]].concat()).stdout;
        let first = of("9");
        assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), 2_000, "{profile}");
        assert!(first == of("9"), "{profile}: the same seed");
        assert!(first != of("10"), "{profile}: another seed");
    }
}

#[test]
fn every_pipeline_takes_the_events_of_its_profile() {
    for (profile, pipeline) in [
        ("user-activity", "pipelines/user-activity.yaml"),
        ("enriched-activity", ENRICHED),
        ("clickstream-minute", "pipelines/clickstream-minute.yaml"),
        ("clickstream-10m", "pipelines/clickstream-10m.yaml"),
        ("user-sessions", "pipelines/user-sessions.yaml"),
        ("w1", "bench/w1.yaml"),
    ] {
        let events = lines(profile, &["--events", "1500"]).stdout;
        let said = try_lines(pipeline, &events, &["--fail-on-dead"]);
        assert_eq!(said.code, 0, "{profile}: {}", said.stderr);
        assert_eq!(said.json()["verdicts"][0]["read"], 1_500, "{profile}");
    }
}

#[test]
fn workload_is_of_the_size_and_shape_it_has_always_had() {
    let said = lines("w1", &["--events", "20000"]);
    let bytes = said.stdout.len() as f64 / 20_000.0 - 1.0;
    assert!((295.0..297.0).contains(&bytes), "{bytes} bytes an event");
    let text = String::from_utf8(said.stdout).expect("UTF-8");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let distinct = |field: &str| {
        events.iter().map(|event| event[field].as_str().expect("a text")).collect::<BTreeSet<_>>().len()
    };
    assert_eq!((distinct("event_id"), distinct("user_id"), distinct("session_id")), (20_000, 500, 1_000));
    assert_eq!(distinct("page_url"), 200);
    let views = events.iter().filter(|event| event["event_type"] == "page_view").count();
    assert!((13_700..14_300).contains(&views), "{views} page views");
    let times: Vec<i64> = events.iter().map(time).collect();
    let span = times.iter().max().unwrap() - times.iter().min().unwrap();
    assert!((105 * 60_000..115 * 60_000).contains(&span), "{span} ms");
}

#[test]
fn topic_is_made_and_filled_by_key() {
    let topic = unique("generated");
    let servers = settings("generate").client["bootstrap.servers"].clone();
    let arguments = [
        "generate",
        "w1",
        "--events",
        "3000",
        "--topic",
        &topic,
        "--partitions",
        "4",
        "--summary",
        "json",
        "--bootstrap-servers",
        &servers,
    ];
    let said = run(&arguments, b"");
    assert_eq!(said.code, 0, "{}", said.stderr);
    let summary = said.json();
    assert_eq!((&summary["events"], &summary["sound"]), (&3_000.into(), &3_000.into()), "{summary}");

    let log = read(&mut join(&settings(&unique("reader")), &topic, Offset(0)), 3_000);
    let mut count = 0;
    for (tp, records) in &log {
        assert!((0..4).contains(&tp.partition.0));
        for record in records {
            let key = record.key.as_deref().expect("a key");
            assert_eq!(partition_for(Some(key), Partition(0), 4), tp.partition);
            let value: Value =
                serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
            assert_eq!(value["user_id"].as_str().map(str::as_bytes), Some(key));
            count += 1;
        }
    }
    assert_eq!(count, 3_000);
}

#[test]
fn without_keys_events_go_to_every_partition_and_copies_where_they_came_from() {
    let topic = unique("generated");
    let servers = settings("generate").client["bootstrap.servers"].clone();
    let arguments = [
        "generate",
        "clickstream-minute",
        "--events",
        "3000",
        "--rate",
        "unlimited",
        "--duplicates",
        "10%",
        "--topic",
        &topic,
        "--acks",
        "all",
        "--bootstrap-servers",
        &servers,
    ];
    let said = run(&arguments, b"");
    assert_eq!(said.code, 0, "{}", said.stderr);
    let log = read(&mut join(&settings(&unique("reader")), &topic, Offset(0)), 3_000);
    let mut seen: BTreeMap<Vec<u8>, (TopicPartition, usize)> = BTreeMap::new();
    for (tp, records) in &log {
        assert!(records.len() > 800, "{tp} has {}", records.len());
        for record in records {
            assert_eq!(record.key, None);
            let value = record.value.clone().expect("a value");
            let entry = seen.entry(value).or_insert_with(|| (tp.clone(), 0));
            assert_eq!(&entry.0, tp, "a copy lies in another partition");
            entry.1 += 1;
        }
    }
    assert_eq!((log.len(), seen.values().map(|(_, n)| n - 1).sum::<usize>()), (3, 300));
}

#[test]
fn live_load_keeps_its_rate() {
    let started = std::time::Instant::now();
    let said = lines("user-activity", &["--rate", "1000", "--for", "300ms"]);
    assert_eq!(said.stdout.iter().filter(|byte| **byte == b'\n').count(), 300);
    assert!(started.elapsed() >= Duration::from_millis(299), "{:?}", started.elapsed());
}

#[test]
fn what_went_wrong_is_told_by_the_exit_code() {
    let code = |arguments: &[&str]| run(&[&["generate", "user-activity"], arguments].concat(), b"").code;
    assert_eq!(code(&["--late", "120%"]), 2);
    assert_eq!(code(&["--late", "60%", "--bad", "60%", "--events", "1"]), 2);
    assert_eq!(code(&["--events", "1", "--output", "/nowhere/events.ndjson"]), 74);
    assert_eq!(code(&["--events", "1", "--kafka", "nonsense=1"]), 2);
    assert_eq!(code(&["--events", "1", "--bootstrap-servers", "127.0.0.1:1"]), 69);
}
