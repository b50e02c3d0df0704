//! Which reason comes first, and where each begins. The corpus of bad records has the rest.

use std::sync::Arc;

use super::*;
use crate::model::{DeadReason, Row};
use crate::pipeline::{SourceId, load};

const FILE: &str = r#"
version: 1
name: verdicts
connections: { kafka: { bootstrap.servers: "localhost:9092" } }
sources:
  clicks:
    topic: clicks
    fields: { at: timestamp!, page: text!, id: uuid!, ip: inet! }
    event_time: at
    watermark: { delay: 60s, max_future: 5m }
    checks: [ { name: path, expect: "page like '/%'", on_fail: dead_letter } ]
aggregates:
  views:
    from: clicks
    window: { tumble: 1m }
    by: [page, id, ip]
    select: { tenth: "sum(1 / (length(page) - 3))" }
    to: { table: views, key: [window_start, page, id, ip] }
"#;

/// 2026-01-30T01:18:10Z.
const AT: i64 = 1_769_735_890_000;

fn verdict(page: &str, timestamp_ms: Option<i64>) -> Option<DeadReason> {
    let plan = Arc::new(load(FILE, &|_| None).expect("the file is right"));
    let judge = Judge::new(plan, SourceId(0));
    let value = format!(
        r#"{{"at":"2026-01-30T01:18:10Z","page":"{page}","id":"6b0e2f1c-0000-4000-8000-000000000000","ip":"10.0.0.1"}}"#
    );
    let mut row = Row::new();
    let record = RecordView { value: Some(value.as_bytes()), timestamp_ms };
    if let Err(dead) = judge.decode(record, &mut row) {
        return Some(dead.reason);
    }
    judge.evaluate(&row, &mut Evaluated::default(), &mut Vec::new()).err().map(|dead| dead.reason)
}

#[test]
fn future_begins_one_millisecond_past_the_bound() {
    let bound = 5 * 60 * 1_000;
    assert_eq!(verdict("/a", Some(AT - bound)), None);
    assert_eq!(verdict("/a", Some(AT - bound - 1)), Some(DeadReason::FutureEvent));
    assert_eq!(verdict("/a", Some(i64::MIN)), Some(DeadReason::FutureEvent));
    assert_eq!(verdict("/a", Some(i64::MAX)), None);
    assert_eq!(verdict("/a", None), None, "nothing to hold it against");
}

#[test]
fn future_comes_before_a_failed_check_and_that_before_an_expression() {
    let early = Some(0);
    assert_eq!(verdict("a", early), Some(DeadReason::FutureEvent));
    assert_eq!(verdict("abc", None), Some(DeadReason::CheckFailed("path".into())));
    assert_eq!(verdict("/ab", None), Some(DeadReason::ExpressionError), "divides by zero");
}

#[test]
fn key_counts_bytes_of_texts_and_eight_for_every_other_type() {
    let page = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    assert_eq!(verdict(&page(2_000 - 8 - 8), None), None);
    assert_eq!(verdict(&page(2_000 - 8 - 8 + 1), None), Some(DeadReason::KeyTooLong));
}

/// Checks in turn: one that counts and raises for small numbers, one that counts, one that makes dead letters.
fn checked(n: &str) -> Result<Vec<usize>, DeadReason> {
    let file = r#"
version: 1
name: checks
connections: { kafka: { bootstrap.servers: "localhost:9092" } }
sources:
  clicks:
    topic: clicks
    fields: { at: timestamp_s!, n: bigint }
    event_time: at
    checks:
      - { name: divides, expect: 12 / n > 0, on_fail: count }
      - { name: even, expect: n % 2 = 0, on_fail: count }
      - { name: small, expect: n < 10, on_fail: dead_letter }
records: { copy: { from: clicks, to: { topic: copies } } }
"#;
    let plan = Arc::new(load(file, &|_| None).expect("the file is right"));
    let judge = Judge::new(plan, SourceId(0));
    let value = format!(r#"{{"at":0,"n":{n}}}"#);
    let (mut row, mut evaluated) = (Row::new(), Evaluated::default());
    judge
        .decode(RecordView { value: Some(value.as_bytes()), timestamp_ms: None }, &mut row)
        .map_err(|dead| dead.reason)?;
    judge.evaluate(&row, &mut evaluated, &mut Vec::new()).map_err(|dead| dead.reason)?;
    Ok(evaluated.failed_checks)
}

#[test]
fn checks_pass_null_and_one_that_is_false_precedes_one_that_raises() {
    assert_eq!(checked("null"), Ok(vec![]), "null passes");
    assert_eq!(checked("2"), Ok(vec![]));
    assert_eq!(checked("3"), Ok(vec![1]));
    assert_eq!(
        checked("0"),
        Err(DeadReason::ExpressionError),
        "one that raises has neither passed nor failed"
    );
    assert_eq!(checked("14"), Err(DeadReason::CheckFailed("small".into())));
    assert_eq!(
        checked("15"),
        Err(DeadReason::CheckFailed("small".into())),
        "counted for accepted records alone"
    );
}
