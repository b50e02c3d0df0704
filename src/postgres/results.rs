//! One epoch in one transaction: the decision, result rows, dead letters.

use millstream_core::aggregate::Accumulator;
use millstream_core::engine::PartitionSketch;
use millstream_core::model::{DataType, EventTime, TopicPartition, Value, WindowSpan};
use millstream_core::pipeline::{Aggregate, Function};
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Statement, Transaction};

use super::columns::{ColumnArray, SqlTime, array_type};
use super::dead_letters::{DeadLetter, dead_letter_sql, write_dead_letters};
#[cfg(feature = "fault")]
use super::deliberate::{self, Deliberate};
use super::partials::{merge_partials, partials_sql};
use super::progress::{Backend, TaskCommit, key};
use super::records::{RecordRows, insert_rows, insert_sql};
use super::session::{bounded, commit};
use super::sessions::{SessionDelta, SessionStatements, write_sessions};
use super::sketches::{self, SketchStatements, is_sketched, merge_sketches};
use super::sweep::{Sweep, sweep};
use super::{PostgresError, Session, quote};

/// Rows per statement: keeps each well below `statement_timeout` and its parameters in some megabytes.
pub(super) const ROWS_PER_STATEMENT: usize = 20_000;

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

/// What an epoch adds to one result table, merged over the worker's tasks and sorted by `row_key`.
pub struct AggregateDelta<'a> {
    pub aggregate: &'a Aggregate,
    pub rows: Vec<ResultDelta>,
}

/// What an epoch adds to one row.
#[derive(Clone, Debug)]
pub struct ResultDelta {
    pub window: WindowSpan,
    /// Unique bytes of window and key; the order in which rows are written.
    pub row_key: Vec<u8>,
    /// The `by` columns.
    pub key: Vec<Value<'static>>,
    /// One per selected column.
    pub accumulators: Vec<Accumulator>,
    /// Of the columns with a distinct count.
    pub sketches: Vec<PartitionSketch>,
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
        let mut swept = Vec::new();
        for (delta, table) in in_table_order(epoch).into_iter().zip(&statements.tables) {
            let aggregate = delta.aggregate;
            let size = if is_sketched(aggregate) { sketches::ROWS_PER_STATEMENT } else { ROWS_PER_STATEMENT };
            for rows in delta.rows.chunks(size) {
                merge_rows(&transaction, table, epoch.application, aggregate, rows).await?;
            }
            if let Some(statements) = &table.sweep {
                let done = sweep(&transaction, statements, epoch.application, aggregate).await?;
                swept.extend(done.map(|live| (aggregate.name.to_string(), live)));
            }
        }
        write_sessions(&transaction, &statements.sessions, epoch).await?;
        for (rows, statement) in epoch.records.iter().zip(&statements.records) {
            insert_rows(&transaction, statement, rows, epoch.commit_time).await?;
        }
        hooks(Step::RowsMerged);
        #[cfg(feature = "fault")]
        deliberate::before_dead_letters(&transaction, &epoch.deliberate).await?;
        if let Some(statement) = &statements.dead_letters {
            write_dead_letters(&transaction, statement, epoch).await?;
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
        let mut tables = Vec::new();
        for delta in in_table_order(epoch) {
            let table = &delta.aggregate.table;
            let upsert = self.prepared(&table.name, &upsert_sql(delta.aggregate)).await?;
            let averages = delta.aggregate.select.iter().any(|s| s.function == Function::Avg);
            let partials = match averages {
                true => Some(self.prepared("millstream.partials", partials_sql()).await?),
                false => None,
            };
            let sketches = self.prepare_sketches(delta.aggregate).await?;
            let sweep = self.prepare_sweep(epoch, delta.aggregate).await?;
            tables.push(TableStatements { upsert, partials, sketches, sweep });
        }
        let sessions = self.prepare_sessions(epoch).await?;
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

struct TableStatements {
    upsert: Statement,
    partials: Option<Statement>,
    sketches: Option<SketchStatements>,
    sweep: Option<Sweep>,
}

/// Order: all workers write their tables by name and rows by key, so none waits for one that waits for it.
fn in_table_order<'e>(epoch: &'e EpochCommit<'_>) -> Vec<&'e AggregateDelta<'e>> {
    let mut deltas: Vec<&AggregateDelta<'_>> = epoch.results.iter().filter(|d| !d.rows.is_empty()).collect();
    deltas.sort_by(|a, b| a.aggregate.table.name.cmp(&b.aggregate.table.name));
    deltas
}

/// The decision. Invariant: `owner_epoch` and `next` are compared for every task (I4).
const UPDATE: &str = "UPDATE millstream.progress p SET
        prev = p.next, next = u.next, epoch = u.epoch, commit_time = $2, hash = u.hash, watermark = u.watermark,
        max_event_time = u.max_event_time, settled = u.settled, fingerprint_offset = u.fingerprint_offset,
        fingerprint_timestamp_ms = u.fingerprint_timestamp_ms, fingerprint_hash = u.fingerprint_hash,
        plan_hash = $3, backend_pid = $4, backend_start = $5, read = u.read, accepted = u.accepted,
        duplicate = u.duplicate, dead = u.dead, dead_by_reason = u.dead_by_reason, checks = u.checks,
        aggregates = u.aggregates, updated_at = now(),
        caught_up_since = CASE WHEN NOT u.caught_up THEN NULL WHEN u.next > p.next THEN now()
            ELSE coalesce(p.caught_up_since, now()) END
    FROM unnest($6::text[], $7::int[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
            $13::timestamptz[], $14::timestamptz[], $15::bool[], $16::bool[], $17::bigint[], $18::bigint[],
            $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[], $24::jsonb[], $25::jsonb[],
            $26::jsonb[])
        u (topic, partition, owner_epoch, prev, next, epoch, hash, watermark, max_event_time, settled, caught_up,
            fingerprint_offset, fingerprint_timestamp_ms, fingerprint_hash, read, accepted, duplicate, dead,
            dead_by_reason, checks, aggregates)
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
    let parameters: [&(dyn ToSql + Sync); 26] = [
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
    ];
    let rows = bounded("millstream.progress", transaction.query(statement, &parameters)).await?;
    Ok(rows.iter().map(key).collect())
}

/// The upsert of one result table: one array per column.
fn upsert_sql(aggregate: &Aggregate) -> String {
    let table = &aggregate.table;
    let (mut names, mut fields, mut arrays, mut aliases) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, column) in table.columns.iter().enumerate() {
        let (array, cast) = array_type(column.data_type);
        names.push(quote(&column.name));
        fields.push(format!("u.c{i}{cast}"));
        arrays.push(format!("${}::{array}", i + 1));
        aliases.push(format!("c{i}"));
    }
    let key: Vec<String> = table.key.iter().map(|name| quote(name)).collect();
    let selected = &table.columns[by_end(aggregate)..];
    let merges: Vec<String> = aggregate
        .select
        .iter()
        .zip(selected)
        .map(|(select, column)| merge_sql(select.function, column.data_type, &quote(&column.name)))
        .collect();
    format!(
        "INSERT INTO {} AS t ({}) SELECT {} FROM unnest({}) u ({}) ON CONFLICT ({}) DO UPDATE SET {}",
        quote(&table.name),
        names.join(", "),
        fields.join(", "),
        arrays.join(", "),
        aliases.join(", "),
        key.join(", "),
        merges.join(", ")
    )
}

/// How a delta meets the value that stands there. An average comes finished from its partial sums; a distinct count and a
/// percentile come afterwards.
fn merge_sql(function: Function, data_type: DataType, column: &str) -> String {
    let collate = if data_type == DataType::Text { " COLLATE \"C\"" } else { "" };
    let pair = format!("t.{column}{collate}, excluded.{column}{collate}");
    match function {
        Function::Count | Function::LateRows => format!("{column} = t.{column} + excluded.{column}"),
        Function::ApproxDistinct | Function::CountDistinct | Function::ApproxPercentile(_) => {
            format!("{column} = t.{column}")
        }
        Function::Sum => {
            format!("{column} = coalesce(t.{column} + excluded.{column}, t.{column}, excluded.{column})")
        }
        Function::Min => format!("{column} = least({pair})"),
        Function::Max => format!("{column} = greatest({pair})"),
        Function::Avg => format!("{column} = excluded.{column}"),
    }
}

/// Index of the first selected column: before it stand the window's two and the `by` columns.
fn by_end(aggregate: &Aggregate) -> usize {
    aggregate.table.columns.len() - aggregate.select.len()
}

async fn merge_rows(
    transaction: &Transaction<'_>,
    statements: &TableStatements,
    application: &str,
    aggregate: &Aggregate,
    rows: &[ResultDelta],
) -> Result<(), PostgresError> {
    let place = |row: &ResultDelta| (row.window.start, row.row_key.clone());
    debug_assert!(rows.is_sorted_by(|a, b| place(a) < place(b)), "sorted and merged");
    let averages = match &statements.partials {
        Some(statement) => merge_partials(transaction, statement, application, aggregate, rows).await?,
        None => Vec::new(),
    };
    let columns = &aggregate.table.columns;
    let mut arrays: Vec<ColumnArray<'_>> =
        columns.iter().map(|column| ColumnArray::new(column.data_type, rows.len())).collect();
    let (keys, selected) = arrays.split_at_mut(by_end(aggregate));
    for row in rows {
        assert_eq!(row.key.len() + 2, keys.len(), "a value per by column");
        keys[0].push_time(row.window.start);
        keys[1].push_time(row.window.end);
        keys[2..].iter_mut().zip(&row.key).for_each(|(array, value)| array.push(value));
        for ((array, select), accumulator) in
            selected.iter_mut().zip(&aggregate.select).zip(&row.accumulators)
        {
            if select.function != Function::Avg {
                array.push_accumulator(accumulator);
            }
        }
    }
    for (column, values) in averages {
        selected[column] = ColumnArray::Double(values);
    }
    let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(ColumnArray::parameter).collect();
    bounded(&aggregate.table.name, transaction.execute(&statements.upsert, &parameters)).await?;
    match &statements.sketches {
        Some(statements) => merge_sketches(transaction, statements, application, aggregate, rows).await,
        None => Ok(()),
    }
}
