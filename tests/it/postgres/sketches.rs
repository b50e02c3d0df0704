//! Distinct counts: a sketch per partition, and one number for all of them.

use std::sync::Arc;

use millstream::postgres::{CommitOutcome, ResultDelta, Step};
use millstream_core::aggregate::{Accumulator, Sketch};
use millstream_core::engine::PartitionSketch;
use millstream_core::model::{DataType, Partition, Value};
use millstream_core::pipeline::{Aggregate, Function};

use super::fixture::*;

const ROWS: &str =
    "SELECT concat_ws(' ', extract(minute from window_start), page_url, n, users, quick) FROM distinct_users
    ORDER BY window_start, page_url";

pub fn distinct_users() -> Aggregate {
    per_page(
        "distinct_users",
        &[
            ("n", Function::Count, DataType::Bigint),
            ("users", Function::ApproxDistinct, DataType::Bigint),
            ("quick", Function::ApproxDistinct, DataType::Bigint),
        ],
    )
}

fn users(numbers: std::ops::Range<i64>) -> Sketch {
    let mut sketch = Sketch::default();
    numbers.for_each(|n| sketch.add(&Value::Bigint(n)));
    sketch
}

/// What a partition brings: rows it adds, the users it has seen in all, and the quick ones among them.
pub fn seen(
    (minute, page): (i64, &str),
    partition: i32,
    all: std::ops::Range<i64>,
    quick: std::ops::Range<i64>,
) -> ResultDelta {
    let none = || Accumulator::Distinct(None);
    let mut delta = delta(minute, page, vec![Accumulator::Count(1), none(), none()]);
    for (column, numbers) in [(1, all), (2, quick)] {
        if !numbers.is_empty() {
            let (partition, sketch) = (Partition(partition), users(numbers));
            delta.sketches.push(PartitionSketch { column, partition, sketch });
        }
    }
    delta
}

#[tokio::test]
async fn a_row_is_the_estimate_of_all_partitions_together() {
    let database = Database::create().await;
    let aggregate = distinct_users();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let first = TestEpoch::of(vec![step(0, epochs[0], 0, 1)])
        .add(&aggregate, vec![seen((1, "/"), 0, 0..100, 0..0), seen((1, "/a"), 0, 0..5, 0..5)]);
    first.run(&mut session).await.unwrap();
    assert_eq!(database.text(ROWS).await, "1 / 1 100 0\n1 /a 1 5 5");

    let second = TestEpoch::of(vec![step(1, epochs[1], 0, 1)])
        .add(&aggregate, vec![seen((1, "/"), 1, 50..150, 0..7), seen((2, "/"), 1, 0..0, 0..0)]);
    second.run(&mut session).await.unwrap();
    assert_eq!(database.text(ROWS).await, "1 / 2 150 7\n1 /a 1 5 5\n2 / 1 0 0");

    // Both at once, each with what it has seen in all; and more users than a sketch remembers one by one.
    let mut both = seen((1, "/"), 0, 0..120, 0..9);
    both.sketches.extend(seen((1, "/"), 1, 50..1_000, 0..7).sketches);
    TestEpoch::of(vec![step(0, epochs[0], 1, 2), step(1, epochs[1], 1, 2)])
        .add(&aggregate, vec![both])
        .run(&mut session)
        .await
        .unwrap();
    let expected = users(0..1_000).estimate();
    assert!((970..1_030).contains(&expected), "{expected}");
    assert_eq!(database.text(ROWS).await, format!("1 / 3 {expected} 9\n1 /a 1 5 5\n2 / 1 0 0"));
    let kept = "SELECT concat_ws(' ', column_name, partition, count(*)) FROM millstream.sketches
         GROUP BY column_name, partition ORDER BY 1";
    assert_eq!(database.text(kept).await, "quick 0 2\nquick 1 1\nusers 0 2\nusers 1 1");
}

#[tokio::test]
async fn two_workers_at_one_new_row_see_each_other() {
    let database = Arc::new(Database::create().await);
    let aggregate = distinct_users();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let held = hold_commit(&database, Step::RowsMerged, {
        let (aggregate, owner_epoch) = (aggregate.clone(), epochs[0]);
        async move |session, hook| {
            let epoch = TestEpoch::of(vec![step(0, owner_epoch, 0, 1)])
                .add(&aggregate, vec![seen((1, "/"), 0, 0..100, 0..0)]);
            session.commit_epoch(&epoch.commit(), hook).await
        }
    })
    .await;
    let epoch =
        TestEpoch::of(vec![step(1, epochs[1], 0, 1)]).add(&aggregate, vec![seen((1, "/"), 1, 90..130, 0..0)]);
    let (second, first) = tokio::join!(epoch.run(&mut session), held.finish_once_waited_for());
    assert_eq!([first.unwrap(), second.unwrap()], [CommitOutcome::Committed, CommitOutcome::Committed]);
    assert_eq!(database.text(ROWS).await, "1 / 2 130 0");
}
