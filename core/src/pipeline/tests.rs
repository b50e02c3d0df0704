use proptest::prelude::*;

use super::plan::*;
use super::{canonical, load};
use crate::model::{DataType, EventTime, Span, Value};

const EXAMPLE: &str = include_str!("fixtures/web-analytics.yaml");
const ENRICHED: &str = include_str!("../../../pipelines/enriched-activity.yaml");
const EVERY_KEY: &str = include_str!("fixtures/every-key.yaml");
const FIVE_MISTAKES: &str = include_str!("fixtures/five-mistakes.yaml");
const PROBLEMS: &str = include_str!("fixtures/problems.txt");
const SESSIONS: &str = include_str!("../../../pipelines/user-sessions.yaml");
const SESSION_PROBLEMS: &str = include_str!("fixtures/session-problems.txt");

fn report(text: &str) -> String {
    match load(text, &|_| None) {
        Ok(_) => "no problems".to_owned(),
        Err(problems) => problems.iter().map(|p| format!("{p}\n")).collect(),
    }
}

fn plan(text: &str) -> Plan {
    load(text, &|_| None).unwrap_or_else(|_| panic!("{}", report(text)))
}

/// Replaces one piece of a file and expects these problems: path, message and hint.
fn check(file: &str, from: &str, to: &str, expected: &[&str]) {
    assert!(file.contains(from), "nothing to replace: {from}");
    let text = file.replacen(from, to, 1);
    let found: Vec<String> = match load(&text, &|_| None) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .iter()
            .map(|p| p.to_string().splitn(3, ':').nth(2).unwrap_or_default().trim_start().to_owned())
            .collect(),
    };
    assert_eq!(found, expected, "{from} -> {to}");
}

#[test]
fn the_whole_language_gives_one_problem_for_each_part_that_is_not_supported() {
    insta::assert_snapshot!(report(EXAMPLE), @r"
    7:3: connections.lake: `lake` is not supported yet; outputs are PostgreSQL tables and Kafka topics
    8:3: connections.checkpoints: `checkpoints` is not supported yet; state is rebuilt from the input topics
    43:76: records.lake.to.parquet: `parquet` is not supported yet; records go to a topic or a table
    ");
}

#[test]
fn five_mistakes_are_five_problems_at_their_places() {
    insta::assert_snapshot!(report(FIVE_MISTAKES), @r"
    7:65: sources.activity.fields.page_url: unknown type `txt`; did you mean `text`?
    9:25: sources.activity.watermark.delay: expected a duration, found the text `2 minutes`; a duration is a whole number and one of ms, s, m, h, d, like 90s or 1h
    12:11: aggregates.page_view_counts.from: unknown source `activty`; did you mean `activity`?
    13:15: aggregates.page_view_counts.window.tumbel: unknown key `tumbel`; did you mean `tumble`?
    23:12: records.enriched.set.who: unknown field device; the fields are event_time, user_id, page_url, event_type
    ");
}

#[test]
fn expressions_have_their_problems_where_they_stand() {
    let text = ENRICHED
        .replace("where: event_type = ", "where: user_id <> '' and event_typ = ")
        .replace("by: [page_url]", "by: [{ page_url: 'coalesce(page, ''x'')' }]")
        .replace("count(*) }", "\"count(*) filter (where user_id > 1)\" }");
    insta::assert_snapshot!(report(&text), @r"
    23:30: aggregates.page_view_counts.where: unknown field event_typ; did you mean event_type?
    25:32: aggregates.page_view_counts.by[0].page_url: unknown field page; the fields are event_time, user_id, page_url, event_type
    26:51: aggregates.page_view_counts.select.view_count: operator > does not take text and bigint; cast one side, as in x::bigint
    ");
}

#[test]
fn outputs_of_a_source_set_no_more_fields_than_a_decoder_watches() {
    let output = |name: &str, from: usize| {
        let set: Vec<String> = (from..from + 40).map(|i| format!("f{i}: commit_time()")).collect();
        format!("  {name}: {{ from: activity, set: {{ {} }}, to: {{ topic: {name} }} }}\n", set.join(", "))
    };
    let text = |second: usize| {
        let outputs = format!("records:\n{}{}", output("one", 0), output("two", second));
        ENRICHED.replacen("records:\n", &outputs, 1)
    };
    plan(&text(0));
    let problem = "records.two: sets more than 64 different fields together with the outputs above";
    assert!(report(&text(40)).contains(problem), "{}", report(&text(40)));
}

#[test]
fn enriched_activity_is_as_typed() {
    let plan = plan(ENRICHED);
    assert_eq!(&*plan.application, "enriched-activity");
    assert_eq!(plan.commit_interval, Span::from_millis(100));
    assert_eq!(plan.connections.kafka["bootstrap.servers"], "localhost:29092");
    assert_eq!(plan.connections.postgres_url, None);
    let source = &plan.sources[0];
    assert_eq!((&*source.topic, source.create_partitions), ("user_activity", Some(3)));
    assert_eq!(source.fields.len(), 4);
    assert!(source.fields.iter().all(|f| f.required && f.encoding == Encoding::Plain));
    assert_eq!(source.event_time, FieldId(0));
    assert_eq!(source.watermark.delay, Span::from_secs(120));
    assert_eq!(source.max_record_bytes, 1 << 20);
    assert_eq!(source.dead_letter_topic.as_deref(), Some("activity.dead-letters"));
    assert_eq!(source.late_topic.as_deref(), Some("activity.late"));
    assert_eq!(plan.dead_letter_table.as_deref(), Some("dead_letters"));
    let aggregate = &plan.aggregates[0];
    assert_eq!(aggregate.window, Window::Tumbling { size: Span::from_secs(60) });
    assert_eq!(aggregate.allowed_lateness, Span::from_secs(3_600));
    let columns: Vec<&str> = aggregate.table.columns.iter().map(|c| &*c.name).collect();
    assert_eq!(columns, ["window_start", "window_end", "page_url", "view_count"]);
    assert!(matches!(plan.records[0].set[0], (_, SetValue::CommitTime)));
    let active = &plan.aggregates[1];
    assert_eq!(active.window, Window::Sliding { size: Span::from_secs(300), slide: Span::from_secs(60) });
    assert!(active.table.columns.iter().all(|c| !c.nullable));
    // A table of these four that is there already may stay.
    let sessions = &plan.aggregates[2];
    assert_eq!(sessions.window, Window::Session { gap: Span::from_secs(1_800), max_duration: None });
    let columns: Vec<&str> = sessions.table.columns.iter().map(|c| &*c.name).collect();
    let own = ["user_id", "session_start_time", "session_end_time", "session_duration_seconds"];
    assert_eq!((&*sessions.table.name, &columns[..]), ("user_sessions", &own[..]));
    assert_eq!(plan.tests.len(), 5);
    let (source, events) = &plan.tests[0].given[0];
    assert_eq!((*source, events.len()), (SourceId(0), 50));
    assert_eq!(
        String::from_utf8_lossy(&events[49]),
        r#"{"event_time":"2026-01-30T01:18:10Z","user_id":"user49","page_url":"/products","event_type":"page_view"}"#
    );
}

#[test]
fn every_key_is_understood() {
    let plan = plan(EVERY_KEY);
    assert_eq!(plan.connections.kafka["fetch.wait.max.ms"], "100");
    let source = &plan.sources[0];
    assert_eq!(source.create_partitions, Some(3));
    assert_eq!(source.start, Start::At(EventTime(1_769_731_200_000_000)));
    assert_eq!(plan.sources[1].start, Start::Latest);
    assert_eq!(source.fields[0].encoding, Encoding::Millis);
    assert_eq!(source.checks[1].on_fail, OnFail::Count);
    assert_eq!(source.max_record_bytes, 512 << 10);
    assert_eq!(plan.sources[1].dead_letter_topic.as_deref(), Some("dead-letters"));
    let aggregate = &plan.aggregates[0];
    assert_eq!(aggregate.allowed_lateness, Span::ZERO);
    let types: Vec<DataType> = aggregate.select.iter().map(|s| s.data_type).collect();
    use DataType::{Bigint, Double, Numeric, Timestamp};
    assert_eq!(types, [Bigint, Bigint, Numeric, Double, Bigint, Bigint, Double, Timestamp, Double]);
    assert!(aggregate.select[8].filter.is_some());
    let half = Quantile::new(0.5).expect("from 0 to 1");
    let functions = [aggregate.select[5].function, aggregate.select[6].function];
    assert_eq!(functions, [Function::CountDistinct, Function::ApproxPercentile(half)]);
    let dedup = source.dedup.as_ref().expect("it has one");
    assert_eq!((dedup.key.len(), dedup.within), (2, Span::from_secs(36 * 3_600)));
    let rows = &plan.record_tables[0];
    let columns: Vec<&str> = rows.table.columns.iter().map(|c| &*c.name).collect();
    assert_eq!((&*rows.table.name, columns), ("order_rows", vec!["at", "order", "kept_at", "half"]));
    assert_eq!(rows.table.key, ["order".into()]);
    assert!(matches!(rows.values[2], SetValue::CommitTime));
    assert_eq!(&*plan.aggregates[1].by[0].name, "order");
    assert_eq!(plan.records[0].key, Some(FieldId(1)));
    assert_eq!(plan.records[0].timestamp, OutputTimestamp::Input);
    let event = String::from_utf8_lossy(&plan.tests[0].given[0].1[1]).into_owned();
    assert_eq!(
        event,
        r#"{"at":1769735890000,"user_id":"user1","pageUrl":"/a","price":1.50,"amount":9007199254740993,"paid":true,"extra":{"tags":["a","{b}",null],"n":16,"q\"":"tab\t"}}"#
    );
    let ExpectedRows::Rows(rows) = &plan.tests[0].expect[0].rows else { panic!("rows") };
    assert_eq!(rows[0][2].1, Value::Numeric(9_007_199_254_740_993));
    assert_eq!(rows[0][4].1, Value::Null);
    assert_eq!(rows[1][1].1, Value::Timestamp(EventTime(1_769_735_880_000_000)));
    assert_eq!(rows[1][2].1, Value::Double(9_007_199_254_740_992.0));
    let expectation = &plan.tests[0].expect[2];
    assert_eq!(expectation.table, TableId::Records(0));
    let ExpectedRows::Rows(rows) = &expectation.rows else { panic!("rows") };
    assert_eq!(rows[0][1], ("kept_at".into(), Value::Timestamp(EventTime(0))));
}

#[test]
fn one_mistake_is_one_problem() {
    for (file, problems) in [(ENRICHED, PROBLEMS), (SESSIONS, SESSION_PROBLEMS)] {
        let mut cases = 0;
        let (mut from, mut to) = (String::new(), String::new());
        for line in problems.lines() {
            let rest = || line[2..].replace("\\n", "\n");
            match line.get(..2) {
                Some("- ") => from = rest(),
                Some("+ ") => to = rest(),
                Some("= ") => {
                    check(file, &from, &to, &[&line[2..]]);
                    cases += 1;
                }
                _ => {}
            }
        }
        assert_eq!(cases, problems.lines().filter(|line| line.starts_with("- ")).count());
    }
}

#[test]
fn sessions_are_as_typed() {
    let file = plan(SESSIONS);
    let sessions = &file.aggregates[0];
    assert_eq!(sessions.window, Window::Session { gap: Span::from_secs(1_800), max_duration: None });
    let columns: Vec<&str> = sessions.table.columns.iter().map(|c| &*c.name).collect();
    let own = ["user_id", "session_start_time", "session_end_time", "session_duration_seconds"];
    assert_eq!(columns, [&own[..], &["events", "page_views", "pages"]].concat());
    assert!(sessions.table.columns.iter().all(|c| !c.nullable));
    let latest = sessions.table.latest.as_ref().expect("a view");
    assert_eq!((&*latest.name, &*latest.by), ("user_sessions_latest", &["user_id".into()][..]));
    let text = canonical::canonical(&file);
    assert!(
        text.contains("aggregate \"user_sessions\" \"activity\" session 1800000000 null 3600000000 null"),
        "{text}"
    );
    assert!(
        text.contains("table \"user_sessions\" \"user_id\" \"session_start_time\"\nlatest \"user_id\"\n"),
        "{text}"
    );
    let changed = |from: &str, to: &str| plan(&SESSIONS.replacen(from, to, 1)).hash;
    for (from, to) in [
        ("session: 30m", "session: 29m"),
        ("session: 30m", "session: 30m, max_duration: 4h"),
        (", latest: [user_id]", ""),
    ] {
        assert_ne!(changed(from, to), file.hash, "{to}");
    }
}

#[test]
fn sessions_can_do_without_results_and_may_have_a_finer_key() {
    let from = SESSIONS.find("    select:").expect("columns");
    let to = SESSIONS.find("    to: { table: user_sessions").expect("a table");
    let bare = format!("{}{}", &SESSIONS[..from], &SESSIONS[to..]);
    let bare = &bare[..bare.find("tests:").expect("tests")];
    assert_eq!(plan(bare).aggregates[0].table.columns.len(), 4);
    let finer = bare.replace("by: [user_id]", "by: [{ who: user_id, first: 'substr(page_url, 1, 2)' }]");
    let finer = finer.replace(
        "key: [user_id, session_start_time], latest: [user_id]",
        "key: [first, session_start_time, who], latest: [who]",
    );
    assert_eq!(plan(&finer).aggregates[0].table.columns.len(), 5);
}

#[test]
fn topics_and_tables_have_one_owner() {
    check(
        EVERY_KEY,
        "topic: orders",
        "topic: user_activity",
        &[
            "sources.orders.topic: the topic `user_activity` is read by the source `activity` already; choose another topic",
        ],
    );
    check(
        EVERY_KEY,
        "table: orders_per_day",
        "table: spending_per_minute",
        &["aggregates.orders_per_day.to.table: the table `spending_per_minute` occurs twice"],
    );
    check(
        EVERY_KEY,
        "table: order_rows",
        "table: orders_per_day",
        &["records.rows.to.table: the table `orders_per_day` occurs twice"],
    );
}

#[test]
fn tables_of_records_have_columns_and_a_key_that_postgresql_takes() {
    let to = "records.rows.to";
    let columns = "a table has a column per declared field: lower-case letters, digits and `_`, at most 63";
    let with = |from: &str, to: &str, expected: &str| check(EVERY_KEY, from, to, &[expected]);
    with("kept_at:", "keptAt:", &format!("{to}: the field `keptAt` is not valid as a column; {columns}"));
    with("kept_at:", "xmin:", &format!("{to}: the field `xmin` is PostgreSQL's own; {columns}"));
    with(
        "key: [order] }\ntests",
        "key: [orders] }\ntests",
        &format!("{to}.key[0]: no column `orders`; did you mean `order`?"),
    );
    with(
        "key: [order] }\ntests",
        "key: [order, order] }\ntests",
        &format!("{to}.key[1]: `order` occurs twice"),
    );
    with(
        "half: 'substr(\"order\", 1, 2)'",
        "order: 'nullif(\"order\", upper(\"order\"))'",
        &format!("{to}.key[0]: `order` may be null, and a key must not be"),
    );
}

#[test]
fn yaml_is_one_plain_document() {
    let cases = [
        ("", "1:1: the file is empty\n"),
        (
            "a: &x 1\nb: *x\n",
            "1:4: a: an anchor is not allowed here; write the value out\n2:4: b: an alias is not allowed here; write the value out\n",
        ),
        (
            "a: !!str 1\n",
            "1:4: a: the tag `tag:yaml.org,2002:!str` is not allowed here; write the value out\n",
        ),
        ("version: 1\n---\nname: x\n", "2:1: a second document starts here; one file is one pipeline\n"),
        ("[a]: 1\n", "1:1: a key must be text, found a list or map\n"),
        ("a: [\n", "2:1: not YAML: while parsing a node, did not find expected node content\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(report(text), expected, "{text:?}");
    }
    assert!(report(&"[".repeat(100)).contains("nested deeper than 24"));
    assert!(report(&"[".repeat(100_000)).starts_with("1:"));
    assert!(report(&"a".repeat(2_000_000)).contains("more than 1048576"));
    check(
        ENRICHED,
        "name:",
        "version: 1\nname:",
        &["version: duplicate key `version`; it stands on line 2 already"],
    );
}

#[test]
fn the_hash_is_that_of_the_results() {
    let plan_of = |from: &str, to: &str| plan(&ENRICHED.replace(from, to));
    let original = plan(ENRICHED);
    insta::assert_snapshot!(canonical::canonical(&original), @r#"
    millstream plan 1
    source "activity" "user_activity" "event_time" 120000000 300000000 1048576 "activity.dead-letters" "activity.late"
    repartition "user_id"
    field "event_time" timestamp plain true
    field "user_id" text plain true
    field "page_url" text plain true
    field "event_type" text plain true
    dead_letters "dead_letters"
    aggregate "page_view_counts" "activity" tumbling 60000000 3600000000 "(\"event_type\" = 'page_view')"
    by "page_url" "\"page_url\""
    select "view_count" count bigint null null
    table "page_view_counts" "window_start" "page_url"
    aggregate "active_users" "activity" sliding 300000000 60000000 3600000000 null
    select "active_user_count" approx_distinct bigint "\"user_id\"" null
    table "active_users" "window_start"
    aggregate "user_sessions" "activity" session 1800000000 null 3600000000 null
    by "user_id" "\"user_id\""
    table "user_sessions" "user_id" "session_start_time"
    records "enriched" "activity" "enriched_activity" null produced
    set "processing_time" commit_time
    "#);
    let hashes = [original.hash, plan(EVERY_KEY).hash].map(|hash| format!("{hash:016x}"));
    assert_eq!(hashes, ["254a052123f02175", "0ba1d95c0a361b0d"]);
    for (from, to) in [
        ("100ms", "1s"),
        ("localhost:29092", "elsewhere:9092"),
        ("view_count: 50", "view_count: 51"),
        ("start: earliest", "start: latest"),
        ("idle_after: 30s", "idle_after: 40s"),
        ("name: enriched-activity", "name: other"),
        ("event_type = 'page_view'", "(event_type='page_view')"),
    ] {
        assert_eq!(plan_of(from, to).hash, original.hash, "{to}");
    }
    for (from, to) in [
        ("tumble: 1m", "tumble: 2m"),
        ("slide: 1m", "slide: 2m"),
        ("size: 5m", "size: 6m"),
        ("approx_distinct(user_id)", "approx_distinct(page_url)"),
        ("'page_view'", "'click'"),
        ("delay: 2m", "delay: 3m"),
        ("event_type: text!", "event_type: text"),
        ("repartition_by: user_id", "keyed_by: user_id"),
        ("session: 30m", "session: 20m"),
        ("allowed_lateness: 1h", "allowed_lateness: 2h"),
        ("processing_time", "processed_at"),
        ("count(*)", "count(user_id)"),
    ] {
        assert_ne!(plan_of(from, to).hash, original.hash, "{to}");
    }
}

/// One edit: where (as a part of 65,536), how much is cut, what is put there.
fn edit() -> impl Strategy<Value = (u16, usize, String)> {
    let piece = prop_oneof![
        Just(String::new()),
        "[\\PC\n\t]{1,4}",
        "[-\\[\\]{}:,#&*!|>'\"%@` \n?~$]{1,3}",
        Just("${".to_owned()),
        Just("\n\n  ".to_owned()),
        Just("999999999999999999999".to_owned()),
        Just("\u{feff}\0".to_owned()),
    ];
    (any::<u16>(), prop_oneof![0..3usize, 0..60usize], piece)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_text_makes_it_panic(edits in prop::collection::vec(edit(), 1..6), whole in any::<bool>()) {
        let mut text: Vec<char> = if whole { EVERY_KEY } else { EXAMPLE }.chars().collect();
        for (place, cut, piece) in edits {
            let at = usize::from(place) * text.len() / 65_536;
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = load(&text, &|_| None) {
            prop_assert!(!problems.is_empty());
            let lines = text.split('\n').count() + 1;
            prop_assert!(problems.iter().all(|p| (1..=lines).contains(&p.line) && p.column >= 1));
        }
    }
}
