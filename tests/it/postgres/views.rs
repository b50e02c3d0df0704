//! The dashboards' views over the tables of the pipelines they are shipped with.

use std::path::Path;

use millstream::postgres::{ClusterIdentity, Ddl};
use millstream_core::aggregate::{Accumulator, Sketch};
use millstream_core::engine::PartitionSketch;
use millstream_core::model::{EventTime, Offset, Partition, Span, TopicPartition, Value, WindowSpan};
use millstream_core::pipeline::{Plan, load};

use super::fixture::*;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn plan_of(name: &str) -> Plan {
    load(&file(name), &|_| None).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"))
}

/// The database of a pipeline that has read two views of two pages by three users.
async fn database_of(pipeline: &Plan) -> Database {
    let database = Database::create().await;
    let mut session = database.connect().await;
    let partitions = [(pipeline.sources[0].topic.clone(), 1)].into();
    let ids = ClusterIdentity { cluster_id: "cluster-1".to_owned(), partitions };
    session.migrate(Ddl::Apply).await.unwrap();
    session.claim(pipeline, &ids, Ddl::Apply).await.unwrap();
    let tp = TopicPartition::new(pipeline.sources[0].topic.clone(), 0);
    session.insert_bootstrap(APPLICATION, &tp, "topic-id", Offset(0), pipeline.hash).await.unwrap();
    let owner_epoch = session.take(APPLICATION, &tp, "worker").await.unwrap().unwrap().owner_epoch;
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
