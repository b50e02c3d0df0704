//! Columns whose numbers come after the upsert of their rows, and the sketches behind distinct counts.

use std::collections::HashMap;

use millstream_core::aggregate::Sketch;
use millstream_core::model::EventTime;
use millstream_core::pipeline::{Aggregate, Function};
use millstream_core::window::Frame;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement, Transaction};

use super::columns::{ColumnArray, SqlTime, array_type};
use super::quantiles::{self, QuantileStatements, add_quantiles};
use super::results::{EpochCommit, ResultDelta};
use super::session::bounded;
use super::values::{self, add_values};
use super::{PostgresError, Session, quote};

const CONTEXT: &str = "millstream.sketches";
/// Rows of one aggregate with sketches per statement: some megabytes where every sketch is full.
pub(super) const ROWS_PER_STATEMENT: usize = 1_000;
/// Rows that one epoch removes at most, per aggregate and table.
const SWEPT_ROWS: i64 = 20_000;

/// What an epoch needs for an aggregate with columns whose numbers come after its upsert.
pub(super) struct SketchStatements {
    /// Of distinct counts by sketches.
    sketches: Option<DistinctStatements>,
    /// Of exact ones.
    values: Option<Statement>,
    quantiles: Option<QuantileStatements>,
    update: Statement,
    /// Where windows may have come to their end.
    sweep: Option<Sweep>,
}

struct DistinctStatements {
    write: Statement,
    read: Statement,
}

struct Sweep {
    watermark: Statement,
    /// One per table that the aggregate keeps anything in.
    remove: Vec<Statement>,
}

/// Whether an aggregate keeps more of its rows than stands in them.
pub(super) fn is_sketched(aggregate: &Aggregate) -> bool {
    columns(aggregate, comes_after).next().is_some()
}

/// Whether the number of a column is known only once its row is locked.
fn comes_after(function: Function) -> bool {
    matches!(function, Function::ApproxDistinct | Function::CountDistinct | Function::ApproxPercentile(_))
}

/// The indexes of the selected columns with such a function.
fn columns(aggregate: &Aggregate, with: fn(Function) -> bool) -> impl Iterator<Item = usize> {
    let with = move |(index, function)| with(function).then_some(index);
    aggregate.select.iter().map(|s| s.function).enumerate().filter_map(with)
}

fn is_approx_distinct(function: Function) -> bool {
    function == Function::ApproxDistinct
}

impl Session {
    /// Prepares what the sketches of an aggregate need, outside the epoch's transaction.
    pub(super) async fn prepare_sketches(
        &mut self,
        epoch: &EpochCommit<'_>,
        aggregate: &Aggregate,
    ) -> Result<Option<SketchStatements>, PostgresError> {
        if !is_sketched(aggregate) {
            return Ok(None);
        }
        let has = |with| columns(aggregate, with).next().is_some();
        let mut tables = Vec::new();
        let sketches = if has(is_approx_distinct) {
            tables.push(CONTEXT);
            Some(DistinctStatements {
                write: self.prepared(CONTEXT, WRITE).await?,
                read: self.prepared(CONTEXT, READ).await?,
            })
        } else {
            None
        };
        let values = if has(|f| f == Function::CountDistinct) {
            tables.push(values::CONTEXT);
            Some(self.prepared(values::CONTEXT, values::INSERT).await?)
        } else {
            None
        };
        let quantiles = if has(|f| matches!(f, Function::ApproxPercentile(_))) {
            tables.push(quantiles::CONTEXT);
            Some(QuantileStatements {
                read: self.prepared(quantiles::CONTEXT, quantiles::READ).await?,
                write: self.prepared(quantiles::CONTEXT, quantiles::WRITE).await?,
            })
        } else {
            None
        };
        let update = self.prepared(&aggregate.table.name, &update_sql(aggregate)).await?;
        let sweep = match self.may_sweep(epoch, aggregate) {
            true => Some(self.prepare_sweep(&tables).await?),
            false => None,
        };
        Ok(Some(SketchStatements { sketches, values, quantiles, update, sweep }))
    }

    async fn prepare_sweep(&mut self, tables: &[&str]) -> Result<Sweep, PostgresError> {
        let watermark = self.prepared(CONTEXT, WATERMARK).await?;
        let mut remove = Vec::new();
        for table in tables {
            remove.push(self.prepared(table, &remove_sql(table)).await?);
        }
        Ok(Sweep { watermark, remove })
    }

    /// Whether the watermarks of these tasks have passed windows since this was asked last.
    fn may_sweep(&mut self, epoch: &EpochCommit<'_>, aggregate: &Aggregate) -> bool {
        let Some(least) = epoch.tasks.iter().filter_map(|task| task.watermark).min() else { return false };
        let live = Frame::of(aggregate.window).live_from(least, aggregate.allowed_lateness);
        let last = self.swept.insert(aggregate.name.to_string(), live);
        last.is_none_or(|last| last < live)
    }
}

/// A task's sketch replaces the one it wrote before, which it contains.
const WRITE: &str = "INSERT INTO millstream.sketches AS s
        (application, aggregate, row_key, column_name, partition, sketch)
    SELECT $1, $2, u.row_key, u.column_name, u.partition, u.sketch
    FROM unnest($3::bytea[], $4::text[], $5::int[], $6::bytea[]) u (row_key, column_name, partition, sketch)
    ON CONFLICT (application, aggregate, row_key, column_name, partition) DO UPDATE SET sketch = excluded.sketch";

/// The sketches of rows, apart from those that the epoch brings itself.
const READ: &str = "SELECT s.row_key, s.column_name, s.sketch FROM millstream.sketches s
    WHERE s.application = $1 AND s.aggregate = $2 AND s.row_key = ANY ($3::bytea[]) AND NOT EXISTS (
        SELECT FROM unnest($4::bytea[], $5::text[], $6::int[]) u (row_key, column_name, partition)
        WHERE u.row_key = s.row_key AND u.column_name = s.column_name AND u.partition = s.partition)";

/// The least watermark of all partitions; null while one has none.
const WATERMARK: &str = "SELECT CASE WHEN count(p.watermark) >= max(a.partitions) THEN min(p.watermark) END
    FROM millstream.aggregates a JOIN millstream.progress p USING (application, topic)
    WHERE a.application = $1 AND a.aggregate = $2";

/// Why: another worker may be at the same work; neither waits for the other.
fn remove_sql(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM {table} s
        WHERE s.application = $1 AND s.aggregate = $2 AND s.row_key < $3 LIMIT $4 FOR UPDATE SKIP LOCKED))"
    )
}

/// Writes the numbers that come after the upsert where they are not there yet. An exact distinct count grows, the others
/// are as computed.
fn update_sql(aggregate: &Aggregate) -> String {
    let table = &aggregate.table;
    let (mut arrays, mut aliases, mut same) = (Vec::new(), Vec::new(), Vec::new());
    for name in &table.key {
        let Some(column) = table.columns.iter().find(|c| c.name == *name) else { continue };
        let ((array, cast), i) = (array_type(column.data_type), aliases.len());
        arrays.push(format!("${}::{array}", i + 1));
        aliases.push(format!("c{i}"));
        same.push(format!("t.{} = u.c{i}{cast}", quote(name)));
    }
    let (mut set, mut changed) = (Vec::new(), Vec::new());
    for selected in columns(aggregate, comes_after).map(|index| &aggregate.select[index]) {
        let (name, i) = (quote(&selected.name), aliases.len());
        arrays.push(format!("${}::{}", i + 1, array_type(selected.data_type).0));
        aliases.push(format!("c{i}"));
        if selected.function == Function::CountDistinct {
            set.push(format!("{name} = t.{name} + u.c{i}"));
            changed.push(format!("u.c{i} <> 0"));
        } else {
            set.push(format!("{name} = u.c{i}"));
            changed.push(format!("t.{name} IS DISTINCT FROM u.c{i}"));
        }
    }
    format!(
        "UPDATE {} AS t SET {} FROM unnest({}) u ({}) WHERE {} AND ({})",
        quote(&table.name),
        set.join(", "),
        arrays.join(", "),
        aliases.join(", "),
        same.join(" AND "),
        changed.join(" OR ")
    )
}

/// The sketches that an epoch brings, as columns.
#[derive(Default)]
struct Brought<'r> {
    row_keys: Vec<&'r [u8]>,
    columns: Vec<&'r str>,
    partitions: Vec<i32>,
    sketches: Vec<Vec<u8>>,
}

/// Writes what an epoch adds to sketches and values, and the numbers of the rows they belong to.
pub(super) async fn merge_sketches(
    transaction: &Transaction<'_>,
    statements: &SketchStatements,
    application: &str,
    aggregate: &Aggregate,
    rows: &[ResultDelta],
) -> Result<(), PostgresError> {
    let mut estimates = match &statements.sketches {
        Some(statements) => {
            merge_distinct(transaction, statements, application, (aggregate, rows)).await?.into_iter()
        }
        None => Vec::new().into_iter(),
    };
    let mut numbers = Vec::new();
    for column in columns(aggregate, comes_after) {
        let array = match (aggregate.select[column].function, &statements.values, &statements.quantiles) {
            (Function::CountDistinct, Some(statement), _) => {
                add_values(transaction, statement, application, (aggregate, column), rows).await?
            }
            (Function::ApproxPercentile(q), _, Some(statements)) => {
                add_quantiles(transaction, statements, application, (aggregate, column, q), rows).await?
            }
            _ => ColumnArray::Bigint(estimates.next().expect("an estimate per column")),
        };
        numbers.push(array);
    }
    write_numbers(transaction, &statements.update, (aggregate, rows), numbers).await
}

/// Writes the sketches of an epoch; answers per distinct column the estimates of the rows.
///
/// Order: the result rows are locked already, by the upsert of an earlier statement. Whoever comes second to a row
/// waited there, and reads here, with a snapshot of its own, what the first one wrote.
async fn merge_distinct(
    transaction: &Transaction<'_>,
    statements: &DistinctStatements,
    application: &str,
    (aggregate, rows): (&Aggregate, &[ResultDelta]),
) -> Result<Vec<Vec<Option<i64>>>, PostgresError> {
    let mut brought = Brought::default();
    for (row, sketch) in rows.iter().flat_map(|row| row.sketches.iter().map(move |s| (row, s))) {
        brought.row_keys.push(&row.row_key);
        brought.columns.push(&aggregate.select[sketch.column].name);
        brought.partitions.push(sketch.partition.0);
        brought.sketches.push(sketch.sketch.to_bytes());
    }
    let Brought { row_keys, columns, partitions, sketches } = &brought;
    let name = &*aggregate.name;
    let keys: Vec<&[u8]> = rows.iter().map(|row| &row.row_key[..]).collect();
    let ours: [&(dyn ToSql + Sync); 6] = [&application, &name, &keys, row_keys, columns, partitions];
    let others = bounded(CONTEXT, transaction.query(&statements.read, &ours)).await?;
    let ours: [&(dyn ToSql + Sync); 6] = [&application, &name, row_keys, columns, partitions, sketches];
    bounded(CONTEXT, transaction.execute(&statements.write, &ours)).await?;
    estimates(aggregate, rows, &others)
}

/// Per distinct column the estimates of the rows.
fn estimates(
    aggregate: &Aggregate,
    rows: &[ResultDelta],
    others: &[Row],
) -> Result<Vec<Vec<Option<i64>>>, PostgresError> {
    let mut read: HashMap<(&[u8], &str), Vec<Sketch>> = HashMap::new();
    for row in others {
        let (row_key, column, bytes): (&[u8], &str, &[u8]) = (row.get(0), row.get(1), row.get(2));
        let sketch = Sketch::from_bytes(bytes)
            .map_err(|e| PostgresError::Corrupt { context: CONTEXT.to_owned(), cause: e.to_string() })?;
        read.entry((row_key, column)).or_default().push(sketch);
    }
    let estimate = |row: &ResultDelta, column: usize| {
        let place = (&row.row_key[..], &*aggregate.select[column].name);
        let mine = row.sketches.iter().filter(|s| s.column == column).map(|s| &s.sketch);
        Some(Sketch::estimate_of_all(mine.chain(read.get(&place).into_iter().flatten())))
    };
    let of_column = |column| rows.iter().map(|row| estimate(row, column)).collect();
    Ok(columns(aggregate, is_approx_distinct).map(of_column).collect())
}

async fn write_numbers(
    transaction: &Transaction<'_>,
    statement: &Statement,
    (aggregate, rows): (&Aggregate, &[ResultDelta]),
    numbers: Vec<ColumnArray<'_>>,
) -> Result<(), PostgresError> {
    let table = &aggregate.table;
    let mut arrays = Vec::new();
    for name in &table.key {
        let Some(at) = table.columns.iter().position(|c| c.name == *name) else { continue };
        let mut array = ColumnArray::new(table.columns[at].data_type, rows.len());
        for row in rows {
            match at {
                0 => array.push_time(row.window.start),
                1 => array.push_time(row.window.end),
                _ => array.push(&row.key[at - 2]),
            }
        }
        arrays.push(array);
    }
    arrays.extend(numbers);
    let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(ColumnArray::parameter).collect();
    bounded(&table.name, transaction.execute(statement, &parameters)).await?;
    Ok(())
}

/// Removes what is kept for windows that no partition can reach any more: their rows do not change again. Answers whether
/// more of it may be left.
pub(super) async fn sweep_sketches(
    transaction: &Transaction<'_>,
    statements: &SketchStatements,
    application: &str,
    aggregate: &Aggregate,
) -> Result<bool, PostgresError> {
    let Some(Sweep { watermark, remove }) = &statements.sweep else { return Ok(false) };
    let name = &*aggregate.name;
    let row = bounded(CONTEXT, transaction.query_one(watermark, &[&application, &name])).await?;
    let Some(SqlTime(least)) = row.get::<_, Option<SqlTime>>(0) else { return Ok(false) };
    let live = Frame::of(aggregate.window).live_from(least, aggregate.allowed_lateness);
    if live <= EventTime(0) {
        return Ok(false);
    }
    let (before, mut more) = (live.0.to_be_bytes(), false);
    for statement in remove {
        let parameters: [&(dyn ToSql + Sync); 4] = [&application, &name, &&before[..], &SWEPT_ROWS];
        let removed = bounded(CONTEXT, transaction.execute(statement, &parameters)).await?;
        more |= removed == SWEPT_ROWS.unsigned_abs();
    }
    Ok(more)
}
