//! What stands behind result rows goes once no partition can change them.

use millstream::postgres::{CommitOutcome, ResultDelta, Session};
use millstream_core::aggregate::Accumulator;
use millstream_core::model::{DataType, EventTime, OwnerEpoch};
use millstream_core::pipeline::{Aggregate, Function};

use super::fixture::*;
use super::sketches::{distinct_users, seen};

/// Commits the `prev`-th step of a partition with one row, its watermark at a minute.
async fn commit(
    session: &mut Session,
    (aggregate, row): (&Aggregate, ResultDelta),
    (partition, owner_epoch): (i32, OwnerEpoch),
    (prev, watermark): (i64, i64),
) {
    let mut task = step(partition, owner_epoch, prev, prev + 1);
    task.watermark = Some(EventTime(watermark));
    let epoch = TestEpoch::of(vec![task]).add(aggregate, vec![row]);
    assert_eq!(epoch.run(session).await.unwrap(), CommitOutcome::Committed);
}

#[tokio::test]
async fn sketches_go_once_every_partition_has_passed_their_windows() {
    let database = Database::create().await;
    let aggregate = distinct_users();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let kept = "SELECT concat(count(*), ' ', count(DISTINCT row_key)) FROM millstream.sketches";
    let mut commit = async |partition: usize, prev: i64, watermark: i64, minute: i64| {
        let mut task = step(partition as i32, epochs[partition], prev, prev + 1);
        task.watermark = Some(EventTime(watermark * MINUTE));
        let row = seen((minute, "/"), partition as i32, 0..10, 0..3);
        let epoch = TestEpoch::of(vec![task]).add(&aggregate, vec![row]);
        assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Committed);
        database.text(kept).await
    };
    assert_eq!(commit(0, 0, 1, 1).await, "2 1");
    assert_eq!(commit(1, 0, 1, 1).await, "4 1");
    // The window of minute 1 ends at 2 and takes records for an hour more.
    assert_eq!(commit(0, 1, 90, 90).await, "6 2", "partition 1 may still bring records of minute 1");
    assert_eq!(commit(1, 1, 61, 2).await, "8 3", "a watermark of 61 minutes is not yet 62");
    assert_eq!(commit(1, 2, 62, 2).await, "4 2", "what was there of minute 1 is gone");
    let row = "SELECT users::text FROM distinct_users WHERE window_start = 'epoch'::timestamptz + interval '1 minute'";
    assert_eq!(database.text(row).await, "10", "its number stays");
}

#[tokio::test]
async fn a_partition_that_was_added_is_waited_for_from_its_first_row_on() {
    let database = Database::create().await;
    let aggregate = distinct_users();
    // The plan was claimed when the topic had two partitions.
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1, 2]).await;
    let counted = "SELECT partitions::text FROM millstream.aggregates";
    assert_eq!(database.text(counted).await, "3");
    let row = |minute| (&aggregate, seen((minute, "/"), 0, 0..10, 0..0));
    for partition in 0..2 {
        commit(&mut session, row(1), (partition, epochs[partition as usize]), (0, 90 * MINUTE)).await;
    }
    let kept = "SELECT count(*)::text FROM millstream.sketches";
    assert_eq!(database.text(kept).await, "1");
    commit(&mut session, row(90), (2, epochs[2]), (0, 90 * MINUTE)).await;
    assert_eq!(database.text(kept).await, "1", "only what came last");
}

#[tokio::test]
async fn a_sweep_that_was_not_whole_goes_on_with_the_next_epoch() {
    let database = Database::create().await;
    let aggregate = distinct_users();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let row = |minute| (&aggregate, seen((minute, "/"), 0, 0..1, 0..0));
    commit(&mut session, row(1), (0, epochs[0]), (0, MINUTE)).await;
    let copies = "INSERT INTO millstream.sketches
         SELECT application, aggregate, row_key || int4send(n), column_name, partition, sketch
         FROM millstream.sketches, generate_series(1, 25000) n";
    database.raw().await.execute(copies, &[]).await.unwrap();
    commit(&mut session, row(90), (1, epochs[1]), (0, 90 * MINUTE)).await;
    for (prev, left) in [(1, "15003"), (2, "5004"), (3, "4"), (4, "5")] {
        commit(&mut session, row(90 + prev), (0, epochs[0]), (prev, 90 * MINUTE)).await;
        assert_eq!(
            database.text("SELECT count(*)::text FROM millstream.sketches").await,
            left,
            "epoch {prev}"
        );
    }
}

/// A delta that comes a microsecond before the row can change no more still meets the sums behind it.
#[tokio::test]
async fn partial_sums_go_with_the_last_chance_to_change_their_row() {
    let database = Database::create().await;
    let aggregate = per_page("means", &[("mean", Function::Avg, DataType::Double)]);
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let row =
        |minute, sum: i128| (&aggregate, delta(minute, "/", vec![Accumulator::Integer { sum, count: 1 }]));
    let kept = "SELECT count(*)::text FROM millstream.partials";
    let mean = "SELECT mean::text FROM means WHERE window_start = 'epoch'::timestamptz + interval '1 minute'";
    // The window of minute 1 ends at 2 and takes records for an hour more.
    let (before, end) = (62 * MINUTE - 1, 62 * MINUTE);
    commit(&mut session, row(1, 10), (0, epochs[0]), (0, MINUTE)).await;
    commit(&mut session, row(70, 0), (1, epochs[1]), (0, before)).await;
    commit(&mut session, row(71, 0), (0, epochs[0]), (1, before)).await;
    assert_eq!(database.text(kept).await, "3");
    commit(&mut session, row(1, 20), (1, epochs[1]), (1, end)).await;
    assert_eq!((database.text(mean).await, database.text(kept).await), ("15".into(), "3".into()));
    commit(&mut session, row(71, 0), (0, epochs[0]), (2, end)).await;
    assert_eq!((database.text(mean).await, database.text(kept).await), ("15".into(), "2".into()));
}
