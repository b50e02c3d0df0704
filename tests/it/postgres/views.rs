//! The dashboards' views over the tables of the pipelines they are shipped with.

use std::collections::BTreeSet;
use std::path::Path;

use millstream::postgres::{
    ClusterIdentity, Ddl, ResultDelta, Session, SessionDelta, SessionRow, TaskCommit,
};
use millstream_core::aggregate::{Accumulator, Sketch};
use millstream_core::engine::{AggregateCounts, PartitionSketch, SessionChange};
use millstream_core::model::{
    EventTime, Offset, OwnerEpoch, Partition, Span, TopicPartition, Value, WindowSpan,
};
use millstream_core::pipeline::{Plan, load};

use super::fixture::*;

const PIPELINES: [&str; 2] = ["user-activity.yaml", "enriched-activity.yaml"];
/// Of both partitions. Results are final through the smaller one less the allowed hour: through 00:06.
const WATERMARKS: [i64; 2] = [70 * MINUTE, 66 * MINUTE];
/// Too late for page views and for active users, by partition.
const TOO_LATE: [(i64, i64); 2] = [(2, 1), (1, 0)];
const TABLE_WITHOUT_ZONES: &str =
    "CREATE TABLE active_users (window_start timestamp PRIMARY KEY, window_end timestamp NOT NULL,
        active_user_count bigint NOT NULL)";
/// As the systems have it that made a table of sessions before.
const SESSIONS_WITHOUT_ZONES: &str = "CREATE TABLE user_sessions (user_id text, session_start_time timestamp,
        session_end_time timestamp NOT NULL, session_duration_seconds bigint NOT NULL,
        PRIMARY KEY (user_id, session_start_time))";
const START_MINUTE: &str = "extract(epoch from session_start_time)::bigint / 60";
/// Another application with a table of the same name elsewhere, whose results are final through the year 2099.
const ANOTHER_APPLICATION: &str = "INSERT INTO millstream.outputs VALUES ('table', 'other.active_users', 'other');
    INSERT INTO millstream.aggregates VALUES ('other', 'active_users', 'active_users', 'other', 1, '0 s', '30 s');
    INSERT INTO millstream.progress (application, topic, partition, topic_id, bootstrapped, start_offset, prev, next,
        owner_epoch, epoch, hash, watermark, settled, plan_hash)
    VALUES ('other', 'other', 0, 'id', true, 0, 0, 0, 0, 0, 0, '2099-01-01T00:00:00Z', true, 0)";

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Under the name that the fixture's epochs carry.
fn plan_of(name: &str) -> Plan {
    let plan = load(&file(name), &|_| None).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
    Plan { application: APPLICATION.into(), ..plan }
}

/// A session on a new database that has claimed a pipeline's outputs and owns the one partition of its topic.
async fn claimed(database: &Database, pipeline: &Plan) -> (Session, TopicPartition, OwnerEpoch) {
    let mut session = database.connect().await;
    let partitions = [(pipeline.sources[0].state_topic().clone(), 1)].into();
    let ids = ClusterIdentity { cluster_id: "cluster-1".to_owned(), partitions, written: BTreeSet::new() };
    session.migrate(Ddl::Apply).await.unwrap();
    session.claim(pipeline, &ids, Ddl::Apply).await.unwrap();
    let tp = TopicPartition::new(pipeline.sources[0].state_topic().clone(), 0);
    session.insert_bootstrap(APPLICATION, &tp, "topic-id", Offset(0), pipeline.hash).await.unwrap();
    let owner_epoch = session.take(APPLICATION, &tp, "worker").await.unwrap().unwrap().owner_epoch;
    (session, tp, owner_epoch)
}

/// The database of a pipeline that has read views of two pages by three users from two partitions, after `before` was
/// run there.
async fn database_of(pipeline: &Plan, before: &str) -> Database {
    let database = Database::create().await;
    database.raw().await.batch_execute(before).await.unwrap();
    let mut session = database.connect().await;
    let topic = pipeline.sources[0].state_topic().clone();
    let partitions = [(topic.clone(), 2)].into();
    let ids = ClusterIdentity { cluster_id: "cluster-1".to_owned(), partitions, written: BTreeSet::new() };
    session.migrate(Ddl::Apply).await.unwrap();
    session.claim(pipeline, &ids, Ddl::Apply).await.unwrap();
    let mut tasks = Vec::new();
    for number in 0..2 {
        let tp = TopicPartition::new(topic.clone(), number);
        session.insert_bootstrap(APPLICATION, &tp, "topic-id", Offset(0), pipeline.hash).await.unwrap();
        let owner_epoch = session.take(APPLICATION, &tp, "worker").await.unwrap().unwrap().owner_epoch;
        tasks.push(TaskCommit { tp, ..counted(step(number, owner_epoch, 0, 9)) });
    }
    let views = |minute, page, n| delta(minute, page, vec![Accumulator::Count(n)]);
    let by_name = |name: &str| pipeline.aggregates.iter().find(|a| *a.name == *name).expect(name);
    TestEpoch::of(tasks)
        .add(by_name("page_view_counts"), vec![views(1, "/a", 4), views(1, "/b", 1), views(2, "/a", 2)])
        .add(by_name("active_users"), vec![users(1, 3), users(2, 2)])
        .run(&mut session)
        .await
        .unwrap();
    database.raw().await.batch_execute(ANOTHER_APPLICATION).await.unwrap();
    database
}

fn counted(mut task: TaskCommit) -> TaskCommit {
    let number = task.tp.partition.0 as usize;
    task.watermark = Some(EventTime(WATERMARKS[number]));
    (task.counts.accepted, task.counts.dead) = (8, 1);
    let (views, users) = TOO_LATE[number];
    for (name, too_late) in [("page_view_counts", views), ("active_users", users)] {
        let counts = AggregateCounts { matched: 8, counted: 8 - too_late, too_late, partly_late: 0 };
        task.counts.aggregates.insert(name.to_owned(), counts);
    }
    task
}

/// So many users in the five minutes from a minute on.
fn users(minute: i64, count: i64) -> ResultDelta {
    let mut sketch = Sketch::default();
    (0..count).for_each(|n| sketch.add(&Value::Bigint(n)));
    let mut five = delta(minute, "", vec![Accumulator::Distinct(None)]);
    five.key.clear();
    let start = EventTime(minute * MINUTE);
    five.window = WindowSpan { start, end: start.plus(Span::from_secs(300)) };
    five.sketches.push(PartitionSketch { column: 0, partition: Partition(0), sketch });
    five
}

/// What a view shows, a line a row.
async fn shown(database: &Database, columns: &str, view: &str) -> String {
    database.text(&format!("SELECT concat_ws(' ', {columns}) FROM {view}")).await
}

async fn health(database: &Database, columns: &str) -> String {
    shown(database, columns, &format!("pipeline_health WHERE application = '{APPLICATION}'")).await
}

#[tokio::test]
async fn the_dashboards_have_their_answers() {
    for name in PIPELINES {
        let database = database_of(&plan_of(name), "").await;
        let sql = file("views/activity.sql");
        // As it was before it had these columns.
        database.raw().await.batch_execute("CREATE VIEW pipeline_health AS SELECT 1 AS late").await.unwrap();
        database.raw().await.batch_execute(&sql).await.unwrap();
        database.raw().await.batch_execute(&sql).await.unwrap();
        for (columns, view, expected) in [
            (
                "extract(minute from window_start), page_url, view_count",
                "top_windows",
                "1 /a 4\n2 /a 2\n1 /b 1",
            ),
            (
                "page_views, pages, extract(minute from last_view), top_page, top_page_views, peak_active_users",
                "executive_summary",
                "7 2 3 /a 6 3",
            ),
        ] {
            assert_eq!(shown(&database, columns, view).await, expected, "{name}: {view}");
        }
        let counts = "partitions, read, accepted, duplicate, dead, balanced, too_late";
        let expected = r#"2 18 16 0 2 t {"active_users": 1, "page_view_counts": 3}"#;
        assert_eq!(health(&database, counts).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_row_is_final_whatever_the_readers_time_zone_and_the_columns_type() {
    let plan = plan_of(PIPELINES[0]);
    for before in ["", TABLE_WITHOUT_ZONES] {
        let database = database_of(&plan, before).await;
        let owner = database.raw().await;
        owner.batch_execute(&file("views/activity.sql")).await.unwrap();
        let finals = || {
            shown(
                &database,
                "extract(minute from window_end), active_user_count, final",
                "latest_active_users",
            )
        };
        for zone in ["UTC", "Asia/Tokyo", "America/New_York"] {
            let sql = format!("ALTER DATABASE {} SET timezone TO '{zone}'", database.name);
            owner.batch_execute(&sql).await.unwrap();
            assert_eq!(finals().await, "7 2 f\n6 3 t", "{zone} {before}");
        }
        owner
            .batch_execute("UPDATE millstream.progress SET watermark = NULL WHERE partition = 1")
            .await
            .unwrap();
        assert_eq!(finals().await, "7 2 f\n6 3 f", "{before}");
    }
}

#[tokio::test]
async fn health_tells_a_processor_that_is_alive_from_results_that_move() {
    let database = database_of(&plan_of(PIPELINES[0]), "").await;
    let owner = database.raw().await;
    owner.batch_execute(&file("views/activity.sql")).await.unwrap();
    let caught_up = || health(&database, "caught_up");
    let update = async |set: &str| {
        let sql = format!("UPDATE millstream.progress SET {set}");
        owner.batch_execute(&sql).await.unwrap();
    };

    // Nothing came for an hour, and both partitions stand at the end of their logs.
    update("commit_time = now() - interval '1 hour', caught_up_since = now() - interval '1 hour'").await;
    let moved = "seconds_since_commit BETWEEN 3595 AND 3700, last_seen > now() - interval '1 minute',
        last_seen - last_commit > interval '59 minutes'";
    assert_eq!(health(&database, moved).await, "t t t");
    assert_eq!(caught_up().await, "t");

    update("caught_up_since = NULL WHERE partition = 1").await;
    assert_eq!(caught_up().await, "f", "one is behind");
    update("caught_up_since = now()").await;
    update("updated_at = now() - interval '1 hour' WHERE partition = 1").await;
    assert_eq!(caught_up().await, "f", "nobody looks after one");

    let watermark = "watermark AT TIME ZONE 'UTC'";
    assert_eq!(health(&database, watermark).await, "1970-01-01 01:06:00");
    update("watermark = NULL WHERE partition = 0").await;
    assert_eq!(health(&database, watermark).await, "", "one has no watermark");
}

/// The database of a pipeline that has written four sessions of two users, after `before` was run there.
async fn visited(pipeline: &Plan, before: &str) -> Database {
    let database = Database::create().await;
    database.raw().await.batch_execute(before).await.unwrap();
    let (mut session, tp, owner_epoch) = claimed(&database, pipeline).await;
    let aggregate = pipeline.aggregates.iter().find(|a| *a.name == *"user_sessions").expect("sessions");
    let visit = |user: &str, start: i64, minutes: i64, (events, views, pages): (i64, i64, i64)| {
        let at = |minute: i64| EventTime(minute * MINUTE);
        let mut row = vec![Value::Timestamp(at(start)), Value::Timestamp(at(start + minutes))];
        row.extend([minutes * 60, events, views, pages].map(Value::Bigint));
        // Behind the user; a pipeline without `select` has a session's own columns alone.
        row.truncate(aggregate.table.columns.len() - 1);
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
    epoch.sessions = vec![SessionDelta { aggregate, rows }];
    epoch.run(&mut session).await.unwrap();
    database
}

#[tokio::test]
async fn sessions_have_their_answers_whatever_the_readers_time_zone_and_the_columns_type() {
    let [activity, enriched] = PIPELINES;
    for (name, before) in [(activity, ""), (activity, SESSIONS_WITHOUT_ZONES), (enriched, "")] {
        let database = visited(&plan_of(name), before).await;
        let owner = database.raw().await;
        owner.batch_execute(&file("views/sessions.sql")).await.unwrap();
        for zone in ["UTC", "Asia/Tokyo", "America/New_York"] {
            let sql = format!("ALTER DATABASE {} SET timezone TO '{zone}'", database.name);
            owner.batch_execute(&sql).await.unwrap();
            let newest =
                shown(&database, &format!("user_id, {START_MINUTE}, final"), "latest_sessions").await;
            assert_eq!(newest, "b 1500 f\nb 200 f\na 100 t\na 10 t", "{name} {zone} {before}");
            let days = shown(&database, "day, sessions, longest_seconds", "session_durations").await;
            assert_eq!(days, "1970-01-02 1 120\n1970-01-01 3 1200", "{name} {zone} {before}");
        }
    }
}

#[tokio::test]
async fn questions_about_sessions_have_their_answers() {
    let database = visited(&plan_of("user-sessions.yaml"), "").await;
    for name in ["views/sessions.sql", "views/engagement.sql", "views/activity.sql"].repeat(2) {
        database.raw().await.batch_execute(&file(name)).await.unwrap();
    }
    let check = async |columns: &str, view: &str, expected: &str| {
        let sql = format!("SELECT concat_ws(' ', {columns}) FROM {view}");
        assert_eq!(database.text(&sql).await, expected, "{view}");
    };
    let newest = "b 1500 0 0 f\nb 200 2 2 f\na 100 3 5 t\na 10 1 1 t";
    check(&format!("user_id, {START_MINUTE}, pages, page_views, final"), "latest_sessions", newest).await;
    check(&format!("user_id, {START_MINUTE}, page_views"), "user_sessions_latest", "a 100 5\nb 1500 0").await;
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

/// Ten clicks of two users in two hours, and two visits.
async fn clicked(database: &Database, pipeline: &Plan) {
    let (mut session, tp, owner_epoch) = claimed(database, pipeline).await;
    let text = |text: &str| Value::Text(text.to_owned().into());
    let row = |minute: i64, key: &[&str], counts: &[i64]| {
        let start = EventTime(minute * MINUTE);
        ResultDelta {
            window: WindowSpan { start, end: start.plus(Span::from_secs(300)) },
            row_key: [minute.to_be_bytes().to_vec(), key.concat().into_bytes()].concat(),
            key: key.iter().map(|part| text(part)).collect(),
            accumulators: counts.iter().map(|n| Accumulator::Count(*n)).collect(),
            sketches: vec![],
        }
    };
    let urls = vec![
        row(0, &["/a"], &[5, 2]),
        row(0, &["/b"], &[3, 1]),
        row(1, &["/a"], &[9, 9]),
        row(60, &["/b"], &[2, 0]),
    ];
    let mut devices = vec![
        row(0, &["desktop", "Chrome"], &[6]),
        row(0, &["mobile", "Safari"], &[2]),
        row(60, &["mobile", "Chrome"], &[2]),
    ];
    devices.iter_mut().for_each(|row| row.accumulators.push(Accumulator::Distinct(None)));
    let users = vec![row(0, &["u1"], &[8, 1]), row(1, &["u2"], &[9, 9]), row(60, &["u2"], &[2, 2])];
    let visit = |user: &str, minutes: i64, (events, pages): (i64, i64)| {
        let times = [0, minutes].map(|minute| Value::Timestamp(EventTime(minute * MINUTE)));
        let counts = [minutes * 60, events, pages].map(Value::Bigint);
        let row = Some(times.into_iter().chain(counts).collect());
        let change = SessionChange { key: [].into(), start: EventTime(0), row };
        SessionRow::new(change, vec![text(user), text("s")])
    };
    let mut task = step(0, owner_epoch, 0, 10);
    task.tp = tp;
    let late = AggregateCounts { matched: 8, counted: 7, too_late: 1, partly_late: 2 };
    task.counts.aggregates.insert("url_counts".to_owned(), late);
    let by_name = |name: &str| pipeline.aggregates.iter().find(|a| *a.name == *name).expect(name);
    let mut epoch = TestEpoch::of(vec![task])
        .add(by_name("url_counts"), urls)
        .add(by_name("device_counts"), devices)
        .add(by_name("user_activity"), users);
    let rows = vec![visit("u1", 4, (8, 2)), visit("u2", 0, (2, 1))];
    epoch.sessions = vec![SessionDelta { aggregate: by_name("click_sessions"), rows }];
    epoch.run(&mut session).await.unwrap();
}

#[tokio::test]
async fn questions_about_clicks_have_their_answers() {
    let database = Database::create().await;
    clicked(&database, &plan_of("clickstream-10m.yaml")).await;
    for _ in 0..2 {
        database.raw().await.batch_execute(&file("views/clicks.sql")).await.unwrap();
    }
    let minute = "extract(epoch from window_start)::bigint / 60";
    let hour = "extract(hour from hour at time zone 'UTC')";
    for (columns, view, expected) in [
        ("url, hits, views", "top_urls", "/a 5 2\n/b 5 1"),
        (&*format!("{minute}, hits"), "peaks", "1 9\n0 8\n60 2"),
        ("hour, hits, percent", "hours_of_day", "0 8 80.0\n1 2 20.0"),
        ("device, events, percent", "device_split", "desktop 6 60.0\nmobile 4 40.0"),
        ("browser, events, percent", "browser_split", "Chrome 8 80.0\nSafari 2 20.0"),
        (
            &*format!("{hour}, device, events, percent"),
            "device_trend",
            "0 desktop 6 75.0\n0 mobile 2 25.0\n1 mobile 2 100.0",
        ),
        (&*format!("{minute}, users, events"), "active_users_by_window", "60 1 2\n1 1 9\n0 1 8"),
        ("user_id, events, clicks", "most_active_users", "u1 8 1\nu2 2 2"),
        (
            "day, visits, users, mean_seconds, median_seconds, events_per_visit, pages_per_visit, bounce_percent",
            "visit_engagement",
            "1970-01-01 2 2 120.0 0 5.00 1.50 50.0",
        ),
        ("aggregate, matched, too_late, partly_late", "late_arrivals", "url_counts 8 1 2"),
    ] {
        assert_eq!(shown(&database, columns, view).await, expected, "{view}");
    }
}
