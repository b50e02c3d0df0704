//! Migrations, claims, tables that exist already, and privileges.

use millstream::postgres::{CommitOutcome, Ddl, DeadLetter, OutputConflict, Owned, PostgresError, ddl_sql};
use millstream_core::aggregate::Accumulator;
use millstream_core::model::{DataType, EventTime, Offset, Recovery};
use millstream_core::pipeline::Function;

use super::fixture::*;

#[tokio::test]
async fn two_sessions_migrate_at_once_and_again() {
    let database = Database::create().await;
    let (mut a, mut b) = (database.connect().await, database.connect().await);
    let (first, second) = tokio::join!(a.migrate(Ddl::Apply), b.migrate(Ddl::Apply));
    first.unwrap();
    second.unwrap();
    a.migrate(Ddl::Apply).await.unwrap();
    b.migrate(Ddl::CheckOnly).await.unwrap();
    let once = "SELECT (count(*) = max(version))::text FROM millstream.migrations";
    assert_eq!(database.text(once).await, "true", "each version stands in the history once");
}

#[tokio::test]
async fn schema_that_is_missing_newer_or_changed_is_refused() {
    let database = Database::create().await;
    let mut session = database.connect().await;
    let missing = session.migrate(Ddl::CheckOnly).await.unwrap_err();
    assert!(matches!(missing, PostgresError::SchemaMissing { version: 1 }), "{missing}");
    session.migrate(Ddl::Apply).await.unwrap();
    let raw = database.raw().await;
    raw.batch_execute("INSERT INTO millstream.migrations VALUES (99, 'later', '', '1')").await.unwrap();
    let newer = session.migrate(Ddl::Apply).await.unwrap_err();
    assert!(matches!(newer, PostgresError::SchemaNewer { found: 99, .. }), "{newer}");
    raw.batch_execute("DELETE FROM millstream.migrations WHERE version = 99").await.unwrap();
    raw.batch_execute("UPDATE millstream.migrations SET checksum = '1'").await.unwrap();
    let changed = session.migrate(Ddl::Apply).await.unwrap_err();
    assert!(matches!(changed, PostgresError::SchemaDiverged { version: 1 }), "{changed}");
}

#[tokio::test]
async fn outputs_have_one_owner() {
    let database = Database::create().await;
    let mut first = plan(vec![page_views()]);
    first.sources[0].late_topic = Some("activity.late".into());
    let (mut session, _) = started(&database, &first, &[]).await;
    session.claim(&first, &ids(), Ddl::CheckOnly).await.unwrap();
    let mut second = first.clone();
    second.application = "another".into();
    let conflict = session.claim(&second, &ids(), Ddl::Apply).await.unwrap_err();
    let PostgresError::AppIdConflict(conflicts) = conflict else { panic!("{conflict}") };
    let owned = |kind, name: &str| OutputConflict::Owned {
        kind,
        name: name.to_owned(),
        owner: APPLICATION.to_owned(),
    };
    assert_eq!(
        conflicts,
        [owned("topic", "cluster-1/activity.late"), owned("table", "public.page_view_counts")]
    );
    assert_eq!(database.text("SELECT application FROM millstream.application").await, APPLICATION);
}

#[tokio::test]
async fn a_table_with_rows_of_somebody_else_is_not_taken() {
    let database = Database::create().await;
    let raw = database.raw().await;
    raw.batch_execute(
        "CREATE TABLE page_view_counts (window_start timestamptz, window_end timestamptz, page_url text,
            view_count bigint, PRIMARY KEY (page_url, window_start));
         INSERT INTO page_view_counts VALUES (now(), now(), '/', 1)",
    )
    .await
    .unwrap();
    let mut session = database.connect().await;
    session.migrate(Ddl::Apply).await.unwrap();
    let plan = plan(vec![page_views()]);
    let conflict = session.claim(&plan, &ids(), Ddl::Apply).await.unwrap_err();
    assert!(conflict.to_string().contains("public.page_view_counts holds rows"), "{conflict}");
    raw.batch_execute("TRUNCATE page_view_counts").await.unwrap();
    session.claim(&plan, &ids(), Ddl::Apply).await.unwrap();
    raw.batch_execute("INSERT INTO page_view_counts VALUES (now(), now(), '/', 1)").await.unwrap();
    session.claim(&plan, &ids(), Ddl::Apply).await.unwrap();
}

#[tokio::test]
async fn another_cluster_is_another_log() {
    let database = Database::create().await;
    let plan = plan(vec![page_views()]);
    let (mut session, _) = started(&database, &plan, &[]).await;
    let mut elsewhere = ids();
    elsewhere.cluster_id = "cluster-2".to_owned();
    let error = session.claim(&plan, &elsewhere, Ddl::Apply).await.unwrap_err();
    assert!(matches!(error, PostgresError::LogIdentityChanged { .. }), "{error}");
    assert_eq!(error.recovery(), Recovery::Corrupt);
}

#[tokio::test]
async fn an_existing_table_without_zone_is_written_in_utc() {
    let database = Database::create().await;
    let raw = database.raw().await;
    raw.batch_execute(&format!("ALTER DATABASE {} SET TimeZone = 'America/New_York'", database.name))
        .await
        .unwrap();
    raw.batch_execute(
        "CREATE TABLE page_view_counts (id bigserial, page_url varchar NOT NULL, view_count bigint,
            window_start timestamp, window_end timestamp NOT NULL, PRIMARY KEY (page_url, window_start))",
    )
    .await
    .unwrap();
    let aggregate = page_views();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0]).await;
    for (prev, next) in [(0, 1), (1, 2)] {
        TestEpoch::of(vec![step(0, epochs[0], prev, next)])
            .add(&aggregate, vec![delta(61, "/", vec![Accumulator::Count(2)])])
            .run(&mut session)
            .await
            .unwrap();
    }
    let row = "SELECT concat_ws(' ', window_start, window_end, page_url, view_count) FROM page_view_counts";
    assert_eq!(database.text(row).await, "1970-01-01 01:01:00 1970-01-01 01:02:00 / 4");
}

#[tokio::test]
async fn every_fault_of_a_table_is_named_at_once() {
    let database = Database::create().await;
    let raw = database.raw().await;
    raw.batch_execute(
        "CREATE TABLE page_view_counts (window_start date, window_end timestamptz, view_count integer,
            total numeric NOT NULL, extra text NOT NULL, PRIMARY KEY (window_start))",
    )
    .await
    .unwrap();
    let aggregate = per_page(
        "page_view_counts",
        &[("view_count", Function::Count, DataType::Bigint), ("total", Function::Sum, DataType::Numeric)],
    );
    let mut second = per_page("absent", &[("n", Function::Count, DataType::Bigint)]);
    second.name = "absent".into();
    let mut plan = plan(vec![aggregate, second]);
    plan.dead_letter_table = Some("progress".to_owned());
    let mut session = database.connect().await;
    session.migrate(Ddl::Apply).await.unwrap();
    let error = session.claim(&plan, &ids(), Ddl::CheckOnly).await.unwrap_err();
    let PostgresError::Tables(faults) = error else { panic!("{error}") };
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "public.page_view_counts: column window_start is date, not timestamptz",
            "public.page_view_counts: column page_url text is missing",
            "public.page_view_counts: column view_count is integer, not bigint",
            "public.page_view_counts: column total is not null, but its value can be null",
            "public.page_view_counts: column extra is not of this pipeline, not null and has no default",
            "public.page_view_counts: primary key is (window_start), not (page_url, window_start)",
            "public.absent: does not exist",
            "millstream.\"progress\": is no dead-letter table; choose another name",
        ]
    );
}

#[tokio::test]
async fn a_dead_letter_table_of_another_name_is_made() {
    let database = Database::create().await;
    let mut plan = plan(vec![page_views()]);
    plan.dead_letter_table = Some("Bad \"data\"".to_owned());
    let (mut session, _) = started(&database, &plan, &[]).await;
    session.claim(&plan, &ids(), Ddl::CheckOnly).await.unwrap();
    assert_eq!(database.text("SELECT count(*)::text FROM millstream.\"Bad \"\"data\"\"\"").await, "0");
}

#[tokio::test]
async fn the_printed_grants_are_enough() {
    let database = Database::create().await;
    let role = format!("role_{}", uuid::Uuid::new_v4().simple());
    let aggregate = per_page(
        "page_view_counts",
        &[
            ("view_count", Function::Count, DataType::Bigint),
            ("mean", Function::Avg, DataType::Double),
            ("users", Function::ApproxDistinct, DataType::Bigint),
        ],
    );
    let plan = plan(vec![aggregate.clone()]);
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
    session.mark_bootstrapped(APPLICATION, &task(0), owner_epoch).await.unwrap();
    session.terminate_recorded_backend(APPLICATION, &task(0)).await.unwrap();
    let mean = Accumulator::Integer { sum: 3, count: 2 };
    let mut epoch = TestEpoch::of(vec![step(0, owner_epoch, 0, 5)])
        .add(&aggregate, vec![delta(1, "/", vec![Accumulator::Count(2), mean, Accumulator::Distinct(None)])]);
    epoch.tasks[0].watermark = Some(EventTime(200 * MINUTE));
    epoch.dead_letters.push(DeadLetter {
        tp: task(0),
        offset: Offset(0),
        reason: "NULL_VALUE".to_owned(),
        detail: String::new(),
        key: None,
        value: None,
        value_bytes: None,
        headers: Vec::new(),
        record_timestamp: None,
    });
    assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Committed);
    let owned = [Owned { tp: task(0), owner_epoch, next: Offset(5) }];
    session.lock_progress(APPLICATION, &[task(0)]).await.unwrap();
    assert_eq!(session.check_outputs_only(APPLICATION, &owned).await.unwrap().len(), 1);
    assert_eq!(session.settle(APPLICATION, &owned).await.unwrap().len(), 1);
    assert_eq!(session.mark_caught_up(APPLICATION, &owned).await.unwrap().len(), 1);
    drop(session);
    raw.batch_execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn settings_and_logins_that_cannot_work_are_told_apart() {
    let database = Database::create().await;
    let wrong = database.try_connect(Some("nobody_of_that_name")).await.err().unwrap();
    assert!(matches!(wrong, PostgresError::AuthFailed { .. }), "{wrong}");
    assert!(!wrong.to_string().contains(":nobody_of_that_name@"), "{wrong}");
    let raw = database.raw().await;
    let settings = format!(
        "ALTER DATABASE {0} SET synchronous_commit = off; ALTER DATABASE {0} SET default_transaction_isolation = serializable",
        database.name
    );
    raw.batch_execute(&settings).await.unwrap();
    let mut session = database.connect().await;
    session.migrate(Ddl::Apply).await.unwrap();
    raw.batch_execute(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name))
        .await
        .unwrap();
    let standby = database.try_connect(None).await.err().unwrap();
    assert!(matches!(standby, PostgresError::NotReadWrite { .. }), "{standby}");
    assert_eq!(standby.recovery(), Recovery::Retry);
}
