//! Tables of records: the first of each key, or every one.

use std::sync::Arc;

use millstream::postgres::{CommitOutcome, Ddl, PostgresError, RecordRows, Step, ddl_sql};
use millstream_core::codec::encode_group_key;
use millstream_core::engine::TableRow;
use millstream_core::model::{Date, EventTime, Value};
use millstream_core::pipeline::{Plan, load};

use super::fixture::*;

/// Clicks with one value of every type, and the time at which they were committed.
fn clicks(key: &str) -> Plan {
    let file = format!(
        r#"
version: 1
name: {APPLICATION}
connections: {{ kafka: {{ bootstrap.servers: "localhost:9092" }} }}
sources:
  activity:
    topic: user_activity
    fields:
      at: timestamp!
      id: text!
      n: bigint
      x: double
      ok: boolean
      device: uuid
      address: inet
      extra: json
    event_time: at
records:
  raw:
    from: activity
    set: {{ day: date(at), committed: commit_time(), n: n + 1 }}
    to: {{ table: clicks{key} }}
"#
    );
    load(&file, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn text(value: &str) -> Value<'static> {
    Value::Text(value.to_owned().into())
}

/// A row with only what must be there.
fn row(id: &str, n: i64) -> TableRow {
    let mut key = Vec::new();
    encode_group_key(&[text(id)], &mut key);
    let mut values = vec![Value::Timestamp(EventTime(n * MINUTE)), text(id), Value::Bigint(n)];
    values.extend([const { Value::Null }; 5]);
    values.extend([Value::Date(Date(n as i32)), Value::Timestamp(EventTime(0))]);
    TableRow { output: 0, key, values }
}

const ROWS: &str =
    "SELECT concat_ws(' ', id, n, day, to_char(committed, 'HH24:MI')) FROM clicks ORDER BY id, n";

#[tokio::test]
async fn a_table_has_the_columns_of_its_records_and_keeps_the_first_of_each_key() {
    let database = Database::create().await;
    let plan = clicks(", key: [id]");
    let (mut session, epochs) = started(&database, &plan, &[0]).await;
    let columns = "SELECT string_agg(concat(attname, ' ', format_type(atttypid, atttypmod),
            case when attnotnull then '!' end), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = 'clicks'::regclass AND attnum > 0";
    assert_eq!(
        database.text(columns).await,
        "at timestamp with time zone!, id text!, n bigint, x double precision, ok boolean, device uuid, address inet, \
         extra json, day date!, committed timestamp with time zone!"
    );
    let mut full = row("b", 7);
    full.values[3..8].clone_from_slice(&[
        Value::Double(1.5),
        Value::Boolean(true),
        text("6b0e2f1c-0000-4000-8000-000000000000"),
        text("10.0.0.0/8"),
        text("{\"a\": [1]}"),
    ]);
    let rows = [full, row("a", 1), row("b", 8), row("a", 2)];
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 4)]);
    epoch.records = vec![RecordRows::new(&plan.record_tables[0], rows.iter().collect())];
    epoch.run(&mut session).await.unwrap();
    assert_eq!(database.text(ROWS).await, "a 1 1970-01-02 00:20\nb 7 1970-01-08 00:20");
    let all = "SELECT concat_ws(' ', x, ok, device, address, extra) FROM clicks WHERE id = 'b'";
    assert_eq!(
        database.text(all).await,
        "1.5 t 6b0e2f1c-0000-4000-8000-000000000000 10.0.0.0/8 {\"a\": [1]}"
    );
    let rows = [row("a", 9), row("c", 3)];
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 4, 6)]);
    epoch.records = vec![RecordRows::new(&plan.record_tables[0], rows.iter().collect())];
    epoch.run(&mut session).await.unwrap();
    assert_eq!(
        database.text(ROWS).await,
        "a 1 1970-01-02 00:20\nb 7 1970-01-08 00:20\nc 3 1970-01-04 00:20",
        "what is there stays"
    );
}

#[tokio::test]
async fn without_a_key_every_record_is_a_row() {
    let database = Database::create().await;
    let plan = clicks("");
    let raw = database.raw().await;
    raw.batch_execute(
        "CREATE TABLE clicks (number bigserial PRIMARY KEY, at timestamp, id text, n bigint, x double precision,
            ok boolean, device uuid, address inet, extra json, day date, committed timestamptz)",
    )
    .await
    .unwrap();
    let (mut session, epochs) = started(&database, &plan, &[0]).await;
    // More than one statement takes.
    let rows: Vec<TableRow> = (0..20_001).map(|_| row("a", 1)).collect();
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 4)]);
    epoch.records = vec![RecordRows::new(&plan.record_tables[0], rows.iter().collect())];
    epoch.run(&mut session).await.unwrap();
    let count = "SELECT concat_ws(' ', count(*), max(at)) FROM clicks";
    assert_eq!(database.text(count).await, "20001 1970-01-01 00:01:00");
}

#[tokio::test]
async fn two_workers_with_the_same_ids_wait_for_each_other_and_end() {
    let database = Arc::new(Database::create().await);
    let plan = Arc::new(clicks(", key: [id]"));
    let (mut session, epochs) = started(&database, &plan, &[0, 1]).await;
    let held = hold_commit(&database, Step::RowsMerged, {
        let (plan, owner_epoch) = (Arc::clone(&plan), epochs[0]);
        async move |session, hook| {
            let rows = [row("b", 1), row("a", 1)];
            let mut epoch = TestEpoch::of(vec![step(0, owner_epoch, 0, 2)]);
            epoch.records = vec![RecordRows::new(&plan.record_tables[0], rows.iter().collect())];
            session.commit_epoch(&epoch.commit(), hook).await
        }
    })
    .await;
    let rows = [row("c", 2), row("b", 2), row("a", 2)];
    let mut epoch = TestEpoch::of(vec![step(1, epochs[1], 0, 3)]);
    epoch.records = vec![RecordRows::new(&plan.record_tables[0], rows.iter().collect())];
    let (second, first) = tokio::join!(epoch.run(&mut session), held.finish_once_waited_for());
    assert_eq!([first.unwrap(), second.unwrap()], [CommitOutcome::Committed, CommitOutcome::Committed]);
    let ids = "SELECT string_agg(concat(id, n), ' ' ORDER BY id) FROM clicks";
    assert_eq!(database.text(ids).await, "a1 b1 c2");
}

#[tokio::test]
async fn a_table_of_records_is_owned_and_may_be_made_by_somebody_else() {
    let database = Database::create().await;
    let plan = clicks(", key: [id]");
    let sql = ddl_sql(&plan);
    assert!(
        sql.contains("CREATE TABLE \"clicks\"") && sql.contains("GRANT SELECT, INSERT ON \"clicks\""),
        "{sql}"
    );
    let (mut session, _) = started(&database, &plan, &[]).await;
    session.claim(&plan, &ids(), Ddl::CheckOnly).await.unwrap();
    let mut other = clicks(", key: [id]");
    other.application = "another".into();
    let conflict = session.claim(&other, &ids(), Ddl::Apply).await.unwrap_err();
    assert!(matches!(conflict, PostgresError::AppIdConflict(_)), "{conflict}");
    let raw = database.raw().await;
    raw.batch_execute("ALTER TABLE clicks DROP CONSTRAINT clicks_pkey").await.unwrap();
    let fault = session.claim(&plan, &ids(), Ddl::Apply).await.unwrap_err();
    assert!(fault.to_string().contains("primary key is (), not (id)"), "{fault}");
}
