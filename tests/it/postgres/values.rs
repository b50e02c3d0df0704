//! Exact distinct counts and percentiles: what partitions bring is one set, and one order.

use std::sync::Arc;

use millstream::postgres::{CommitOutcome, ResultDelta, Step};
use millstream_core::aggregate::{Accumulator, Quantiles};
use millstream_core::model::{DataType, EventTime};
use millstream_core::pipeline::{Aggregate, Function, Quantile};

use super::fixture::*;

const ROWS: &str =
    "SELECT concat_ws(' ', extract(minute from window_start), page_url, n, users, round(half::numeric, 1),
        round(most::numeric, 1))
    FROM visits ORDER BY window_start, page_url";

fn visits() -> Aggregate {
    let percentile = |q: f64| Function::ApproxPercentile(Quantile::new(q).expect("from 0 to 1"));
    per_page(
        "visits",
        &[
            ("n", Function::Count, DataType::Bigint),
            ("users", Function::CountDistinct, DataType::Bigint),
            ("half", percentile(0.5), DataType::Double),
            ("most", percentile(0.9), DataType::Double),
        ],
    )
}

/// What an epoch has seen of a page in a minute: users, and how long their visits took.
fn seen((minute, page): (i64, &str), users: std::ops::Range<u128>, times: &[f64]) -> ResultDelta {
    let mut quantiles = Quantiles::default();
    times.iter().for_each(|time| quantiles.add(*time));
    let quantiles = || Accumulator::Quantiles(quantiles.clone());
    let n = Accumulator::Count(1);
    delta(minute, page, vec![n, Accumulator::Values(users.collect()), quantiles(), quantiles()])
}

#[tokio::test]
async fn values_count_once_and_percentiles_are_those_of_all() {
    let database = Database::create().await;
    let aggregate = visits();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let tens: Vec<f64> = (1..=9).map(|n| f64::from(n) * 10.0).collect();
    let first = TestEpoch::of(vec![step(0, epochs[0], 0, 1)])
        .add(&aggregate, vec![seen((1, "/"), 0..100, &tens), seen((1, "/a"), 0..0, &[])]);
    first.run(&mut session).await.unwrap();
    assert_eq!(database.text(ROWS).await, "1 / 1 100 50.2 80.5\n1 /a 1 0");

    let second = TestEpoch::of(vec![step(1, epochs[1], 0, 1)])
        .add(&aggregate, vec![seen((1, "/"), 50..150, &[10.0; 11]), seen((1, "/a"), 7..8, &[-5.0])]);
    second.run(&mut session).await.unwrap();
    assert_eq!(database.text(ROWS).await, "1 / 2 150 10.1 70.5\n1 /a 2 1 -5.0 -5.0");

    // Nothing new: the numbers stay.
    let third =
        TestEpoch::of(vec![step(0, epochs[0], 1, 2)]).add(&aggregate, vec![seen((1, "/"), 149..150, &[])]);
    third.run(&mut session).await.unwrap();
    assert_eq!(database.text(ROWS).await, "1 / 3 150 10.1 70.5\n1 /a 2 1 -5.0 -5.0");
}

#[tokio::test]
async fn more_values_than_one_statement_takes_are_all_counted() {
    let database = Database::create().await;
    let aggregate = visits();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0]).await;
    let rows = vec![seen((1, "/"), 0..15_000, &[]), seen((1, "/a"), 0..15_000, &[])];
    TestEpoch::of(vec![step(0, epochs[0], 0, 1)]).add(&aggregate, rows).run(&mut session).await.unwrap();
    assert_eq!(database.text(ROWS).await, "1 / 1 15000\n1 /a 1 15000");
}

#[tokio::test]
async fn two_workers_at_one_new_row_count_what_both_have_seen() {
    let database = Arc::new(Database::create().await);
    let aggregate = visits();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let held = hold_commit(&database, Step::RowsMerged, {
        let (aggregate, owner_epoch) = (aggregate.clone(), epochs[0]);
        async move |session, hook| {
            let epoch = TestEpoch::of(vec![step(0, owner_epoch, 0, 1)])
                .add(&aggregate, vec![seen((1, "/"), 0..100, &[1.0, 1.0])]);
            session.commit_epoch(&epoch.commit(), hook).await
        }
    })
    .await;
    let epoch = TestEpoch::of(vec![step(1, epochs[1], 0, 1)])
        .add(&aggregate, vec![seen((1, "/"), 90..130, &[100.0])]);
    let (second, first) = tokio::join!(epoch.run(&mut session), held.finish_once_waited_for());
    assert_eq!([first.unwrap(), second.unwrap()], [CommitOutcome::Committed, CommitOutcome::Committed]);
    assert_eq!(database.text(ROWS).await, "1 / 2 130 1.0 1.0");
}

#[tokio::test]
async fn what_stands_behind_a_number_goes_once_every_partition_has_passed_its_window() {
    let database = Database::create().await;
    let aggregate = visits();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let kept = "SELECT concat_ws(' ', (SELECT count(*) FROM millstream.distinct_values),
         (SELECT count(*) FROM millstream.quantiles))";
    let mut commit = async |partition: usize, prev: i64, watermark: i64, row: ResultDelta| {
        let mut task = step(partition as i32, epochs[partition], prev, prev + 1);
        task.watermark = Some(EventTime(watermark * MINUTE));
        let epoch = TestEpoch::of(vec![task]).add(&aggregate, vec![row]);
        assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Committed);
        database.text(kept).await
    };
    assert_eq!(commit(0, 0, 1, seen((1, "/"), 0..30_000, &[1.0])).await, "30000 2");
    assert_eq!(commit(1, 0, 1, seen((1, "/"), 0..10, &[1.0])).await, "30000 2");
    // The window of minute 1 ends at 2 and takes records for an hour more.
    let late = || seen((90, "/"), 0..10, &[1.0]);
    assert_eq!(commit(0, 1, 90, late()).await, "30010 4", "partition 1 may still bring records of minute 1");
    assert_eq!(commit(1, 1, 61, late()).await, "30010 4", "a watermark of 61 minutes is not yet 62");
    assert_eq!(commit(1, 2, 62, late()).await, "20010 2", "at most 10,000 an epoch");
    assert_eq!(commit(1, 3, 62, late()).await, "10010 2", "more with the next");
    assert_eq!(commit(1, 4, 62, late()).await, "10 2", "the rest with that after it");
    let row =
        "SELECT users::text FROM visits WHERE window_start = 'epoch'::timestamptz + interval '1 minute'";
    assert_eq!(database.text(row).await, "30000", "its number stays");
}
