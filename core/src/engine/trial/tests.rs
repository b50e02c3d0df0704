use super::*;
use crate::pipeline::load;

const FILE: &str = r#"
version: 1
name: trial
connections:
  kafka: { bootstrap.servers: "localhost:9092" }
  postgres: { url: "postgres://localhost/none" }
sources:
  activity:
    topic: activity
    fields: { at: timestamp_s!, page: text!, user: text, spent: double, n: bigint }
    event_time: at
    watermark: { delay: 10s }
    keyed_by: user
    checks:
      - { name: path, expect: "page like '/%'", on_fail: dead_letter }
      - { name: cheap, expect: spent < 10, on_fail: count }
late: { allowed_lateness: 1m }
aggregates:
  views:
    from: activity
    window: { tumble: 1m }
    by: [page]
    select: { views: count(*), total: sum(n), mean: avg(n), first: min(at) }
    to: { table: views, key: [page, window_start] }
  daily:
    from: activity
    where: n > 0
    window: { tumble: 1d }
    select: { final: count(*) }
    to: { table: daily, key: [window_start] }
records:
  enriched:
    from: activity
    set: { seen: commit_time(), page: upper(page) }
    to: { topic: enriched, key: page }
"#;

const OPTIONS: TrialOptions = TrialOptions { partitions: 1, commit_time: EventTime(1_769_735_890_123_456) };

fn plan() -> Plan {
    load(FILE, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn activity(lines: &[&str]) -> Vec<(SourceId, Vec<Vec<u8>>)> {
    vec![(SourceId(0), lines.iter().map(|line| line.as_bytes().to_vec()).collect())]
}

fn run(lines: &[&str], partitions: i32) -> TrialReport {
    run_trial(&plan(), &activity(lines), TrialOptions { partitions, ..OPTIONS })
        .expect("memory does not fail")
}

fn view(at: i64, page: &str) -> String {
    format!(r#"{{"at":{at},"page":"{page}","n":{at}}}"#)
}

/// A small generator with a seed (Knuth's MMIX): no two runs differ.
fn mixed_lines(count: usize) -> Vec<String> {
    let mut state: u64 = 42;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..count)
        .map(|i| match next(20) {
            0 => String::new(),
            1 => r#"{"at":1,"page":"none"}"#.to_owned(),
            _ => {
                let at = (i as u64) * 3 + next(200);
                let (page, user) = (next(4), next(9));
                format!(
                    r#"{{"at":{at},"page":"/{page}","user":"u{user}","spent":{},"n":{}}}"#,
                    next(12),
                    next(3)
                )
            }
        })
        .collect()
}

#[test]
fn sealing_often_or_once_gives_the_same_report() {
    let lines = mixed_lines(400);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let plan = plan();
    for partitions in [1, 3] {
        let options = TrialOptions { partitions, ..OPTIONS };
        let at = |every: usize| {
            let report =
                run_in_epochs(&plan, &activity(&lines), options, every).expect("memory does not fail");
            serde_json::to_string(&report).expect("JSON")
        };
        let once = at(usize::MAX);
        assert!(once.contains("late_by_ms") && once.contains("CHECK_FAILED:path"), "the lines do too little");
        for every in [1, 2, 7, 100] {
            assert_eq!(at(every), once, "{partitions} partitions, {every} records an epoch");
        }
    }
}

#[test]
fn partitions_change_no_count_but_those_of_lateness() {
    let lines: Vec<String> = (0..300).map(|i| view(1_000_000 + i / 10, &format!("/{}", i % 3))).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let rows = |partitions: i32| run(&lines, partitions).aggregates.remove(0).table.rows;
    let values = |rows: Vec<TrialRow>| rows.into_iter().map(|row| row.values).collect::<Vec<_>>();
    assert_eq!(values(rows(1)), values(rows(5)));
}

#[test]
fn rows_are_sorted_by_the_key_of_the_table() {
    let report = run(&[&view(125, "/b"), &view(65, "/b"), &view(130, "/a")], 1);
    let rows: Vec<_> = report.aggregates[0].table.rows.iter().map(|row| &row.values[..3]).collect();
    let row = |start: i64, page: &'static str| {
        let at = |s: i64| Value::Timestamp(EventTime(s * 1_000_000));
        [at(start), at(start + 60), Value::Text(page.into())]
    };
    assert_eq!(rows, [row(120, "/a"), row(60, "/b"), row(120, "/b")]);
}

#[test]
fn row_is_final_once_the_watermark_has_passed_its_end_and_the_lateness() {
    // Windows [0, 60) and [60, 120), lateness 60 s, delay 10 s: the first is final at 130 s.
    let finals = |last: i64| {
        let report = run(&[&view(5, "/a"), &view(65, "/a"), &view(last, "/b")], 1);
        report.aggregates[0].table.rows.iter().map(|row| row.is_final).collect::<Vec<_>>()
    };
    assert_eq!(finals(129), [false, false, false]);
    assert_eq!(finals(130), [true, false, false]);
    assert_eq!(finals(190), [true, true, false]);
}

#[test]
fn nothing_is_final_while_a_partition_is_empty() {
    let lines = [view(5, "/a"), view(500, "/a")];
    let report = run(&[&lines[0], &lines[1]], 2);
    assert_eq!(report.verdicts.iter().map(|v| v.read).collect::<Vec<_>>(), [2, 0]);
    assert!(report.aggregates[0].table.rows.iter().all(|row| !row.is_final));
}

#[test]
fn lines_go_where_their_key_does() {
    // Among 12, murmur2 as Java's client has it puts "a" into 4, "ab" into 2, "21" into 0, "abc" into 3.
    let plan = plan();
    let partition = |line: &str| partition_of(&plan.sources[0], line.as_bytes(), 12).0;
    assert_eq!(partition(r#"{"user":"a"}"#), 4);
    assert_eq!(partition(r#"{"at":"no time","user":"\u0061b"}"#), 2);
    assert_eq!(partition(r#"{"user":"a","user":"abc"}"#), 3);
    assert_eq!(partition(r#"{"user":21}"#), 0);
    for without in ["", "{", r#"{"user":null}"#, r#"{"page":"/"}"#, r#"{"user":["a"]}"#, "\u{feff}{}"] {
        assert_eq!(partition(without), 0, "{without}");
    }
}

#[test]
fn offset_is_the_number_of_the_line_in_every_partition() {
    let lines = [r#"{"user":"a"}"#, "", r#"{"user":"abc"}"#, r#"{"user":"a"}"#];
    let dead: Vec<_> =
        run(&lines, 12).dead_letters.iter().map(|d| (d.partition.0, d.offset.0, d.reason.clone())).collect();
    let missing = || "MISSING_FIELD".to_owned();
    assert_eq!(
        dead,
        [(0, 1, "NOT_JSON".to_owned()), (3, 2, missing()), (4, 0, missing()), (4, 3, missing())]
    );
}

#[test]
fn too_late_record_is_listed_and_not_counted() {
    // The watermark stands at 990 s; a window's lateness ends 60 s after it.
    let report = run(&[&view(1_000, "/a"), &view(899, "/a"), &view(900, "/a")], 1);
    let views = &report.aggregates[0];
    assert_eq!((views.counts.matched, views.counts.counted, views.counts.too_late), (3, 2, 1));
    let late = &report.late[0];
    assert_eq!((late.offset, &*late.aggregate, late.late_by_ms), (Offset(1), "views", 90_000));
    assert_eq!(late.watermark, "1970-01-01T00:16:30.000000Z");
    assert_eq!(late.value, TrialValue::Text(view(899, "/a")));
    assert_eq!(report.verdicts[0].accepted, 3);
}

#[test]
fn report_has_its_json() {
    let lines = [r#"{"at":90,"page":"/x","user":"u","spent":12,"n":9223372036854775807,"more":[1.50]}"#];
    let twice = activity(&[lines[0], lines[0], "{\"at\":1\u{0}"]);
    let report = run_trial(&plan(), &twice, OPTIONS).expect("memory does not fail");
    let json = serde_json::to_string_pretty(&report).expect("JSON");
    let expect = include_str!("report.json");
    assert_eq!(json, expect.trim_end(), "got:\n{json}");
}

#[test]
fn bytes_that_are_no_text_come_as_hex() {
    let input = vec![(SourceId(0), vec![b"\xff{".to_vec()])];
    let report = run_trial(&plan(), &input, OPTIONS).expect("memory does not fail");
    let json = serde_json::to_value(&report.dead_letters[0]).expect("JSON");
    assert_eq!(
        (&json["reason"], &json["value_hex"], &json["value_bytes"]),
        (&"NOT_UTF8".into(), &"ff7b".into(), &2.into())
    );
}

const VISITS: &str = r#"
version: 1
name: visits
connections: { kafka: { bootstrap.servers: "localhost:9092" } }
sources:
  activity:
    topic: activity
    fields: { at: timestamp_s!, user: text! }
    event_time: at
    watermark: { delay: 10s }
    keyed_by: user
late: { allowed_lateness: 1m }
aggregates:
  visits:
    from: activity
    window: { session: 30s }
    by: [user]
    select: { n: count(*), late: late_rows() }
    to: { table: visits, key: [user, session_start_time] }
"#;

fn visits(events: &[(&str, i64)], partitions: i32, every: usize) -> TrialReport {
    let plan = load(VISITS, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let lines = events.iter().map(|(user, at)| format!(r#"{{"at":{at},"user":"{user}"}}"#).into_bytes());
    let options = TrialOptions { partitions, ..OPTIONS };
    run_in_epochs(&plan, &[(SourceId(0), lines.collect())], options, every).expect("memory does not fail")
}

#[test]
fn sessions_are_merged_over_epochs_and_sorted_by_their_key() {
    let events = [("b", 1_000), ("a", 1_031), ("a", 1_000), ("b", 1_031), ("a", 1_030), ("c", 1_005)];
    for every in [1, 2, usize::MAX] {
        let report = visits(&events, 1, every);
        let at = |s: i64| Value::Timestamp(EventTime(s * 1_000_000));
        let row = |user: &'static str, start: i64, end: i64, n: i64| {
            vec![
                Value::Text(user.into()),
                at(start),
                at(end),
                Value::Bigint(end - start),
                Value::Bigint(n),
                Value::Bigint(0),
            ]
        };
        let expected = [
            row("a", 1_000, 1_031, 3),
            row("b", 1_000, 1_000, 1),
            row("b", 1_031, 1_031, 1),
            row("c", 1_005, 1_005, 1),
        ];
        let found: Vec<_> = report.aggregates[0].table.rows.iter().map(|row| row.values.clone()).collect();
        assert_eq!(found, expected, "{every} records an epoch");
    }
}

#[test]
fn session_is_final_once_no_record_in_time_can_reach_it() {
    // Ends at 1,000; two gaps of 30 s, a minute of lateness and 10 s of delay later it is final.
    let finals = |last: i64| {
        let report = visits(&[("a", 1_000), ("b", last)], 1, usize::MAX);
        report.aggregates[0].table.rows.iter().map(|row| row.is_final).collect::<Vec<_>>()
    };
    assert_eq!(finals(1_129), [false, false]);
    assert_eq!(finals(1_130), [true, false]);
}

#[test]
fn late_by_is_told_from_the_time_at_which_a_session_would_have_ended() {
    // The watermark stands at 1,090: records up to 1,060 are late, up to 1,000 too late.
    let report =
        visits(&[("a", 1_100), ("b", 1_000), ("b", 1_001), ("b", 1_060), ("b", 1_061)], 1, usize::MAX);
    let found = &report.aggregates[0];
    assert_eq!((found.counts.matched, found.counts.counted, found.counts.too_late), (5, 4, 1));
    let late = &report.late[0];
    assert_eq!((late.offset, &*late.aggregate, late.late_by_ms), (Offset(1), "visits", 60_000));
    let rows: Vec<_> = found.table.rows.iter().map(|row| (&row.values[4], &row.values[5])).collect();
    let pair = |n: &'static Value<'_>, late: &'static Value<'_>| (n, late);
    assert_eq!(
        rows,
        [
            pair(&Value::Bigint(1), &Value::Bigint(0)),
            pair(&Value::Bigint(1), &Value::Bigint(1)),
            pair(&Value::Bigint(2), &Value::Bigint(1)),
        ]
    );
}

const VALUES: &str = r#"
version: 1
name: values
connections: { kafka: { bootstrap.servers: "localhost:9092" } }
sources:
  activity:
    topic: activity
    fields: { at: timestamp_s!, page: text!, user: text, spent: double, n: bigint }
    event_time: at
    watermark: { delay: 1h }
    keyed_by: user
aggregates:
  seen:
    from: activity
    window: { slide: 20s, size: 50s }
    select:
      users: 'count(distinct "user")'
      middle: approx_percentile(n, 0.5)
      most: "approx_percentile(spent, 0.95) filter (where n > 0)"
    to: { table: seen, key: [window_start] }
records:
  all: { from: activity, to: { table: everything } }
  pages: { from: activity, set: { kind: "lower(page)", seen: commit_time() }, to: { table: pages, key: [page] } }
"#;

/// By sorting: the value of rank floor(q * (n - 1)).
fn percentile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((q * (sorted.len().max(1) - 1) as f64).floor() as usize).copied()
}

fn is_about(found: &Value<'_>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Value::Null, None) => true,
        (Value::Double(found), Some(expected)) => (found - expected).abs() <= 0.01 * expected.abs(),
        _ => false,
    }
}

#[test]
fn exact_counts_and_percentiles_are_those_of_all_values_in_any_manner() {
    let plan = load(VALUES, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let lines = mixed_lines(300);
    let events: Vec<serde_json::Value> =
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut windows: BTreeMap<i64, Vec<&serde_json::Value>> = BTreeMap::new();
    for event in &events {
        let at = event["at"].as_i64().expect("a number");
        for start in (-60..=at).filter(|start| start % 20 == 0 && at - 50 < *start) {
            windows.entry(start).or_default().push(event);
        }
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for (partitions, every) in [(1, usize::MAX), (1, 1), (3, 7), (4, 100)] {
        let options = TrialOptions { partitions, ..OPTIONS };
        let report = run_in_epochs(&plan, &activity(&lines), options, every).expect("memory does not fail");
        let rows = &report.aggregates[0].table.rows;
        assert_eq!(rows.len(), windows.len());
        for (row, (start, events)) in rows.iter().zip(&windows) {
            assert_eq!(row.values[0], Value::Timestamp(EventTime(start * 1_000_000)));
            let users: HashSet<&str> = events.iter().filter_map(|e| e["user"].as_str()).collect();
            assert_eq!(row.values[2], Value::Bigint(users.len() as i64), "window {start}");
            let numbers: Vec<f64> = events.iter().filter_map(|e| e["n"].as_f64()).collect();
            assert!(is_about(&row.values[3], percentile(&numbers, 0.5)), "window {start}: {row:?}");
            let paid = events.iter().filter(|e| e["n"].as_i64() > Some(0));
            let spent: Vec<f64> = paid.filter_map(|e| e["spent"].as_f64()).collect();
            assert!(is_about(&row.values[4], percentile(&spent, 0.95)), "window {start}: {row:?}");
        }
    }
}

#[test]
fn tables_of_records_have_every_record_or_the_first_of_each_key() {
    let plan = load(VALUES, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let lines = [
        r#"{"at":7,"page":"/A","user":"u","spent":1,"n":2}"#,
        r#"{"at":8,"page":"/B","n":1,"more":true}"#,
        "{}",
        r#"{"at":7,"page":"/A","user":"second"}"#,
    ];
    let report = run_trial(&plan, &activity(&lines), OPTIONS).expect("memory does not fail");
    let of = |output: &str| -> Vec<&str> {
        report.records.iter().filter(|r| r.output == output).map(|r| r.value.get()).collect()
    };
    let a = r#"{"at":"1970-01-01T00:00:07.000000Z","page":"/A","user":"u","spent":1.0,"n":2"#;
    let b = r#"{"at":"1970-01-01T00:00:08.000000Z","page":"/B","user":null,"spent":null,"n":1"#;
    let second = r#"{"at":"1970-01-01T00:00:07.000000Z","page":"/A","user":"second","spent":null,"n":null}"#;
    // One after the other, as they stand in the log.
    assert_eq!(of("all"), [format!("{a}}}"), format!("{b}}}"), second.to_owned()]);
    let seen = "2026-01-30T01:18:10.123456Z";
    assert_eq!(
        of("pages"),
        [format!(r#"{a},"kind":"/a","seen":"{seen}"}}"#), format!(r#"{b},"kind":"/b","seen":"{seen}"}}"#)]
    );
    assert!(report.records.iter().all(|r| r.topic.is_none() && r.table.is_some()));
}
