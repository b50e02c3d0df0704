//! Progress rows: bootstrap, the fence, and what recovery reads.

pub use millstream_core::engine::{AggregateCounts, TaskCounts};
use millstream_core::model::{
    Epoch, EventTime, Fingerprint, Offset, OwnerEpoch, RollingHash, TopicPartition,
};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::columns::SqlTime;
use super::session::bounded;
use super::{PostgresError, Session};

const CONTEXT: &str = "millstream.progress";

/// A server process, identified so that a reused pid is not mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    pub pid: i32,
    pub start: EventTime,
}

/// A task as its owner knows it: the row must carry this owner epoch and this next offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub tp: TopicPartition,
    pub owner_epoch: OwnerEpoch,
    pub next: Offset,
}

/// One row of `millstream.progress`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressRow {
    pub tp: TopicPartition,
    pub topic_id: String,
    pub bootstrapped: bool,
    pub start: Offset,
    pub prev: Offset,
    pub next: Offset,
    pub owner_epoch: OwnerEpoch,
    pub owner: Option<String>,
    pub backend: Option<Backend>,
    pub epoch: Epoch,
    pub commit_time: Option<EventTime>,
    pub hash: RollingHash,
    pub watermark: Option<EventTime>,
    pub max_event_time: Option<EventTime>,
    pub settled: bool,
    pub fingerprint: Option<Fingerprint>,
    pub plan_hash: u64,
    pub counts: TaskCounts,
    pub caught_up_since: Option<EventTime>,
    pub updated_at: EventTime,
}

/// What one task brings into an epoch.
#[derive(Clone, Debug)]
pub struct TaskCommit {
    pub tp: TopicPartition,
    pub owner_epoch: OwnerEpoch,
    /// Must equal the row's `next`.
    pub prev: Offset,
    pub next: Offset,
    pub epoch: Epoch,
    pub hash: RollingHash,
    pub watermark: Option<EventTime>,
    pub max_event_time: Option<EventTime>,
    pub fingerprint: Option<Fingerprint>,
    pub counts: TaskCounts,
    /// Whether the group offset is known to equal `next` once this commits: only without Kafka outputs, where no
    /// group offset is a witness. Otherwise `settle` says so after a clean stop.
    pub settled: bool,
    /// Whether `next` is the end of the log, so that the partition counts as idle once it stays quiet.
    pub caught_up: bool,
}

impl Session {
    /// The rows of some tasks, without any lock: for looking, never for deciding.
    pub async fn read_progress(
        &mut self,
        application: &str,
        tps: &[TopicPartition],
    ) -> Result<Vec<ProgressRow>, PostgresError> {
        self.select(
            "SELECT p.* FROM millstream.progress p
             JOIN unnest($2::text[], $3::int[]) k (topic, partition) USING (topic, partition)
             WHERE p.application = $1 ORDER BY p.topic, p.partition",
            application,
            tps,
        )
        .await
    }

    /// Every row of an application, without any lock.
    pub async fn read_application(&mut self, application: &str) -> Result<Vec<ProgressRow>, PostgresError> {
        let sql = "SELECT * FROM millstream.progress WHERE application = $1 ORDER BY topic, partition";
        let result = bounded(CONTEXT, self.client.query(sql, &[&application])).await;
        self.note(result)?.iter().map(progress_row).collect()
    }

    /// The rows of some tasks once no commit on them is in flight: the witness of a lost reply.
    ///
    /// Order: a plain SELECT can return the old value after the new one was committed; this waits for the writer
    /// and returns what it left. Locks are taken in key order and end with the statement.
    pub async fn lock_progress(
        &mut self,
        application: &str,
        tps: &[TopicPartition],
    ) -> Result<Vec<ProgressRow>, PostgresError> {
        self.select(
            "SELECT p.* FROM millstream.progress p
             JOIN unnest($2::text[], $3::int[]) k (topic, partition) USING (topic, partition)
             WHERE p.application = $1 ORDER BY p.topic, p.partition FOR UPDATE OF p",
            application,
            tps,
        )
        .await
    }

    async fn select(
        &mut self,
        sql: &str,
        application: &str,
        tps: &[TopicPartition],
    ) -> Result<Vec<ProgressRow>, PostgresError> {
        let topics: Vec<&str> = tps.iter().map(|tp| &*tp.topic).collect();
        let partitions: Vec<i32> = tps.iter().map(|tp| tp.partition.0).collect();
        let result = bounded(CONTEXT, self.client.query(sql, &[&application, &topics, &partitions])).await;
        self.note(result)?.iter().map(progress_row).collect()
    }

    /// The plan hash of progress that another meaning of this application's pipeline made, if there is any.
    pub async fn other_plan(
        &mut self,
        application: &str,
        plan_hash: u64,
    ) -> Result<Option<u64>, PostgresError> {
        let sql =
            "SELECT plan_hash FROM millstream.progress WHERE application = $1 AND plan_hash <> $2 LIMIT 1";
        let plan_hash = plan_hash.cast_signed();
        let row = bounded(CONTEXT, self.client.query_opt(sql, &[&application, &plan_hash])).await;
        Ok(self.note(row)?.map(|row| row.get::<_, i64>(0).cast_unsigned()))
    }

    /// Records where a partition that was never seen begins. Does nothing if it has a row.
    pub async fn insert_bootstrap(
        &mut self,
        application: &str,
        tp: &TopicPartition,
        topic_id: &str,
        start: Offset,
        plan_hash: u64,
    ) -> Result<(), PostgresError> {
        // Why the counts: the topic may have grown since the start, and what stands behind rows waits for all its partitions.
        let sql = "WITH own AS (UPDATE millstream.aggregates SET partitions = greatest(partitions, $3 + 1)
                WHERE application = $1 AND topic = $2 AND partitions <= $3),
             routers AS (UPDATE millstream.aggregates SET routed_partitions = greatest(routed_partitions, $3 + 1)
                WHERE application = $1 AND routed_from = $2 AND routed_partitions <= $3)
             INSERT INTO millstream.progress (application, topic, partition, topic_id, bootstrapped,
                start_offset, prev, next, owner_epoch, epoch, hash, settled, plan_hash)
             VALUES ($1, $2, $3, $4, false, $5, $5, $5, 0, 0, $6, false, $7) ON CONFLICT DO NOTHING";
        let hash = RollingHash::default().0.cast_signed();
        let plan_hash = plan_hash.cast_signed();
        let result = bounded(
            CONTEXT,
            self.client.execute(
                sql,
                &[&application, &&*tp.topic, &tp.partition.0, &topic_id, &start.0, &hash, &plan_hash],
            ),
        )
        .await;
        self.note(result).map(drop)
    }

    /// Says that the group offset of the start is committed. False: the task has another owner.
    pub async fn mark_bootstrapped(
        &mut self,
        application: &str,
        tp: &TopicPartition,
        owner_epoch: OwnerEpoch,
    ) -> Result<bool, PostgresError> {
        let sql = "UPDATE millstream.progress SET bootstrapped = true, updated_at = now()
             WHERE application = $1 AND topic = $2 AND partition = $3 AND owner_epoch = $4";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&application, &&*tp.topic, &tp.partition.0, &owner_epoch.0];
        let result = bounded(CONTEXT, self.client.execute(sql, &parameters)).await;
        Ok(self.note(result)? == 1)
    }

    /// Takes a task: fences every earlier owner and returns the row as it stands from now on. None: no row.
    /// `LockTimeout`: a commit on it is in flight for longer than the bound; see `terminate_recorded_backend`.
    pub async fn take(
        &mut self,
        application: &str,
        tp: &TopicPartition,
        owner: &str,
    ) -> Result<Option<ProgressRow>, PostgresError> {
        let sql =
            "UPDATE millstream.progress SET owner_epoch = owner_epoch + 1, owner = $4, backend_pid = $5,
                backend_start = $6, caught_up_since = NULL, updated_at = now()
             WHERE application = $1 AND topic = $2 AND partition = $3 RETURNING *";
        let Backend { pid, start } = self.backend;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&application, &&*tp.topic, &tp.partition.0, &owner, &pid, &SqlTime(start)];
        let result = bounded(CONTEXT, self.client.query_opt(sql, &parameters)).await;
        let Some(row) = self.note(result)? else {
            return Ok(None);
        };
        let row = progress_row(&row)?;
        self.recorded.insert((tp.clone(), row.owner_epoch));
        Ok(Some(row))
    }

    /// Ends the server process recorded for a task, if it is still the same one. For a `take` that waited too
    /// long: idle and statement time-outs do not cover a client that stopped in mid-statement.
    pub async fn terminate_recorded_backend(
        &mut self,
        application: &str,
        tp: &TopicPartition,
    ) -> Result<bool, PostgresError> {
        let sql = "SELECT pg_terminate_backend(a.pid) FROM millstream.progress p
             JOIN pg_stat_activity a ON a.pid = p.backend_pid AND a.backend_start = p.backend_start
             WHERE p.application = $1 AND p.topic = $2 AND p.partition = $3 AND a.pid <> pg_backend_pid()";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&application, &&*tp.topic, &tp.partition.0];
        let result = bounded(CONTEXT, self.client.query_opt(sql, &parameters)).await;
        Ok(self.note(result)?.is_some_and(|row| row.get(0)))
    }

    /// For an epoch whose rows are committed and only its outputs are not: the tasks whose row still carries this
    /// owner epoch and next offset. All must, before the Kafka transaction may commit. The rows do not change.
    pub async fn check_outputs_only(
        &mut self,
        application: &str,
        tasks: &[Owned],
    ) -> Result<Vec<TopicPartition>, PostgresError> {
        self.matching(
            "SELECT p.topic, p.partition FROM millstream.progress p
             JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) k (topic, partition, owner_epoch, next)
                USING (topic, partition, owner_epoch, next)
             WHERE p.application = $1 ORDER BY p.topic, p.partition FOR UPDATE OF p",
            application,
            tasks,
        )
        .await
    }

    /// On a clean stop: says that the group offset equals `next`. Returns the tasks that matched.
    pub async fn settle(
        &mut self,
        application: &str,
        tasks: &[Owned],
    ) -> Result<Vec<TopicPartition>, PostgresError> {
        self.matching(
            "UPDATE millstream.progress p SET settled = true, updated_at = now()
             FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) k (topic, partition, owner_epoch, next)
             WHERE p.application = $1 AND p.topic = k.topic AND p.partition = k.partition
                AND p.owner_epoch = k.owner_epoch AND p.next = k.next
             RETURNING p.topic, p.partition",
            application,
            tasks,
        )
        .await
    }

    /// Says that partitions without new records stand at the log's end, so that finality may leave them out once
    /// they stay quiet. Needed where no epoch says it: an empty partition, or one found caught up later. To be said
    /// again and again: finality believes it for half a minute.
    pub async fn mark_caught_up(
        &mut self,
        application: &str,
        tasks: &[Owned],
    ) -> Result<Vec<TopicPartition>, PostgresError> {
        self.matching(
            "UPDATE millstream.progress p SET caught_up_since = coalesce(p.caught_up_since, now()), updated_at = now()
             FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) k (topic, partition, owner_epoch, next)
             WHERE p.application = $1 AND p.topic = k.topic AND p.partition = k.partition
                AND p.owner_epoch = k.owner_epoch AND p.next = k.next
             RETURNING p.topic, p.partition",
            application,
            tasks,
        )
        .await
    }

    async fn matching(
        &mut self,
        sql: &str,
        application: &str,
        tasks: &[Owned],
    ) -> Result<Vec<TopicPartition>, PostgresError> {
        let topics: Vec<&str> = tasks.iter().map(|task| &*task.tp.topic).collect();
        let partitions: Vec<i32> = tasks.iter().map(|task| task.tp.partition.0).collect();
        let owners: Vec<i64> = tasks.iter().map(|task| task.owner_epoch.0).collect();
        let next: Vec<i64> = tasks.iter().map(|task| task.next.0).collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&application, &topics, &partitions, &owners, &next];
        let result = bounded(CONTEXT, self.client.query(sql, &parameters)).await;
        Ok(self.note(result)?.iter().map(key).collect())
    }

    /// Puts this session into the rows of tasks that an earlier session took, so that a later owner can end it.
    pub(super) async fn record_backend(
        &mut self,
        application: &str,
        tasks: &[TaskCommit],
    ) -> Result<(), PostgresError> {
        let new: Vec<&TaskCommit> = tasks
            .iter()
            .filter(|task| !self.recorded.contains(&(task.tp.clone(), task.owner_epoch)))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let topics: Vec<&str> = new.iter().map(|task| &*task.tp.topic).collect();
        let partitions: Vec<i32> = new.iter().map(|task| task.tp.partition.0).collect();
        let owners: Vec<i64> = new.iter().map(|task| task.owner_epoch.0).collect();
        let sql = "UPDATE millstream.progress p SET backend_pid = $5, backend_start = $6
             FROM unnest($2::text[], $3::int[], $4::bigint[]) k (topic, partition, owner_epoch)
             WHERE p.application = $1 AND p.topic = k.topic AND p.partition = k.partition
                AND p.owner_epoch = k.owner_epoch";
        let Backend { pid, start } = self.backend;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&application, &topics, &partitions, &owners, &pid, &SqlTime(start)];
        bounded(CONTEXT, self.client.execute(sql, &parameters)).await?;
        let keys: Vec<_> = new.iter().map(|task| (task.tp.clone(), task.owner_epoch)).collect();
        self.recorded.extend(keys);
        Ok(())
    }
}

/// The task of a row whose first two columns are topic and partition.
pub(super) fn key(row: &Row) -> TopicPartition {
    TopicPartition::new(row.get::<_, &str>(0), row.get(1))
}

fn progress_row(row: &Row) -> Result<ProgressRow, PostgresError> {
    read_row(row).map_err(|error| PostgresError::Corrupt {
        context: CONTEXT.to_owned(),
        cause: std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string),
    })
}

fn read_row(row: &Row) -> Result<ProgressRow, tokio_postgres::Error> {
    let time = |name: &str| row.try_get::<_, Option<SqlTime>>(name).map(|t| t.map(|t| t.0));
    let pid: Option<i32> = row.try_get("backend_pid")?;
    let fingerprint_offset: Option<i64> = row.try_get("fingerprint_offset")?;
    let timestamp_ms: Option<i64> = row.try_get("fingerprint_timestamp_ms")?;
    let fingerprint_hash: Option<i64> = row.try_get("fingerprint_hash")?;
    let fingerprint = match (fingerprint_offset, timestamp_ms, fingerprint_hash) {
        (Some(offset), Some(timestamp_ms), Some(hash)) => {
            Some(Fingerprint { offset: Offset(offset), timestamp_ms, hash: hash.cast_unsigned() })
        }
        _ => None,
    };
    let topic: &str = row.try_get("topic")?;
    Ok(ProgressRow {
        tp: TopicPartition::new(topic, row.try_get("partition")?),
        topic_id: row.try_get("topic_id")?,
        bootstrapped: row.try_get("bootstrapped")?,
        start: Offset(row.try_get("start_offset")?),
        prev: Offset(row.try_get("prev")?),
        next: Offset(row.try_get("next")?),
        owner_epoch: OwnerEpoch(row.try_get("owner_epoch")?),
        owner: row.try_get("owner")?,
        backend: pid.zip(time("backend_start")?).map(|(pid, start)| Backend { pid, start }),
        epoch: Epoch(row.try_get("epoch")?),
        commit_time: time("commit_time")?,
        hash: RollingHash(row.try_get::<_, i64>("hash")?.cast_unsigned()),
        watermark: time("watermark")?,
        max_event_time: time("max_event_time")?,
        settled: row.try_get("settled")?,
        fingerprint,
        plan_hash: row.try_get::<_, i64>("plan_hash")?.cast_unsigned(),
        counts: TaskCounts {
            read: row.try_get("read")?,
            accepted: row.try_get("accepted")?,
            duplicate: row.try_get("duplicate")?,
            dead: row.try_get("dead")?,
            routed: row.try_get("routed")?,
            dead_by_reason: row.try_get::<_, Json<_>>("dead_by_reason")?.0,
            checks: row.try_get::<_, Json<_>>("checks")?.0,
            aggregates: row.try_get::<_, Json<_>>("aggregates")?.0,
        },
        caught_up_since: time("caught_up_since")?,
        updated_at: row.try_get::<_, SqlTime>("updated_at")?.0,
    })
}
