//! What an epoch leaves in the tables.

use std::collections::BTreeMap;

use millstream::postgres::{AggregateCounts, CommitOutcome, DeadLetter, Owned, PostgresError, Step};
use millstream_core::aggregate::Accumulator;
use millstream_core::model::{DataType, EventTime, Fingerprint, Offset, RollingHash, TopicPartition, Value};
use millstream_core::pipeline::Function;

use super::fixture::*;

fn integer(sum: i128, count: i64) -> Accumulator {
    Accumulator::Integer { sum, count }
}

fn double(sum: f64, count: i64) -> Accumulator {
    Accumulator::Double { sum, count }
}

fn text(value: &str) -> Value<'static> {
    Value::Text(value.to_owned().into())
}

#[tokio::test]
async fn two_epochs_merge_by_the_rules_of_sql() {
    let database = Database::create().await;
    let aggregate = per_page(
        "everything",
        &[
            ("n", Function::Count, DataType::Bigint),
            ("exact", Function::Sum, DataType::Numeric),
            ("about", Function::Sum, DataType::Double),
            ("first", Function::Min, DataType::Text),
            ("last", Function::Max, DataType::Text),
            ("latest", Function::Max, DataType::Timestamp),
            ("mean", Function::Avg, DataType::Double),
            ("middle", Function::Avg, DataType::Double),
        ],
    );
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0]).await;
    let none = vec![
        Accumulator::Count(0),
        integer(0, 0),
        double(0.0, 0),
        Accumulator::Min(Value::Null),
        Accumulator::Max(Value::Null),
        Accumulator::Max(Value::Null),
        integer(0, 0),
        double(0.0, 0),
    ];
    let some = |n: i64, word: &str| {
        vec![
            Accumulator::Count(n),
            integer(i128::from(i64::MAX) * i128::from(n), n),
            double(0.5, n),
            Accumulator::Min(text(word)),
            Accumulator::Max(text(word)),
            Accumulator::Max(Value::Timestamp(EventTime(n * MINUTE))),
            integer(i128::from(i64::MAX) * i128::from(n), n),
            double(1.0, n),
        ]
    };
    let first = vec![delta(1, "/", none.clone()), delta(1, "/a", some(1, "a")), delta(2, "/", some(2, "Z"))];
    TestEpoch::of(vec![step(0, epochs[0], 0, 3)]).add(&aggregate, first).run(&mut session).await.unwrap();
    let rows =
        "SELECT concat_ws(' ', extract(minute from window_start), page_url, n, coalesce(exact::text, '-'),
         coalesce(about::text, '-'), coalesce(first, '-'), coalesce(last, '-'),
         coalesce(to_char(latest, 'HH24:MI'), '-'), coalesce(mean::text, '-'), coalesce(middle::text, '-'))
         FROM everything ORDER BY window_start, page_url";
    assert_eq!(
        database.text(rows).await,
        "1 / 0 - - - - - - -\n\
         1 /a 1 9223372036854775807 0.5 a a 00:01 9.223372036854776e+18 1\n\
         2 / 2 18446744073709551614 0.5 Z Z 00:02 9.223372036854776e+18 0.5"
    );
    let second = vec![delta(1, "/", some(1, "a")), delta(1, "/a", none), delta(2, "/", some(1, "a"))];
    TestEpoch::of(vec![step(0, epochs[0], 3, 6)]).add(&aggregate, second).run(&mut session).await.unwrap();
    assert_eq!(
        database.text(rows).await,
        "1 / 1 9223372036854775807 0.5 a a 00:01 9.223372036854776e+18 1\n\
         1 /a 1 9223372036854775807 0.5 a a 00:01 9.223372036854776e+18 1\n\
         2 / 3 27670116110564327421 1 Z a 00:02 9.223372036854776e+18 0.6666666666666666"
    );
}

#[tokio::test]
async fn a_sum_of_doubles_that_leaves_their_range_is_infinite_in_one_epoch_or_two() {
    let database = Database::create().await;
    let columns = [("total", Function::Sum, DataType::Double), ("mean", Function::Avg, DataType::Double)];
    let aggregate = per_page("prices", &columns);
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0]).await;
    let (most, tiny, edge) = (f64::MAX, f64::from_bits(1), 2f64.powi(970));
    let cases = [
        [most, most],
        [-most, -most],
        [most, -most],
        [most, tiny],
        [-tiny, tiny],
        [most, edge],
        [-edge, -most],
        [edge.next_down(), most],
        [most / 2.0 + edge, most / 2.0 + edge],
        [f64::INFINITY, most],
        [-most, f64::INFINITY],
        [f64::INFINITY, f64::NEG_INFINITY],
        [most / 2.0, most / 2.0],
        [0.0, most],
    ];
    for (prev, which) in [(0, 0), (1, 1)] {
        let row = |(i, case): (usize, &[f64; 2])| {
            delta(1, &format!("/{i:02}"), vec![double(case[which], 1), double(case[which], 1)])
        };
        let rows = cases.iter().enumerate().map(row).collect();
        let epoch = TestEpoch::of(vec![step(0, epochs[0], prev, prev + 1)]).add(&aggregate, rows);
        assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Committed);
    }
    let found =
        database.raw().await.query("SELECT total, mean FROM prices ORDER BY page_url", &[]).await.unwrap();
    for (row, [a, b]) in found.iter().zip(cases) {
        let same = |found: f64, expect: f64| found == expect || found.is_nan() && expect.is_nan();
        let (total, mean) = (row.get::<_, f64>(0), row.get::<_, f64>(1));
        assert!(same(total, a + b) && same(mean, (a + b) / 2.0), "{a:e} and {b:e}: {total:e}, {mean:e}");
    }
    assert_eq!(found.len(), cases.len());
}

#[tokio::test]
async fn rows_beyond_one_statement_are_all_merged() {
    let database = Database::create().await;
    let aggregate = page_views();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0]).await;
    let rows =
        |n: usize| (0..n).map(|i| delta(1, &format!("/{i:06}"), vec![Accumulator::Count(1)])).collect();
    for (prev, next) in [(0, 1), (1, 2)] {
        let epoch = TestEpoch::of(vec![step(0, epochs[0], prev, next)]).add(&aggregate, rows(20_001));
        assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Committed);
    }
    let totals = "SELECT concat(count(*), ' ', min(view_count), ' ', max(view_count)) FROM page_view_counts";
    assert_eq!(database.text(totals).await, "20001 2 2");
}

#[tokio::test]
async fn every_column_of_the_progress_row_comes_back() {
    let database = Database::create().await;
    let (mut session, epochs) = started(&database, &plan(vec![page_views()]), &[0]).await;
    let mut task_commit = step(0, epochs[0], 0, 9);
    task_commit.hash = RollingHash(u64::MAX - 5);
    task_commit.watermark = Some(EventTime(-MINUTE));
    task_commit.fingerprint = Some(Fingerprint { offset: Offset(8), timestamp_ms: -1, hash: u64::MAX });
    task_commit.counts.dead_by_reason = BTreeMap::from([("CHECK_FAILED:a \"b\"".to_owned(), 2)]);
    task_commit.counts.checks = BTreeMap::from([("url_is_path".to_owned(), 1)]);
    let counts = AggregateCounts { matched: 4, counted: 3, too_late: 1, partly_late: 0 };
    task_commit.counts.aggregates = BTreeMap::from([("page_view_counts".to_owned(), counts)]);
    let mut steps = Vec::new();
    let epoch = TestEpoch::of(vec![task_commit.clone()]);
    session.commit_epoch(&epoch.commit(), &mut |step| steps.push(step)).await.unwrap();
    use Step::*;
    assert_eq!(steps, [Begun, ProgressUpdated, RowsMerged, DeadLettersWritten, Committing, Committed]);
    let row = session.lock_progress(APPLICATION, &[task(0)]).await.unwrap().remove(0);
    assert_eq!((row.prev, row.next, row.epoch), (Offset(0), Offset(9), task_commit.epoch));
    assert_eq!((row.hash, row.fingerprint), (task_commit.hash, task_commit.fingerprint));
    assert_eq!((row.watermark, row.max_event_time), (task_commit.watermark, task_commit.max_event_time));
    assert_eq!((row.commit_time, row.plan_hash), (Some(EventTime(20 * MINUTE)), 7));
    assert_eq!((row.counts, row.caught_up_since), (task_commit.counts, None));
}

#[tokio::test]
async fn dead_letters_keep_bytes_and_tolerate_nul() {
    let database = Database::create().await;
    let (mut session, epochs) = started(&database, &plan(vec![page_views()]), &[0]).await;
    let letter = |offset, value: Option<Vec<u8>>| DeadLetter {
        tp: task(0),
        offset: Offset(offset),
        reason: "NOT_JSON".to_owned(),
        detail: "found \0".to_owned(),
        key: Some(vec![0, 255]),
        value_bytes: value.as_ref().map(|v| v.len() as i64),
        value,
        headers: vec![("a\0".to_owned(), Some(vec![0, 1])), ("b".to_owned(), None)],
        record_timestamp: Some(EventTime(MINUTE)),
    };
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 5)]);
    let large = vec![b'x'; 5 << 20];
    epoch.dead_letters = vec![
        letter(0, None),
        letter(1, Some(large.clone())),
        letter(2, Some(large)),
        letter(3, Some(vec![])),
    ];
    epoch.run(&mut session).await.unwrap();
    let rows = "SELECT concat_ws(' ', \"offset\", encode(key, 'hex'), coalesce(length(value)::text, '-'),
         coalesce(value_bytes::text, '-'), headers, detail) FROM millstream.dead_letters ORDER BY \"offset\"";
    let rest = "[[\"a\u{fffd}\", \"AAE=\"], [\"b\", null]] found \u{fffd}";
    assert_eq!(
        database.text(rows).await,
        format!(
            "0 00ff - - {rest}\n1 00ff 5242880 5242880 {rest}\n2 00ff 5242880 5242880 {rest}\n3 00ff 0 0 {rest}"
        )
    );
}

#[tokio::test]
async fn a_refusal_names_the_table_and_leaves_nothing() {
    let database = Database::create().await;
    let aggregate = page_views();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0]).await;
    let raw = database.raw().await;
    raw.batch_execute("ALTER TABLE page_view_counts ADD CHECK (view_count < 10)").await.unwrap();
    let epoch = |n| {
        TestEpoch::of(vec![step(0, epochs[0], 0, 5)])
            .add(&aggregate, vec![delta(1, "/", vec![Accumulator::Count(n)])])
    };
    let error = epoch(10).run(&mut session).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PostgresError::Refused { .. }), "{text}");
    assert!(
        text.contains("SINK_REFUSED") && text.contains("page_view_counts") && text.contains("23514"),
        "{text}"
    );
    assert_eq!(epoch(9).run(&mut session).await.unwrap(), CommitOutcome::Committed);
}

#[tokio::test]
async fn finality_leaves_out_idle_partitions_only() {
    let database = Database::create().await;
    let (mut session, epochs) = started(&database, &plan(vec![page_views()]), &[0]).await;
    let through = "SELECT extract(epoch from final_through)::bigint::text FROM millstream.finality";
    let mut busy = step(0, epochs[0], 0, 5);
    busy.watermark = Some(EventTime(100 * MINUTE));
    TestEpoch::of(vec![busy]).run(&mut session).await.unwrap();
    assert_eq!(database.text(through).await, "null", "one of two partitions has no row");
    session.insert_bootstrap(APPLICATION, &task(1), "topic-id", Offset(0), 1).await.unwrap();
    let other = session.take(APPLICATION, &task(1), "worker").await.unwrap().unwrap().owner_epoch;
    assert_eq!(database.text(through).await, "null", "one of two partitions has no watermark");
    let idle = Owned { tp: task(1), owner_epoch: other, next: Offset(0) };
    session.mark_caught_up(APPLICATION, std::slice::from_ref(&idle)).await.unwrap();
    assert_eq!(database.text(through).await, "null", "caught up, but not for long enough");
    let raw = database.raw().await;
    let age = |partition| {
        format!(
            "UPDATE millstream.progress SET caught_up_since = now() - interval '31 s' WHERE partition = {partition}"
        )
    };
    raw.batch_execute(&age(1)).await.unwrap();
    assert_eq!(database.text(through).await, (40 * 60).to_string(), "less an hour of lateness");
    let seen = |age| {
        format!("UPDATE millstream.progress SET updated_at = now() - interval '{age} s' WHERE partition = 1")
    };
    raw.batch_execute(&seen(31)).await.unwrap();
    assert_eq!(database.text(through).await, "null", "nobody has said for a while that it is idle");
    raw.batch_execute(&seen(0)).await.unwrap();
    let mut late = step(1, other, 0, 3);
    late.watermark = Some(EventTime(70 * MINUTE));
    late.caught_up = true;
    TestEpoch::of(vec![late]).run(&mut session).await.unwrap();
    assert_eq!(database.text(through).await, (10 * 60).to_string(), "records end the idleness");
    raw.batch_execute(&age(0)).await.unwrap();
    raw.batch_execute(&age(1)).await.unwrap();
    assert_eq!(database.text(through).await, (40 * 60).to_string(), "all idle: the largest counts");
}

/// Why the rows are altered by hand: only the view is in question.
#[tokio::test]
async fn partition_behind_routers_is_idle_only_while_all_of_them_are() {
    let database = Database::create().await;
    let (mut session, epochs) = started(&database, &plan(vec![page_views()]), &[0, 1]).await;
    let raw = database.raw().await;
    let hop = "UPDATE millstream.aggregates SET routed_from = 'raw', routed_partitions = 2";
    raw.batch_execute(hop).await.unwrap();
    for router in 0..2 {
        let tp = TopicPartition::new("raw", router);
        session.insert_bootstrap(APPLICATION, &tp, "topic-id", Offset(0), 1).await.unwrap();
    }
    let through = "SELECT extract(epoch from final_through)::bigint::text FROM millstream.finality";
    let (ahead, behind) = ((40 * 60).to_string(), (10 * 60).to_string());
    let (mut first, mut second) = (step(0, epochs[0], 0, 5), step(1, epochs[1], 0, 5));
    first.watermark = Some(EventTime(100 * MINUTE));
    second.watermark = Some(EventTime(70 * MINUTE));
    TestEpoch::of(vec![first, second]).run(&mut session).await.unwrap();
    assert_eq!(database.text(through).await, behind, "nobody is idle");
    let said = |topic, partition, age| {
        format!(
            "UPDATE millstream.progress SET caught_up_since = now() - interval '31 s',
                 updated_at = now() - interval '{age} s' WHERE topic = '{topic}' AND partition = {partition}"
        )
    };
    raw.batch_execute(&said("user_activity", 1, 0)).await.unwrap();
    assert_eq!(database.text(through).await, behind, "caught up with routers that are not");
    raw.batch_execute(&said("raw", 0, 0)).await.unwrap();
    assert_eq!(database.text(through).await, behind, "one of two routers is idle");
    raw.batch_execute(&said("raw", 1, 0)).await.unwrap();
    assert_eq!(database.text(through).await, ahead, "both routers are idle, and so is the partition");
    raw.batch_execute(&said("raw", 0, 31)).await.unwrap();
    assert_eq!(database.text(through).await, behind, "a router that is silent is not idle");
    raw.batch_execute(&said("raw", 0, 0)).await.unwrap();
    raw.batch_execute(&said("user_activity", 0, 0)).await.unwrap();
    assert_eq!(database.text(through).await, ahead, "all are idle: the largest counts");
}
