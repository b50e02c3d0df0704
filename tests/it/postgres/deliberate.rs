//! The faults on purpose do what their names say; without them the referee's alarms would prove nothing.

use millstream::postgres::{CommitOutcome, DeadLetter, Deliberate, PostgresError};
use millstream_core::aggregate::Accumulator;
use millstream_core::model::{Offset, OwnerEpoch};

use super::fixture::*;

const STATE: &str = "SELECT concat_ws(' ', (SELECT next FROM millstream.progress),
    (SELECT count(*) FROM page_view_counts), (SELECT count(*) FROM millstream.dead_letters))";

/// Commits `[0, 5)` with one row and one dead letter; without the compare, as an owner long gone.
async fn commit(deliberate: Deliberate, forbid: &str) -> (Result<CommitOutcome, PostgresError>, String) {
    let database = Database::create().await;
    let aggregate = page_views();
    let (mut session, _) = started(&database, &plan(vec![aggregate.clone()]), &[0]).await;
    database.raw().await.batch_execute(forbid).await.unwrap();
    let owner_epoch = if deliberate.compare { OwnerEpoch(1) } else { OwnerEpoch(77) };
    let mut epoch = TestEpoch::of(vec![step(0, owner_epoch, 0, 5)])
        .add(&aggregate, vec![delta(1, "/", vec![Accumulator::Count(5)])]);
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
    let mut commit = epoch.commit();
    commit.deliberate = deliberate;
    let outcome = session.commit_epoch(&commit, &mut |_| {}).await;
    (outcome, database.text(STATE).await)
}

#[tokio::test]
async fn no_compare_lets_a_stale_owner_commit() {
    let (outcome, state) = commit(Deliberate { compare: false, ..Deliberate::default() }, "").await;
    assert_eq!((outcome.unwrap(), state.as_str()), (CommitOutcome::Committed, "5 1 1"));
}

#[tokio::test]
async fn two_transactions_keep_offsets_of_lost_rows() {
    let forbid = "ALTER TABLE page_view_counts ADD CHECK (view_count < 0)";
    let (outcome, state) =
        commit(Deliberate { one_transaction: false, ..Deliberate::default() }, forbid).await;
    assert_eq!((outcome.is_err(), state.as_str()), (true, "5 0 0"));
    let (outcome, state) = commit(Deliberate::default(), forbid).await;
    assert_eq!((outcome.is_err(), state.as_str()), (true, "0 0 0"));
}

#[tokio::test]
async fn dead_letters_outside_are_lost_alone() {
    let forbid = "ALTER TABLE millstream.dead_letters ADD CHECK (reason = '')";
    let outside = Deliberate { dead_letters_inside: false, ..Deliberate::default() };
    let (outcome, state) = commit(outside, forbid).await;
    assert_eq!((outcome.is_err(), state.as_str()), (true, "5 1 0"));
}
