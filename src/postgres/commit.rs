//! One epoch in one transaction: the decision, result rows, dead letters.

use millstream_core::model::{EventTime, TopicPartition};
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Statement, Transaction};

use super::columns::SqlTime;
use super::dead_letters::{DeadLetter, dead_letter_sql, write_dead_letters};
#[cfg(feature = "fault")]
use super::deliberate::{self, Deliberate};
use super::delta::AggregateDelta;
use super::progress::{Backend, TaskCommit, key};
use super::records::{RecordRows, insert_rows, insert_sql};
use super::results::{TableStatements, merge_results};
use super::session::{bounded, commit};
use super::sessions::{SessionDelta, SessionStatements, write_sessions};
use super::{PostgresError, Session};

/// Everything a worker commits at once. Nothing of it becomes visible unless every task's row matches.
pub struct EpochCommit<'a> {
    pub application: &'a str,
    pub plan_hash: u64,
    /// Wall time at which this epoch was first decided.
    pub commit_time: EventTime,
    pub tasks: &'a [TaskCommit],
    pub results: &'a [AggregateDelta<'a>],
    pub sessions: &'a [SessionDelta<'a>],
    /// Rows of record tables.
    pub records: &'a [RecordRows<'a>],
    pub dead_letters: &'a [DeadLetter],
    /// The table in schema `millstream` that takes the dead letters; `None`: none does.
    pub dead_letter_table: Option<&'a str>,
    #[cfg(feature = "fault")]
    pub deliberate: Deliberate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed,
    /// Fewer rows matched than there are tasks; everything was rolled back.
    Fenced {
        matched: Vec<TopicPartition>,
    },
}

/// What has just happened within `commit_epoch`; `Committing` comes right before COMMIT is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Begun,
    ProgressUpdated,
    RowsMerged,
    DeadLettersWritten,
    Committing,
    Committed,
}

impl Session {
    /// Commits an epoch. `CommitUnknown` leaves open whether it happened; `is_conflict` errors allow the same call
    /// again; after `Fenced` nothing of it exists.
    pub async fn commit_epoch(
        &mut self,
        epoch: &EpochCommit<'_>,
        hooks: &mut dyn FnMut(Step),
    ) -> Result<CommitOutcome, PostgresError> {
        let result = self.commit_epoch_inner(epoch, hooks).await;
        self.note(result)
    }

    async fn commit_epoch_inner(
        &mut self,
        epoch: &EpochCommit<'_>,
        hooks: &mut dyn FnMut(Step),
    ) -> Result<CommitOutcome, PostgresError> {
        self.record_backend(epoch.application, epoch.tasks).await?;
        let statements = self.prepare_epoch(epoch).await?;
        let backend = self.backend;
        let transaction = bounded("begin", self.client.transaction()).await?;
        hooks(Step::Begun);
        // Order: the compare-and-set is the first statement, so a fenced owner writes nothing at all, and its
        // count is looked at: the reply to COMMIT alone would not tell.
        let matched = update_progress(&transaction, &statements.progress, epoch, backend).await?;
        if matched.len() < epoch.tasks.len() {
            bounded("rollback", transaction.rollback()).await?;
            return Ok(CommitOutcome::Fenced { matched });
        }
        hooks(Step::ProgressUpdated);
        #[cfg(feature = "fault")]
        deliberate::after_progress(&transaction, &epoch.deliberate).await?;
        let swept = merge_results(&transaction, &statements.tables, epoch.application, epoch.results).await?;
        write_sessions(&transaction, &statements.sessions, epoch.sessions).await?;
        for (rows, statement) in epoch.records.iter().zip(&statements.records) {
            insert_rows(&transaction, statement, rows, epoch.commit_time).await?;
        }
        hooks(Step::RowsMerged);
        #[cfg(feature = "fault")]
        deliberate::before_dead_letters(&transaction, &epoch.deliberate).await?;
        if let (Some(table), Some(statement)) = (epoch.dead_letter_table, &statements.dead_letters) {
            let of = (epoch.application, epoch.commit_time);
            write_dead_letters(&transaction, (table, statement), of, epoch.dead_letters).await?;
        }
        hooks(Step::DeadLettersWritten);
        hooks(Step::Committing);
        commit(transaction).await?;
        self.swept.extend(swept);
        hooks(Step::Committed);
        Ok(CommitOutcome::Committed)
    }

    /// Prepares what an epoch needs, outside its transaction; all but the first time this costs nothing.
    async fn prepare_epoch(&mut self, epoch: &EpochCommit<'_>) -> Result<EpochStatements, PostgresError> {
        #[cfg(not(feature = "fault"))]
        let update = UPDATE;
        #[cfg(feature = "fault")]
        let update = &deliberate::progress_sql(UPDATE, &epoch.deliberate);
        let progress = self.prepared("millstream.progress", update).await?;
        let watermark = epoch.tasks.iter().filter_map(|task| task.watermark).min();
        let tables = self.prepare_results(epoch.results, watermark).await?;
        let sessions = self.prepare_sessions(epoch.sessions).await?;
        let mut records = Vec::new();
        for RecordRows { output, .. } in epoch.records {
            records.push(self.prepared(&output.table.name, &insert_sql(&output.table)).await?);
        }
        let dead_letters = match epoch.dead_letter_table {
            Some(table) if !epoch.dead_letters.is_empty() => {
                Some(self.prepared(table, &dead_letter_sql(table)).await?)
            }
            _ => None,
        };
        Ok(EpochStatements { progress, tables, sessions, records, dead_letters })
    }
}

struct EpochStatements {
    progress: Statement,
    /// In table order.
    tables: Vec<TableStatements>,
    /// In table order.
    sessions: Vec<SessionStatements>,
    /// As the epoch has them.
    records: Vec<Statement>,
    dead_letters: Option<Statement>,
}

/// The decision. Invariant: `owner_epoch` and `next` are compared for every task (I4).
const UPDATE: &str = "UPDATE millstream.progress p SET
        prev = p.next, next = u.next, epoch = u.epoch, commit_time = $2, hash = u.hash, watermark = u.watermark,
        max_event_time = u.max_event_time, settled = u.settled, fingerprint_offset = u.fingerprint_offset,
        fingerprint_timestamp_ms = u.fingerprint_timestamp_ms, fingerprint_hash = u.fingerprint_hash,
        plan_hash = $3, backend_pid = $4, backend_start = $5, read = u.read, accepted = u.accepted,
        duplicate = u.duplicate, dead = u.dead, dead_by_reason = u.dead_by_reason, checks = u.checks,
        aggregates = u.aggregates, routed = u.routed, updated_at = now(),
        caught_up_since = CASE WHEN NOT u.caught_up THEN NULL WHEN u.next > p.next THEN now()
            ELSE coalesce(p.caught_up_since, now()) END
    FROM unnest($6::text[], $7::int[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
            $13::timestamptz[], $14::timestamptz[], $15::bool[], $16::bool[], $17::bigint[], $18::bigint[],
            $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[], $24::jsonb[], $25::jsonb[],
            $26::jsonb[], $27::bigint[])
        u (topic, partition, owner_epoch, prev, next, epoch, hash, watermark, max_event_time, settled, caught_up,
            fingerprint_offset, fingerprint_timestamp_ms, fingerprint_hash, read, accepted, duplicate, dead,
            dead_by_reason, checks, aggregates, routed)
    WHERE p.application = $1 AND p.topic = u.topic AND p.partition = u.partition
        AND p.owner_epoch = u.owner_epoch AND p.next = u.prev
    RETURNING p.topic, p.partition";

async fn update_progress(
    transaction: &Transaction<'_>,
    statement: &Statement,
    epoch: &EpochCommit<'_>,
    backend: Backend,
) -> Result<Vec<TopicPartition>, PostgresError> {
    let mut tasks: Vec<&TaskCommit> = epoch.tasks.iter().collect();
    tasks.sort_by(|a, b| a.tp.cmp(&b.tp));
    let topics: Vec<&str> = tasks.iter().map(|t| &*t.tp.topic).collect();
    let partitions: Vec<i32> = tasks.iter().map(|t| t.tp.partition.0).collect();
    let column = |value: fn(&TaskCommit) -> i64| tasks.iter().map(|t| value(t)).collect::<Vec<i64>>();
    let optional =
        |value: fn(&TaskCommit) -> Option<i64>| tasks.iter().map(|t| value(t)).collect::<Vec<Option<i64>>>();
    let flags = |value: fn(&TaskCommit) -> bool| tasks.iter().map(|t| value(t)).collect::<Vec<bool>>();
    let times = |value: fn(&TaskCommit) -> Option<EventTime>| {
        tasks.iter().map(|t| value(t).map(SqlTime)).collect::<Vec<Option<SqlTime>>>()
    };
    let reasons: Vec<_> = tasks.iter().map(|t| Json(&t.counts.dead_by_reason)).collect();
    let checks: Vec<_> = tasks.iter().map(|t| Json(&t.counts.checks)).collect();
    let aggregates: Vec<_> = tasks.iter().map(|t| Json(&t.counts.aggregates)).collect();
    let plan_hash = epoch.plan_hash.cast_signed();
    let commit_time = SqlTime(epoch.commit_time);
    let parameters: [&(dyn ToSql + Sync); 27] = [
        &epoch.application,
        &commit_time,
        &plan_hash,
        &backend.pid,
        &SqlTime(backend.start),
        &topics,
        &partitions,
        &column(|t| t.owner_epoch.0),
        &column(|t| t.prev.0),
        &column(|t| t.next.0),
        &column(|t| t.epoch.0),
        &column(|t| t.hash.0.cast_signed()),
        &times(|t| t.watermark),
        &times(|t| t.max_event_time),
        &flags(|t| t.settled),
        &flags(|t| t.caught_up),
        &optional(|t| t.fingerprint.map(|f| f.offset.0)),
        &optional(|t| t.fingerprint.map(|f| f.timestamp_ms)),
        &optional(|t| t.fingerprint.map(|f| f.hash.cast_signed())),
        &column(|t| t.counts.read),
        &column(|t| t.counts.accepted),
        &column(|t| t.counts.duplicate),
        &column(|t| t.counts.dead),
        &reasons,
        &checks,
        &aggregates,
        &column(|t| t.counts.routed),
    ];
    let rows = bounded("millstream.progress", transaction.query(statement, &parameters)).await?;
    Ok(rows.iter().map(key).collect())
}
