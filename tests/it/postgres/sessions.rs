//! Tables of sessions: rows are written whole, and a merge replaces them in one transaction.

use std::sync::Arc;

use millstream::postgres::{CommitOutcome, Ddl, PostgresError, SessionDelta, SessionRow, Step, ddl_sql};
use millstream_core::engine::SessionChange;
use millstream_core::model::{EventTime, Offset, Value};
use millstream_core::pipeline::{Aggregate, Plan, load};

use super::fixture::*;

const FILE: &str = r#"
version: 1
name: web-analytics
connections: { kafka: { bootstrap.servers: "localhost:9092" } }
sources:
  activity:
    topic: user_activity
    fields: { event_time: timestamp!, user_id: text!, page_url: text! }
    event_time: event_time
    watermark: { delay: 2m }
    keyed_by: user_id
late: { allowed_lateness: 1h }
aggregates:
  visits:
    from: activity
    window: { session: 30m }
    by: [user_id]
    select: { n: count(*), pages: approx_distinct(page_url), last_page: max(page_url) }
    to: { table: visits, key: [user_id, session_start_time], latest: [user_id] }
"#;

const ROWS: &str = "SELECT concat_ws(' ', user_id, extract(epoch from session_start_time)::bigint / 60,
    extract(epoch from session_end_time)::bigint / 60, session_duration_seconds, n, pages, coalesce(last_page, '-'))
    FROM visits ORDER BY user_id, session_start_time";

fn visits() -> Plan {
    load(FILE, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn text(value: &str) -> Value<'static> {
    Value::Text(value.to_owned().into())
}

fn minute(minute: i64) -> EventTime {
    EventTime(minute * MINUTE)
}

/// A session of a user from one minute to another.
fn kept(user: &str, start: i64, end: i64, n: i64) -> SessionRow {
    let seconds = Value::Bigint((end - start) * 60);
    let row = vec![
        Value::Timestamp(minute(start)),
        Value::Timestamp(minute(end)),
        seconds,
        Value::Bigint(n),
        Value::Bigint(1),
        if n > 1 { text("/a") } else { Value::Null },
    ];
    SessionRow::new(
        SessionChange { key: Arc::from([]), start: minute(start), row: Some(row) },
        vec![text(user)],
    )
}

/// A row that is to go.
fn gone(user: &str, start: i64) -> SessionRow {
    SessionRow::new(SessionChange { key: Arc::from([]), start: minute(start), row: None }, vec![text(user)])
}

fn sessions(aggregate: &Aggregate, rows: Vec<SessionRow>) -> Vec<SessionDelta<'_>> {
    vec![SessionDelta { aggregate, rows }]
}

#[tokio::test]
async fn a_merge_replaces_rows_and_the_epoch_again_changes_nothing() {
    let database = Database::create().await;
    let plan = visits();
    let aggregate = &plan.aggregates[0];
    let (mut session, epochs) = started(&database, &plan, &[0]).await;
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 3)]);
    let rows = vec![kept("a", 100, 101, 2), kept("a", 150, 150, 1), kept("b'\"", 100, 130, 9)];
    epoch.sessions = sessions(aggregate, rows);
    assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Committed);
    let others = "b'\" 100 130 1800 9 1 /a";
    assert_eq!(database.text(ROWS).await, format!("a 100 101 60 2 1 /a\na 150 150 0 1 1 -\n{others}"));

    for (prev, next) in [(3, 4), (4, 5)] {
        let mut merge = TestEpoch::of(vec![step(0, epochs[0], prev, next)]);
        merge.sessions = sessions(aggregate, vec![kept("a", 90, 160, 4), gone("a", 100), gone("a", 150)]);
        assert_eq!(merge.run(&mut session).await.unwrap(), CommitOutcome::Committed);
        assert_eq!(database.text(ROWS).await, format!("a 90 160 4200 4 1 /a\n{others}"));
    }
    let latest = "SELECT concat_ws(' ', user_id, extract(epoch from session_start_time)::bigint / 60, n)
        FROM visits_latest ORDER BY user_id";
    let mut more = TestEpoch::of(vec![step(0, epochs[0], 5, 6)]);
    more.sessions = sessions(aggregate, vec![kept("a", 300, 300, 1)]);
    more.run(&mut session).await.unwrap();
    assert_eq!(database.text(latest).await, "a 300 1\nb'\" 100 9", "one row a user, the newest");
}

#[tokio::test]
async fn readers_see_a_merge_whole_or_not_at_all() {
    let database = Arc::new(Database::create().await);
    let plan = Arc::new(visits());
    let (mut session, epochs) = started(&database, &plan, &[0]).await;
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 2)]);
    epoch.sessions = sessions(&plan.aggregates[0], vec![kept("a", 100, 100, 1), kept("a", 140, 140, 1)]);
    epoch.run(&mut session).await.unwrap();
    let held = hold_commit(&database, Step::RowsMerged, {
        let (plan, owner_epoch) = (Arc::clone(&plan), epochs[0]);
        async move |session, hook| {
            let mut epoch = TestEpoch::of(vec![step(0, owner_epoch, 2, 3)]);
            epoch.sessions = sessions(&plan.aggregates[0], vec![kept("a", 100, 140, 3), gone("a", 140)]);
            session.commit_epoch(&epoch.commit(), hook).await
        }
    })
    .await;
    let before = "a 100 100 0 1 1 -\na 140 140 0 1 1 -";
    assert_eq!(database.text(ROWS).await, before, "nothing of it before the commit");
    assert_eq!(held.finish().unwrap(), CommitOutcome::Committed);
    assert_eq!(database.text(ROWS).await, "a 100 140 2400 3 1 /a");
}

#[tokio::test]
async fn a_fenced_owner_removes_nothing() {
    let database = Database::create().await;
    let plan = visits();
    let (mut session, epochs) = started(&database, &plan, &[0]).await;
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 2)]);
    epoch.sessions = sessions(&plan.aggregates[0], vec![kept("a", 100, 100, 1)]);
    epoch.run(&mut session).await.unwrap();
    session.take(APPLICATION, &task(0), "another").await.unwrap().unwrap();
    let mut stale = TestEpoch::of(vec![step(0, epochs[0], 2, 3)]);
    stale.sessions = sessions(&plan.aggregates[0], vec![kept("a", 90, 100, 2), gone("a", 100)]);
    assert_eq!(stale.run(&mut session).await.unwrap(), CommitOutcome::Fenced { matched: Vec::new() });
    assert_eq!(database.text(ROWS).await, "a 100 100 0 1 1 -");
}

#[tokio::test]
async fn rows_beyond_one_statement_are_all_written_and_removed() {
    let database = Database::create().await;
    let plan = visits();
    let (mut session, epochs) = started(&database, &plan, &[0]).await;
    let users = |row: &dyn Fn(&str) -> SessionRow| (0..20_001).map(|i| row(&format!("{i:06}"))).collect();
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 1)]);
    epoch.sessions = sessions(&plan.aggregates[0], users(&|user| kept(user, 100, 100, 1)));
    epoch.run(&mut session).await.unwrap();
    assert_eq!(database.text("SELECT count(*)::text FROM visits").await, "20001");
    let mut epoch = TestEpoch::of(vec![step(0, epochs[0], 1, 2)]);
    epoch.sessions = sessions(&plan.aggregates[0], users(&|user| gone(user, 100)));
    epoch.run(&mut session).await.unwrap();
    assert_eq!(database.text("SELECT count(*)::text FROM visits").await, "0");
}

#[tokio::test]
async fn the_replaced_systems_table_without_zone_is_written_in_utc() {
    let database = Database::create().await;
    let raw = database.raw().await;
    raw.batch_execute(&format!("ALTER DATABASE {} SET TimeZone = 'America/New_York'", database.name))
        .await
        .unwrap();
    raw.batch_execute(
        "CREATE TABLE visits (user_id varchar, session_start_time timestamp, session_end_time timestamp,
            session_duration_seconds bigint, n bigint, pages bigint, last_page text,
            PRIMARY KEY (user_id, session_start_time))",
    )
    .await
    .unwrap();
    let plan = visits();
    let (mut session, epochs) = started(&database, &plan, &[0]).await;
    for (prev, rows) in [(0, vec![kept("a", 61, 61, 1)]), (1, vec![kept("a", 60, 61, 2), gone("a", 61)])] {
        let mut epoch = TestEpoch::of(vec![step(0, epochs[0], prev, prev + 1)]);
        epoch.sessions = sessions(&plan.aggregates[0], rows);
        epoch.run(&mut session).await.unwrap();
    }
    let row = "SELECT concat_ws(' ', user_id, session_start_time, session_end_time, n) FROM visits";
    assert_eq!(database.text(row).await, "a 1970-01-01 01:00:00 1970-01-01 01:01:00 2");
}

#[tokio::test]
async fn finality_tells_the_gap_of_sessions() {
    let database = Database::create().await;
    let plan = visits();
    let (mut session, epochs) = started(&database, &plan, &[0, 1]).await;
    for (partition, watermark) in [(0, 300), (1, 280)] {
        let mut task = step(partition, epochs[partition as usize], 0, 1);
        task.watermark = Some(minute(watermark));
        let mut epoch = TestEpoch::of(vec![task]);
        let user = ["a", "b"][partition as usize];
        epoch.sessions = sessions(&plan.aggregates[0], vec![kept(user, 100, 160 + i64::from(partition), 3)]);
        epoch.run(&mut session).await.unwrap();
    }
    // The least watermark is 280, less an hour 220; a session is final with its end and two gaps of 30.
    let finals = "SELECT concat_ws(' ', v.user_id, v.session_end_time + 2 * f.session_gap <= f.final_through)
        FROM visits v JOIN millstream.finality f ON f.table_name = 'visits' ORDER BY 1";
    assert_eq!(database.text(finals).await, "a t\nb f");
}

#[tokio::test]
async fn the_printed_grants_are_enough_for_sessions() {
    let database = Database::create().await;
    let role = format!("role_{}", uuid::Uuid::new_v4().simple());
    let plan = visits();
    let raw = database.raw().await;
    raw.batch_execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{role}'; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    ))
    .await
    .unwrap();
    raw.batch_execute(&ddl_sql(&plan).replace(":\"role\"", &role)).await.unwrap();
    let mut session = database.try_connect(Some(&role)).await.unwrap();
    session.migrate(Ddl::Apply).await.unwrap();
    session.claim(&plan, &ids(), Ddl::CheckOnly).await.unwrap();
    session.claim(&plan, &ids(), Ddl::Apply).await.unwrap();
    session.insert_bootstrap(APPLICATION, &task(0), "id", Offset(0), 1).await.unwrap();
    let owner_epoch = session.take(APPLICATION, &task(0), "worker").await.unwrap().unwrap().owner_epoch;
    let mut epoch = TestEpoch::of(vec![step(0, owner_epoch, 0, 5)]);
    epoch.sessions = sessions(&plan.aggregates[0], vec![gone("a", 1), kept("a", 2, 3, 1)]);
    assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Committed);
    drop(session);
    raw.batch_execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn a_view_that_is_missing_or_is_none_is_named() {
    let database = Database::create().await;
    let plan = visits();
    let (mut session, _) = started(&database, &plan, &[]).await;
    let raw = database.raw().await;
    let mut faults = async |sql: &str| {
        raw.batch_execute(sql).await.unwrap();
        let error = session.claim(&plan, &ids(), Ddl::CheckOnly).await.unwrap_err();
        let PostgresError::Tables(faults) = error else { panic!("{error}") };
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(faults("DROP VIEW visits_latest").await, "public.visits_latest: does not exist");
    assert_eq!(
        faults("CREATE VIEW public.visits_latest AS SELECT user_id FROM visits").await,
        "public.visits_latest: has other columns than its table; drop it"
    );
    assert_eq!(
        faults("DROP VIEW visits_latest; CREATE TABLE public.visits_latest (user_id text)").await,
        "public.visits_latest: is no view"
    );
    raw.batch_execute("DROP TABLE visits_latest").await.unwrap();
    session.claim(&plan, &ids(), Ddl::Apply).await.unwrap();
    session.claim(&plan, &ids(), Ddl::CheckOnly).await.unwrap();
}
