//! The dashboards' views over the tables of the pipelines they are shipped with.

use std::path::Path;

use millstream::postgres::{ClusterIdentity, Ddl, Session, SessionDelta, SessionRow};
use millstream_core::aggregate::{Accumulator, Sketch};
use millstream_core::engine::{PartitionSketch, SessionChange};
use millstream_core::model::{
    EventTime, Offset, OwnerEpoch, Partition, Span, TopicPartition, Value, WindowSpan,
};
use millstream_core::pipeline::{Plan, load};

use super::fixture::*;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn plan_of(name: &str) -> Plan {
    let plan = load(&file(name), &|_| None).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
    Plan { application: APPLICATION.into(), ..plan }
}

/// A session on a new database that has claimed a pipeline's outputs and owns the one partition of its topic.
async fn claimed(database: &Database, pipeline: &Plan) -> (Session, TopicPartition, OwnerEpoch) {
    let mut session = database.connect().await;
    let partitions = [(pipeline.sources[0].topic.clone(), 1)].into();
    let ids = ClusterIdentity { cluster_id: "cluster-1".to_owned(), partitions };
    session.migrate(Ddl::Apply).await.unwrap();
    session.claim(pipeline, &ids, Ddl::Apply).await.unwrap();
    let tp = TopicPartition::new(pipeline.sources[0].topic.clone(), 0);
    session.insert_bootstrap(APPLICATION, &tp, "topic-id", Offset(0), pipeline.hash).await.unwrap();
    let owner_epoch = session.take(APPLICATION, &tp, "worker").await.unwrap().unwrap().owner_epoch;
    (session, tp, owner_epoch)
}

/// The database of a pipeline that has read two views of two pages by three users.
async fn database_of(pipeline: &Plan) -> Database {
    let database = Database::create().await;
    let (mut session, tp, owner_epoch) = claimed(&database, pipeline).await;
    let mut users = Sketch::default();
    (0..3).for_each(|n| users.add(&Value::Bigint(n)));
    let mut five = delta(1, "", vec![Accumulator::Distinct(None)]);
    five.key.clear();
    five.window = WindowSpan { start: EventTime(MINUTE), end: EventTime(MINUTE).plus(Span::from_secs(300)) };
    five.sketches.push(PartitionSketch { column: 0, partition: Partition(0), sketch: users });
    let views = |minute, page, n| delta(minute, page, vec![Accumulator::Count(n)]);
    let mut task = step(0, owner_epoch, 0, 9);
    task.tp = tp;
    (task.counts.accepted, task.counts.dead) = (8, 1);
    let by_name = |name: &str| pipeline.aggregates.iter().find(|a| *a.name == *name).expect(name);
    TestEpoch::of(vec![task])
        .add(by_name("page_view_counts"), vec![views(1, "/a", 4), views(1, "/b", 1), views(2, "/a", 2)])
        .add(by_name("active_users"), vec![five])
        .run(&mut session)
        .await
        .unwrap();
    database
}

#[tokio::test]
async fn the_dashboards_have_their_answers() {
    for name in ["user-activity.yaml", "enriched-activity.yaml"] {
        let database = database_of(&plan_of(name)).await;
        let sql = file("views/activity.sql");
        database.raw().await.batch_execute(&sql).await.unwrap();
        database.raw().await.batch_execute(&sql).await.unwrap();
        let check = async |columns: &str, view: &str, expected: &str| {
            let sql = format!("SELECT concat_ws(' ', {columns}) FROM {view}");
            assert_eq!(database.text(&sql).await, expected, "{name}: {view}");
        };
        check(
            "extract(minute from window_start), page_url, view_count",
            "top_windows",
            "1 /a 4\n2 /a 2\n1 /b 1",
        )
        .await;
        check("extract(minute from window_start), active_user_count, final", "latest_active_users", "1 3 f")
            .await;
        check(
            "page_views, pages, extract(minute from last_view), top_page, top_page_views, peak_active_users",
            "executive_summary",
            "7 2 3 /a 6 3",
        )
        .await;
        check(
            "application, partitions, read, accepted, duplicate, dead, too_late, balanced, caught_up,
             extract(minute from watermark), seconds_since_commit < 3600",
            "pipeline_health",
            "web-analytics 1 9 8 0 1 0 t f 10 t",
        )
        .await;
    }
}

#[tokio::test]
async fn questions_about_sessions_have_their_answers() {
    let pipeline = plan_of("user-sessions.yaml");
    let database = Database::create().await;
    let (mut session, tp, owner_epoch) = claimed(&database, &pipeline).await;
    let visit = |user: &str, start: i64, minutes: i64, (events, views, pages): (i64, i64, i64)| {
        let at = |minute: i64| EventTime(minute * MINUTE);
        let mut row = vec![Value::Timestamp(at(start)), Value::Timestamp(at(start + minutes))];
        row.extend([minutes * 60, events, views, pages].map(Value::Bigint));
        let change = SessionChange { key: [].into(), start: at(start), row: Some(row) };
        SessionRow::new(change, vec![Value::Text(user.to_owned().into())])
    };
    let rows = vec![
        visit("a", 10, 0, (1, 1, 1)),
        visit("a", 100, 20, (8, 5, 3)),
        visit("b", 200, 10, (4, 2, 2)),
        visit("b", 1_500, 2, (2, 0, 0)),
    ];
    let mut task = step(0, owner_epoch, 0, 15);
    task.tp = tp;
    // Less an hour of lateness, and two gaps of half an hour: what ended by minute 150 is final.
    task.watermark = Some(EventTime(270 * MINUTE));
    let mut epoch = TestEpoch::of(vec![task]);
    epoch.sessions = vec![SessionDelta { aggregate: &pipeline.aggregates[0], rows }];
    epoch.run(&mut session).await.unwrap();
    for name in ["views/sessions.sql", "views/sessions.sql", "views/activity.sql"] {
        database.raw().await.batch_execute(&file(name)).await.unwrap();
    }
    let check = async |columns: &str, view: &str, expected: &str| {
        let sql = format!("SELECT concat_ws(' ', {columns}) FROM {view}");
        assert_eq!(database.text(&sql).await, expected, "{view}");
    };
    let minute = "extract(epoch from session_start_time)::bigint / 60";
    check(&format!("user_id, {minute}, final"), "latest_sessions", "b 1500 f\nb 200 f\na 100 t\na 10 t")
        .await;
    check(&format!("user_id, {minute}, page_views"), "user_sessions_latest", "a 100 5\nb 1500 0").await;
    check(
        "day, sessions, users, without_duration, mean_seconds, median_seconds, p95_seconds, longest_seconds",
        "session_durations",
        "1970-01-02 1 1 0 120.0 120 120 120\n1970-01-01 3 2 1 600.0 600 1200 1200",
    )
    .await;
    check(
        "day, sessions, events, page_views, page_views_per_session, pages_per_session, bounces, bounce_percent",
        "session_engagement",
        "1970-01-02 1 2 0 0.00 0.00 1 100.0\n1970-01-01 3 13 8 2.67 2.00 1 33.3",
    )
    .await;
    check(
        "user_id, sessions, page_views, seconds, mean_seconds, extract(epoch from last_seen)::bigint / 60",
        "user_engagement",
        "a 2 6 1200 600.0 120\nb 2 2 720 360.0 1502",
    )
    .await;
}
