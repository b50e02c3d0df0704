//! One epoch: the records of all live tasks since the last one, in every participant.
//!
//! Order: produce, drain, offsets into the Kafka transaction; PostgreSQL decides; Kafka commits; local state is written
//! last. A crash after any step is told apart by the offsets that the participants hold (`commit::take`).

use millstream_core::codec::decode_group_key;
use millstream_core::commit::CommitPermit;
use millstream_core::engine::{SealedEpoch, SessionChange, StoreError, merge_deltas, merge_sessions};
use millstream_core::model::{Epoch, EventTime, OwnerEpoch, Recovery, RollingHash, TopicPartition, Value};
use millstream_core::pipeline::{AggregateId, Plan};

use std::time::Duration;

use crate::clock::Stopwatch;
#[cfg(feature = "fault")]
use crate::fault::{Break, broken};
use crate::fault::{Point, Reply, lost, reached};
use crate::kafka::{COMMIT, CommittedOffset, KafkaError};
use crate::postgres::{
    AggregateDelta, CommitOutcome, DeadLetter, EpochCommit, Owned, PostgresError, RecordRows, ResultDelta,
    SessionDelta, SessionRow, Step, TaskCommit,
};

use super::links::Parts;
use super::outputs::produce;
use super::{Prepared, RuntimeError};

/// How long one step of a Kafka transaction may take; below the transaction's own time-out.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(9);
/// The same PostgreSQL transaction again after a conflict, for so long.
///
/// Why: the Kafka transaction is open meanwhile and ends by itself at 10 s; one more wait for a lock (5 s) still fits.
const CONFLICT_SPAN: Duration = Duration::from_secs(4);

/// One task's part of an epoch, kept until every participant has it.
pub struct Share {
    pub tp: TopicPartition,
    pub owner_epoch: OwnerEpoch,
    pub epoch: Epoch,
    pub sealed: SealedEpoch,
    /// Whether the log has no more records at present.
    pub caught_up: bool,
    pub remaining: Remaining,
}

/// What is left to do for a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    Everything,
    /// PostgreSQL has it; Kafka has not.
    Outputs,
}

/// Why an attempt did not end well.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing is known: ask the witnesses.
    Indefinite(RuntimeError),
    /// A participant refuses what one of the tasks brought.
    Refused(RuntimeError),
}

/// What an attempt needs besides the connections.
pub struct EpochContext<'w> {
    pub plan: &'w Plan,
    pub prepared: &'w Prepared,
    pub commit_time: EventTime,
}

impl EpochContext<'_> {
    /// The whole epoch, up to the Kafka commit.
    pub fn commit_everything(&self, parts: Parts<'_>, shares: &[&Share]) -> Result<(), Trouble> {
        let Parts { consumer, mut producer, session, runtime, application } = parts;
        if let Some(producer) = &mut producer {
            let producing = Stopwatch::start();
            self.open_transaction(producer, consumer, shares).map_err(Trouble::of)?;
            took("produce", producing);
        }
        let tasks: Vec<TaskCommit> = shares.iter().map(|s| task_commit(s, producer.is_none())).collect();
        let results = results(self.plan, shares).map_err(Trouble::of)?;
        let sessions = sessions(self.plan, shares).map_err(Trouble::of)?;
        let records = records(self.plan, shares);
        let dead_letters = dead_letters(shares);
        let commit = EpochCommit {
            application,
            plan_hash: self.plan.hash,
            commit_time: self.commit_time,
            tasks: &tasks,
            results: &results,
            sessions: &sessions,
            records: &records,
            dead_letters: &dead_letters,
            dead_letter_table: self.plan.dead_letter_table.as_deref(),
            #[cfg(feature = "fault")]
            deliberate: deliberate(),
        };
        let begun = Stopwatch::start();
        let outcome = loop {
            match runtime.block_on(session.commit_epoch(&commit, &mut |step| reached(point(step)))) {
                Ok(CommitOutcome::Committed) if lost(Reply::PostgresCommit) => {
                    let cause = "it was lost on purpose".to_owned();
                    break Err(PostgresError::CommitUnknown { cause });
                }
                Err(error) if error.is_conflict() && begun.elapsed() < CONFLICT_SPAN => {}
                ended => break ended,
            }
        };
        #[cfg(feature = "fault")]
        let outcome = again_if_broken((session, runtime), commit, outcome);
        let outcome = outcome.map_err(|error| Trouble::of(error.into()))?;
        took("postgres", begun);
        let Some(permit) = permit(&outcome, shares.len()) else {
            return Err(Trouble::Indefinite(fenced(shares)));
        };
        match producer {
            Some(producer) => commit_kafka(producer, permit, (Point::KafkaCommitting, Point::KafkaCommitted)),
            None => Ok(()),
        }
    }

    /// Outputs only, for shares whose rows PostgreSQL holds.
    pub fn commit_outputs(&self, parts: Parts<'_>, shares: &[&Share]) -> Result<(), Trouble> {
        let Parts { consumer, producer, session, runtime, application } = parts;
        let producer = producer.expect("outputs are missing only where there are any");
        self.open_transaction(producer, consumer, shares).map_err(Trouble::of)?;
        reached(Point::OutputsOnlyProduced);
        let owned: Vec<Owned> = shares
            .iter()
            .map(|s| Owned { tp: s.tp.clone(), owner_epoch: s.owner_epoch, next: s.sealed.to })
            .collect();
        let checked = session.check_outputs_only(application, &owned);
        let matched = runtime.block_on(checked).map_err(|e| Trouble::of(e.into()))?;
        reached(Point::OutputsOnlyChecked);
        match CommitPermit::after_compare(shares.len(), matched.len()) {
            Some(permit) => {
                commit_kafka(producer, permit, (Point::KafkaCommitting, Point::OutputsOnlyCommitted))
            }
            None => Err(Trouble::Indefinite(fenced(shares))),
        }
    }

    fn open_transaction(
        &self,
        producer: &mut crate::kafka::Producer,
        consumer: &crate::kafka::Consumer,
        shares: &[&Share],
    ) -> Result<(), RuntimeError> {
        producer.begin()?;
        reached(Point::KafkaBegun);
        for share in shares {
            produce(producer, self.plan, &self.prepared.outputs, (&share.tp, &share.sealed.outputs))?;
        }
        reached(Point::KafkaProduced);
        producer.drain(COMMIT_TIMEOUT)?;
        reached(Point::KafkaDrained);
        let offsets: Vec<CommittedOffset> = shares
            .iter()
            .map(|s| CommittedOffset {
                partition: s.tp.clone(),
                offset: s.sealed.to,
                metadata: offset_metadata(s.epoch, s.sealed.hash),
            })
            .collect();
        let group = consumer.group_metadata()?;
        producer.send_offsets(&offsets, &group, COMMIT_TIMEOUT)?;
        reached(Point::KafkaOffsetsSent);
        Ok(())
    }
}

impl Trouble {
    fn of(error: RuntimeError) -> Trouble {
        match error.recovery() {
            Recovery::Corrupt | Recovery::Invalid => Trouble::Refused(error),
            Recovery::Retry | Recovery::RestartTask | Recovery::Fenced => Trouble::Indefinite(error),
        }
    }
}

/// The witness's note beside the group offset: epoch number and rolling hash.
pub fn offset_metadata(epoch: Epoch, hash: RollingHash) -> String {
    format!("v1 {epoch} {hash}")
}

/// The hash of such a note; `None` for any other text.
pub fn read_offset_metadata(text: &str) -> Option<RollingHash> {
    let mut words = text.split(' ');
    let (version, _epoch, hash) = (words.next()?, words.next()?, words.next()?);
    (version == "v1").then(|| u64::from_str_radix(hash, 16).ok().map(RollingHash)).flatten()
}

/// For whoever asks what an epoch waited for. Attempts that failed are not counted.
fn took(step: &'static str, since: Stopwatch) {
    metrics::histogram!("millstream_epoch_step_seconds", "step" => step)
        .record(since.elapsed().as_secs_f64());
}

/// The commit takes the permit: nothing becomes visible without one.
fn commit_kafka(
    producer: &crate::kafka::Producer,
    _permit: CommitPermit,
    (before, after): (Point, Point),
) -> Result<(), Trouble> {
    reached(before);
    let committing = Stopwatch::start();
    let timed_out = || Trouble::Indefinite(KafkaError::TimedOut { operation: COMMIT }.into());
    if lost(Reply::KafkaCommitLate) {
        return Err(timed_out());
    }
    producer.commit(COMMIT_TIMEOUT).map_err(|e| Trouble::Indefinite(e.into()))?;
    took("kafka", committing);
    if lost(Reply::KafkaCommit) {
        return Err(timed_out());
    }
    reached(after);
    Ok(())
}

fn permit(outcome: &CommitOutcome, tasks: usize) -> Option<CommitPermit> {
    let matched = match outcome {
        CommitOutcome::Committed => tasks,
        CommitOutcome::Fenced { matched } => matched.len(),
    };
    CommitPermit::after_compare(tasks, matched)
}

fn fenced(shares: &[&Share]) -> RuntimeError {
    let tasks: Vec<String> = shares.iter().map(|s| s.tp.to_string()).collect();
    crate::kafka::KafkaError::Fenced {
        detail: format!("progress rows of {} did not match", tasks.join(", ")),
    }
    .into()
}

fn task_commit(share: &Share, settled: bool) -> TaskCommit {
    TaskCommit {
        tp: share.tp.clone(),
        owner_epoch: share.owner_epoch,
        prev: share.sealed.from,
        next: share.sealed.to,
        epoch: share.epoch,
        hash: share.sealed.hash,
        watermark: share.sealed.watermark,
        max_event_time: share.sealed.max_event_time,
        fingerprint: share.sealed.fingerprint,
        counts: share.sealed.counts.clone(),
        settled,
        caught_up: share.caught_up,
    }
}

/// Deltas of all shares, merged per row and sorted: tables by name, rows by window and key.
fn results<'p>(plan: &'p Plan, shares: &[&Share]) -> Result<Vec<AggregateDelta<'p>>, RuntimeError> {
    let mut results = Vec::new();
    for (AggregateId(id), rows) in merge_deltas(shares.iter().map(|s| &s.sealed)) {
        let mut deltas = Vec::with_capacity(rows.len());
        for row in rows {
            deltas.push(ResultDelta {
                window: row.window,
                row_key: row_key(row.window.start, &row.key),
                key: group_key(&row.key)?,
                accumulators: row.accumulators,
                sketches: row.sketches,
            });
        }
        results.push(AggregateDelta { aggregate: &plan.aggregates[id], rows: deltas });
    }
    results.sort_by(|a, b| a.aggregate.table.name.cmp(&b.aggregate.table.name));
    Ok(results)
}

/// Changed and replaced rows of sessions of all shares, sorted by key and start.
fn sessions<'p>(plan: &'p Plan, shares: &[&Share]) -> Result<Vec<SessionDelta<'p>>, RuntimeError> {
    let mut sessions = Vec::new();
    for (AggregateId(id), changes) in merge_sessions(shares.iter().map(|s| &s.sealed)) {
        let row = |change: SessionChange| {
            let key = group_key(&change.key)?;
            Ok(SessionRow::new(change, key))
        };
        let rows = changes.into_iter().map(row).collect::<Result<_, RuntimeError>>()?;
        sessions.push(SessionDelta { aggregate: &plan.aggregates[id], rows });
    }
    Ok(sessions)
}

fn group_key(bytes: &[u8]) -> Result<Vec<Value<'static>>, RuntimeError> {
    let corrupt = |e| StoreError::Corrupt(format!("a group key: {e}"));
    Ok(decode_group_key(bytes).map_err(corrupt)?)
}

/// Rows of record tables, tables by name.
fn records<'e>(plan: &'e Plan, shares: &[&'e Share]) -> Vec<RecordRows<'e>> {
    let mut by_output = vec![Vec::new(); plan.record_tables.len()];
    for row in shares.iter().flat_map(|share| &share.sealed.outputs.rows) {
        by_output[row.output].push(row);
    }
    let outputs = plan.record_tables.iter().zip(by_output).filter(|(_, rows)| !rows.is_empty());
    let mut records: Vec<RecordRows<'e>> =
        outputs.map(|(output, rows)| RecordRows::new(output, rows)).collect();
    records.sort_by(|a, b| a.output.table.name.cmp(&b.output.table.name));
    records
}

fn row_key(start: EventTime, group_key: &[u8]) -> Vec<u8> {
    [&start.0.to_be_bytes(), group_key].concat()
}

fn dead_letters(shares: &[&Share]) -> Vec<DeadLetter> {
    let letters = shares.iter().flat_map(|s| s.sealed.outputs.dead_letters.iter().map(|d| (&s.tp, d)));
    letters
        .map(|(tp, dead)| DeadLetter {
            tp: tp.clone(),
            offset: dead.offset,
            reason: dead.reason.to_string(),
            detail: dead.detail.clone(),
            key: dead.key.clone(),
            value: dead.value.clone(),
            value_bytes: dead.value_bytes.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
            headers: dead.headers.clone(),
            record_timestamp: dead.timestamp_ms.and_then(|ms| ms.checked_mul(1_000)).map(EventTime),
        })
        .collect()
}

fn point(step: Step) -> Point {
    match step {
        Step::Begun => Point::PostgresBegun,
        Step::ProgressUpdated => Point::PostgresProgressUpdated,
        Step::RowsMerged => Point::PostgresRowsMerged,
        Step::DeadLettersWritten => Point::PostgresDeadLettersWritten,
        Step::Committing => Point::PostgresCommitting,
        Step::Committed => Point::PostgresCommitted,
    }
}

#[cfg(feature = "fault")]
fn deliberate() -> crate::postgres::Deliberate {
    crate::postgres::Deliberate {
        compare: !broken(Break::NoProgressCompare),
        compare_owner: !broken(Break::NoOwnerEpoch),
        compare_next: !broken(Break::NoNextCompare),
        one_transaction: !broken(Break::TwoTransactions),
        dead_letters_inside: !broken(Break::DeadLettersOutside),
    }
}

/// What a careless program would do about a lost reply, or about a task that was fenced among others.
#[cfg(feature = "fault")]
fn again_if_broken(
    (session, runtime): (&mut crate::postgres::Session, &tokio::runtime::Runtime),
    commit: EpochCommit<'_>,
    outcome: Result<CommitOutcome, PostgresError>,
) -> Result<CommitOutcome, PostgresError> {
    match outcome {
        Err(PostgresError::CommitUnknown { .. }) if broken(Break::LostReplyIsFailure) => {
            runtime.block_on(session.commit_epoch(&commit, &mut |_| {}))
        }
        Ok(CommitOutcome::Fenced { matched }) if broken(Break::FencedTaskCommitted) => {
            let mine = |task: &&TaskCommit| matched.contains(&task.tp);
            let tasks: Vec<TaskCommit> = commit.tasks.iter().filter(mine).cloned().collect();
            let again = EpochCommit { tasks: &tasks, ..commit };
            runtime.block_on(session.commit_epoch(&again, &mut |_| {}))
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_beside_the_group_offset_reads_back() {
        let hash = RollingHash(0xfeed_0000_0000_0001);
        assert_eq!(read_offset_metadata(&offset_metadata(Epoch(12), hash)), Some(hash));
        for other in ["", "v1", "v1 1", "v2 1 ff", "v1 1 xyz"] {
            assert_eq!(read_offset_metadata(other), None, "{other:?}");
        }
    }
}
