//! Taking tasks, fencing, and what recovery reads.

use std::sync::Arc;

use millstream::postgres::{CommitOutcome, Owned, PostgresError, Step};
use millstream_core::aggregate::Accumulator;
use millstream_core::model::{Offset, OwnerEpoch, Recovery};

use super::fixture::*;

fn owned(partition: i32, owner_epoch: OwnerEpoch, next: i64) -> Owned {
    Owned { tp: task(partition), owner_epoch, next: Offset(next) }
}

#[tokio::test]
async fn taking_increments_the_owner_epoch() {
    let database = Database::create().await;
    let (mut session, epochs) = started(&database, &plan(vec![page_views()]), &[0]).await;
    assert_eq!(epochs, [OwnerEpoch(1)]);
    assert_eq!(session.take(APPLICATION, &task(7), "worker").await.unwrap(), None);
    session.insert_bootstrap(APPLICATION, &task(0), "another", Offset(99), 1).await.unwrap();
    let row = session.take(APPLICATION, &task(0), "second").await.unwrap().unwrap();
    assert_eq!((row.owner_epoch, row.owner.as_deref()), (OwnerEpoch(2), Some("second")));
    assert_eq!((row.start, row.prev, row.next), (Offset(0), Offset(0), Offset(0)));
    assert_eq!((row.topic_id.as_str(), row.plan_hash), ("topic-id", u64::MAX - 1));
    assert_eq!(row.backend, Some(session.backend()));
    assert!(!row.bootstrapped && !row.settled);
    assert!(!session.mark_bootstrapped(APPLICATION, &task(0), OwnerEpoch(1)).await.unwrap());
    assert!(session.mark_bootstrapped(APPLICATION, &task(0), OwnerEpoch(2)).await.unwrap());
    assert!(session.read_progress(APPLICATION, &[task(0)]).await.unwrap()[0].bootstrapped);
}

#[tokio::test]
async fn stale_owner_is_fenced_and_leaves_nothing() {
    let database = Database::create().await;
    let aggregate = page_views();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0, 1]).await;
    let mut other = database.connect().await;
    let taken = other.take(APPLICATION, &task(0), "other").await.unwrap().unwrap();
    let epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 5), step(1, epochs[1], 0, 5)])
        .add(&aggregate, vec![delta(1, "/", vec![Accumulator::Count(5)])]);
    let outcome = epoch.run(&mut session).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Fenced { matched: vec![task(1)] });
    assert_eq!(database.text("SELECT count(*)::text FROM page_view_counts").await, "0");
    assert_eq!(database.text("SELECT max(next)::text FROM millstream.progress").await, "0");
    let rest = TestEpoch::of(vec![step(1, epochs[1], 0, 5)]);
    assert_eq!(rest.run(&mut session).await.unwrap(), CommitOutcome::Committed);
    let theirs = TestEpoch::of(vec![step(0, taken.owner_epoch, 0, 5)]);
    assert_eq!(theirs.run(&mut other).await.unwrap(), CommitOutcome::Committed);
}

#[tokio::test]
async fn an_epoch_commits_once() {
    let database = Database::create().await;
    let aggregate = page_views();
    let (mut session, epochs) = started(&database, &plan(vec![aggregate.clone()]), &[0]).await;
    let epoch = TestEpoch::of(vec![step(0, epochs[0], 0, 5)])
        .add(&aggregate, vec![delta(1, "/", vec![Accumulator::Count(5)])]);
    assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Committed);
    assert_eq!(epoch.run(&mut session).await.unwrap(), CommitOutcome::Fenced { matched: vec![] });
    assert_eq!(database.text("SELECT view_count::text FROM page_view_counts").await, "5");
}

#[tokio::test]
async fn outputs_only_and_settle_compare_owner_and_offset() {
    let database = Database::create().await;
    let (mut session, epochs) = started(&database, &plan(vec![page_views()]), &[0, 1]).await;
    TestEpoch::of(vec![step(0, epochs[0], 0, 5), step(1, epochs[1], 0, 6)]).run(&mut session).await.unwrap();
    let tasks = [owned(0, epochs[0], 5), owned(1, epochs[1], 6)];
    assert_eq!(session.check_outputs_only(APPLICATION, &tasks).await.unwrap(), [task(0), task(1)]);
    let stale = [owned(0, OwnerEpoch(9), 5), owned(1, epochs[1], 5)];
    assert_eq!(session.check_outputs_only(APPLICATION, &stale).await.unwrap(), []);
    assert_eq!(session.settle(APPLICATION, &stale).await.unwrap(), []);
    assert_eq!(session.settle(APPLICATION, &tasks).await.unwrap().len(), 2);
    let rows = session.read_application(APPLICATION).await.unwrap();
    assert!(rows.iter().all(|row| row.settled));
    TestEpoch::of(vec![step(0, epochs[0], 5, 8)]).run(&mut session).await.unwrap();
    assert!(!session.read_progress(APPLICATION, &[task(0)]).await.unwrap()[0].settled);
}

/// Takes task 0, commits `[0, 5)` and stops within it.
async fn take_and_hold(database: &Arc<Database>, at: Step) -> Held {
    hold_commit(database, at, async |session, hook| {
        let row = session.take(APPLICATION, &task(0), "held").await.unwrap().unwrap();
        let epoch = TestEpoch::of(vec![step(0, row.owner_epoch, 0, 5)]);
        session.commit_epoch(&epoch.commit(), hook).await
    })
    .await
}

#[tokio::test]
async fn witness_waits_for_a_commit_in_flight() {
    let database = Arc::new(Database::create().await);
    let (mut session, _) = started(&database, &plan(vec![page_views()]), &[0]).await;
    let mut reader = database.connect().await;
    let held = take_and_hold(&database, Step::Committing).await;
    let plain = session.read_progress(APPLICATION, &[task(0)]).await.unwrap();
    assert_eq!(plain[0].next, Offset(0));
    let tasks = [task(0)];
    let (rows, first) =
        tokio::join!(reader.lock_progress(APPLICATION, &tasks), held.finish_once_waited_for());
    assert_eq!(first.unwrap(), CommitOutcome::Committed);
    let rows = rows.unwrap();
    assert_eq!((rows[0].prev, rows[0].next), (Offset(0), Offset(5)));
}

#[tokio::test]
async fn frozen_owner_is_ended_by_its_successor() {
    let database = Arc::new(Database::create().await);
    let (mut session, _) = started(&database, &plan(vec![page_views()]), &[0]).await;
    let mut taker = database.connect().await;
    let held = take_and_hold(&database, Step::ProgressUpdated).await;
    let disputed = task(0);
    let (row, ended) = tokio::join!(taker.take(APPLICATION, &disputed, "successor"), async {
        held.waited_for().await;
        session.terminate_recorded_backend(APPLICATION, &disputed).await
    });
    assert!(ended.unwrap());
    let row = row.unwrap().unwrap();
    assert_eq!((row.next, row.owner_epoch), (Offset(0), OwnerEpoch(3)));
    let error = held.finish().unwrap_err();
    assert_eq!(error.recovery(), Recovery::RestartTask, "{error}");
}

#[tokio::test]
async fn a_backend_that_is_gone_is_not_mistaken_for_another() {
    let database = Database::create().await;
    let (session, _) = started(&database, &plan(vec![page_views()]), &[0]).await;
    let mut other = database.connect().await;
    let raw = database.raw().await;
    // The same process number, but a process that began at another time.
    raw.batch_execute("UPDATE millstream.progress SET backend_start = backend_start - interval '1 s'")
        .await
        .unwrap();
    assert!(!other.terminate_recorded_backend(APPLICATION, &task(0)).await.unwrap());
    assert!(!session.is_broken());
}

#[tokio::test]
async fn a_reconnected_owner_records_its_new_backend() {
    let database = Database::create().await;
    let (session, epochs) = started(&database, &plan(vec![page_views()]), &[0]).await;
    drop(session);
    let mut again = database.connect().await;
    TestEpoch::of(vec![step(0, epochs[0], 0, 5)]).run(&mut again).await.unwrap();
    let row = &again.read_progress(APPLICATION, &[task(0)]).await.unwrap()[0];
    assert_eq!(row.backend, Some(again.backend()));
}

#[tokio::test]
async fn a_lost_reply_to_commit_is_unknown() {
    let database = Arc::new(Database::create().await);
    started(&database, &plan(vec![page_views()]), &[0]).await;
    let held = take_and_hold(&database, Step::Committing).await;
    let end = "SELECT pg_terminate_backend(pid, 10000)::text FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'idle in transaction'";
    assert_eq!(database.text(end).await, "true");
    let error = held.finish().unwrap_err();
    assert!(matches!(error, PostgresError::CommitUnknown { .. }), "{error}");
}
