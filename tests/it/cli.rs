//! The command line, by the real binary: answers on stdout, problems on stderr, exit codes. Needs no server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

const FIFTY: &str = "tests/golden/fifty-views/pipeline.yaml";
const BAD_RECORDS: &str = "tests/golden/bad-records/pipeline.yaml";
const CLICKS: &str = "pipelines/clickstream-minute.yaml";
const FIVE_MISTAKES: &str = "core/src/pipeline/fixtures/five-mistakes.yaml";

/// What a command said.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {}\n{}", self.stdout, self.stderr))
    }
}

pub fn binary() -> PathBuf {
    std::env::var_os("MILLSTREAM_BIN").map_or_else(|| env!("CARGO_BIN_EXE_millstream").into(), PathBuf::from)
}

pub fn path(below_root: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below_root).display().to_string()
}

/// Runs a command with `input` on its stdin.
pub fn run(arguments: &[&str], input: &[u8]) -> Said {
    let mut child = Command::new(binary())
        .args(arguments)
        .env_remove("MILLSTREAM_HTTP")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let output: Output = thread::scope(|scope| {
        // A command that refuses its arguments reads nothing.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("the binary ends")
    });
    Said {
        code: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn try_lines(pipeline: &str, lines: &[u8], more: &[&str]) -> Said {
    let pipeline = path(pipeline);
    run(&[&["try", &pipeline, "--input", "-"], more].concat(), lines)
}

fn views(count: usize) -> String {
    let event = |i| {
        format!(
            r#"{{"event_time":"2026-01-30T01:18:10Z","user_id":"user{i}","page_url":"/products","event_type":"page_view"}}"#
        ) + "\n"
    };
    (0..count).map(event).collect()
}

#[test]
fn five_mistakes_are_five_reports_with_positions() {
    let file = path(FIVE_MISTAKES);
    for command in ["validate", "plan", "test", "status", "run"] {
        let said = run(&[command, &file], b"");
        assert_eq!(said.code, 78, "{command}: {}", said.stderr);
        for position in ["7:65", "9:25", "12:11", "13:15", "23:12"] {
            assert!(said.stderr.contains(&format!("{file}:{position}: ")), "{command}: {}", said.stderr);
        }
        assert!(said.stderr.contains("5 problems"), "{}", said.stderr);
        assert_eq!(said.stdout, "");
    }
}

#[test]
fn valid_file_is_counted() {
    let said = run(&["validate", &path(FIFTY)], b"");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(
        said.stdout.ends_with(": valid: 1 source, 2 aggregates, 1 record output, 2 tests\n"),
        "{}",
        said.stdout
    );
}

#[test]
fn wrong_usage_is_2_and_a_missing_file_78() {
    assert_eq!(run(&["validate", "--colour", &path(FIFTY)], b"").code, 2);
    assert_eq!(run(&["try", &path(FIFTY)], b"").code, 2);
    assert_eq!(run(&["try", &path(FIFTY), "--input", "-", "--partitions", "0"], b"").code, 2);
    assert_eq!(run(&["try", &path(FIFTY), "--input", "-", "--commit-time", "noon"], b"").code, 2);
    assert_eq!(run(&["try", &path(FIFTY), "--input", "-", "--input", "-"], b"").code, 2);
    let missing = run(&["validate", "/nowhere.yaml"], b"");
    assert_eq!(missing.code, 78);
    assert!(missing.stderr.starts_with("/nowhere.yaml: cannot be read"), "{}", missing.stderr);
    assert_eq!(run(&["try", &path(FIFTY), "--input", "/nowhere.ndjson"], b"").code, 74);
    assert_eq!(run(&["--help"], b"").code, 0);
}

#[test]
fn fifty_page_views_at_one_instant_are_one_row_and_five_sliding_ones_by_test() {
    let said = run(&["test", &path(FIFTY)], b"");
    assert_eq!(said.code, 0, "{}", said.stdout);
    assert_eq!(said.stdout, "ok      fifty page views\nok      clicks are no views\n2 passed, 0 failed\n");
}

#[test]
fn fifty_page_views_at_one_instant_are_one_row_and_five_sliding_ones_by_try() {
    for partitions in ["1", "3"] {
        let more =
            ["--output", "json", "--partitions", partitions, "--commit-time", "2026-02-01T00:00:00.5Z"];
        let said = try_lines(FIFTY, views(50).as_bytes(), &more);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let json = said.json();
        let expect = serde_json::json!({
            "matched": 50, "counted": 50, "too_late": 0, "partly_late": 0,
            "columns": ["window_start", "window_end", "page_url", "view_count"],
            "rows": [{
                "window_start": "2026-01-30T01:18:00.000000Z", "window_end": "2026-01-30T01:19:00.000000Z",
                "page_url": "/products", "view_count": 50, "final": false,
            }],
        });
        assert_eq!(json["aggregates"]["page_view_counts"], expect, "{partitions} partitions");
        let row = |minute: i32| {
            serde_json::json!({
                "window_start": format!("2026-01-30T01:{minute}:00.000000Z"),
                "window_end": format!("2026-01-30T01:{}:00.000000Z", minute + 5),
                "page_url": "/products", "views": 50, "users": 50, "late": 0, "final": false,
            })
        };
        let sliding = &json["aggregates"]["page_views_sliding"];
        assert_eq!(sliding["rows"], (14..=18).map(row).collect::<Value>(), "{partitions} partitions");
        assert_eq!((&sliding["matched"], &sliding["partly_late"]), (&50.into(), &0.into()));
        assert_eq!(json["verdicts"].as_array().map(Vec::len), partitions.parse().ok());
        let records = json["records"].as_array().expect("a list");
        assert_eq!(records.len(), 50);
        let stamped = |record: &Value| record["value"]["processing_time"] == "2026-02-01T00:00:00.500000Z";
        assert!(records.iter().all(stamped), "{records:?}");
    }
}

#[test]
fn table_shows_the_row() {
    let said = try_lines(FIFTY, views(50).as_bytes(), &[]);
    let row = "2026-01-30T01:18:00.000000Z  2026-01-30T01:19:00.000000Z  /products          50  no";
    assert!(said.stdout.contains(row), "{}", said.stdout);
}

#[test]
fn failing_test_shows_the_difference() {
    let text = fs::read_to_string(path(FIFTY)).expect("the file is there");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pipeline.yaml");
    fs::write(&file, text.replace("view_count: 50", "view_count: 51").replace("rows: 0", "rows: 2"))
        .expect("written");
    let said = run(&["test", &file.display().to_string()], b"");
    assert_eq!(said.code, 1, "{}", said.stderr);
    for line in [
        "FAILED  fifty page views\n  page_view_counts: 1 expected row not found, 1 row not expected\n",
        "    - window_start=2026-01-30T01:18:00.000000Z  page_url=\"/products\"  view_count=51\n",
        "    + window_start=2026-01-30T01:18:00.000000Z  window_end=2026-01-30T01:19:00.000000Z  page_url=\"/products\"  view_count=50\n",
        "  page_view_counts: expected 2 rows, found 0\n",
        "0 passed, 2 failed\n",
    ] {
        assert!(said.stdout.contains(line), "{line}\nnot in\n{}", said.stdout);
    }
}

#[test]
fn rows_of_a_record_table_can_be_expected() {
    let text = fs::read_to_string(path(CLICKS)).expect("the file is there");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pipeline.yaml");
    let said = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        fs::write(&file, text.replace(from, to)).expect("written");
        run(&["test", &file.display().to_string()], b"")
    };
    assert_eq!(said("", "").code, 0, "the file as it is");
    let wrong = said("event_id: a1, ip: 10.0.0.1 }", "event_id: a1, ip: 10.0.0.2 }");
    assert_eq!(wrong.code, 1, "{}", wrong.stderr);
    for line in [
        "  raw: 1 expected row not found, 1 row not expected\n",
        "    - event_id=\"a1\"  ip=\"10.0.0.2\"\n",
        "    + event_id=\"a1\"  user_id=\"user1\"  event_ts=2026-01-30T01:18:10.000000Z  url=\"/products\"",
    ] {
        assert!(wrong.stdout.contains(line), "{line}\nnot in\n{}", wrong.stdout);
    }
    assert!(said("raw: { rows: 2 }", "raw: { rows: 3 }").stdout.contains("raw: expected 3 rows, found 2\n"));
    let unknown = said("raw: { rows: 2 }", "row: { rows: 2 }");
    assert_eq!(unknown.code, 78);
    assert!(unknown.stderr.contains("no aggregate or record table `row`; did you mean `raw`?"));
}

#[test]
fn file_without_tests_says_so() {
    let said = run(&["test", &path(BAD_RECORDS)], b"");
    assert_eq!(said.code, 0);
    assert!(said.stdout.contains("has no tests"), "{}", said.stdout);
}

#[test]
fn dead_records_fail_only_where_that_is_asked() {
    let lines = [views(1).as_bytes(), b"\nnonsense\n"].concat();
    let said = try_lines(FIFTY, &lines, &["--output", "json"]);
    assert_eq!(said.code, 0);
    let verdicts = &said.json()["verdicts"][0];
    let counts = ["read", "accepted", "duplicate", "dead"].map(|name| verdicts[name].as_i64());
    assert_eq!(counts, [Some(3), Some(1), Some(0), Some(2)]);
    assert_eq!(said.json()["dead_letters"][1]["offset"], 2);
    assert_eq!(try_lines(FIFTY, &lines, &["--fail-on-dead"]).code, 65);
    assert_eq!(try_lines(FIFTY, views(1).as_bytes(), &["--fail-on-dead"]).code, 0);
}

#[test]
fn schema_is_a_json_schema() {
    let said = run(&["schema"], b"");
    assert_eq!(said.code, 0);
    assert!(said.json()["properties"]["sources"].is_object(), "{}", said.stdout);
}

#[test]
fn plan_tells_tables_topics_and_warnings() {
    let json = run(&["plan", &path(BAD_RECORDS), "--output", "json"], b"").json();
    assert_eq!(json["application"], "bad-records");
    assert_eq!(json["semantic_hash"].as_str().map(str::len), Some(16));
    assert_eq!(json["dead_letter_table"], "millstream.dead_letters");
    let source = &json["sources"][0];
    assert_eq!(
        source["fields"][2],
        serde_json::json!({ "name": "ms", "type": "timestamp_ms", "required": false })
    );
    assert_eq!(
        (&source["dead_letter_topic"], &source["late_topic"]),
        (&"events.dead-letters".into(), &"events.late".into())
    );
    let tenths = &json["aggregates"][1];
    assert_eq!(tenths["window"], "tumble 1m");
    let column = serde_json::json!({ "name": "tenths", "sql_type": "numeric", "nullable": true, "is": "sum((\"n\" * 10))" });
    assert_eq!(tenths["columns"][2], column);
    assert!(json["warnings"][0].as_str().is_some_and(|w| w.contains("keyed_by")), "{}", json["warnings"]);

    let said = run(&["plan", &path(FIFTY)], b"");
    for text in
        ["created with 3 partitions if missing", "view_count    bigint       not null", "enriched_activity"]
    {
        assert!(said.stdout.contains(text), "{text} is not in\n{}", said.stdout);
    }
    assert!(!said.stdout.contains("warning"), "{}", said.stdout);
}

#[test]
fn reader_that_goes_away_is_no_fault() {
    let mut child = Command::new(binary())
        .args(["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
    assert_eq!((child.wait().expect("it ends").code(), &*stderr), (Some(0), ""));
}

/// Where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

/// Answers one request with `body`.
fn instance(status: &'static str, body: &'static str) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound").to_string();
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let mut request = [0; 1024];
        let read = stream.read(&mut request).expect("a request");
        assert!(request[..read].starts_with(b"GET /readyz "));
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .expect("answered");
    });
    (addr, answering)
}

#[test]
fn healthcheck_passes_on_what_the_instance_says() {
    let ready = r#"{"ready":true,"waiting_for":[],"since":"2026-01-30T01:18:10.000000Z","tasks":[]}"#;
    let waits = r#"{"ready":false,"waiting_for":["kafka: no broker answers"],"since":"2026-01-30T01:18:10.000000Z","tasks":[]}"#;
    for (status, body, code, text) in [
        ("200 OK", ready, 0, "ready\n"),
        ("503 Service Unavailable", waits, 1, "not ready: kafka: no broker answers\n"),
        ("200 OK", "hello", 69, ""),
    ] {
        let (addr, answering) = instance(status, body);
        let said = run(&["healthcheck", "--http", &addr], b"");
        answering.join().expect("answered");
        assert_eq!((said.code, &*said.stdout), (code, text), "{}", said.stderr);
    }
    assert_eq!(run(&["healthcheck", "--http", NOBODY], b"").code, 69);
}

#[test]
fn status_says_which_neighbour_does_not_answer() {
    let text = fs::read_to_string(path(FIFTY)).expect("the file is there");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pipeline.yaml");
    let text = text
        .replace("localhost:29092", NOBODY)
        .replace("postgres://localhost/none", &format!("postgres://nobody@{NOBODY}/none"));
    fs::write(&file, text).expect("written");
    let arguments = ["status", &file.display().to_string(), "--http", NOBODY, "--output", "json"];
    let said = run(&arguments, b"");
    assert_eq!(said.code, 69, "{}", said.stderr);
    let json = said.json();
    for neighbour in ["kafka", "postgres"] {
        assert_eq!(json[neighbour]["answers"], false, "{neighbour}");
        assert!(json[neighbour]["error"].is_string(), "{neighbour}");
    }
    assert!(json["instance"].is_null());
    assert_eq!(json["tasks"], serde_json::json!([]));
}
