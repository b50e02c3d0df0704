//! Columns whose numbers come after the upsert of their rows, and the sketches behind distinct counts.

use std::collections::HashMap;

use millstream_core::aggregate::Sketch;
use millstream_core::pipeline::{Aggregate, Function};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement, Transaction};

use super::columns::{ColumnArray, array_type};
use super::delta::ResultDelta;
use super::quantiles::{self, QuantileStatements, add_quantiles};
use super::session::bounded;
use super::values::{self, add_values};
use super::{PostgresError, Session, quote};

const CONTEXT: &str = "millstream.sketches";
/// Rows of one aggregate with sketches per statement: a megabyte for each partition where every sketch is full.
pub(super) const ROWS_PER_STATEMENT: usize = 250;

/// What an epoch needs for an aggregate with columns whose numbers come after its upsert.
pub(super) struct SketchStatements {
    /// Of distinct counts by sketches.
    sketches: Option<DistinctStatements>,
    /// Of exact ones.
    values: Option<Statement>,
    quantiles: Option<QuantileStatements>,
    update: Statement,
}

struct DistinctStatements {
    write: Statement,
    read: Statement,
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

fn is_count_distinct(function: Function) -> bool {
    function == Function::CountDistinct
}

fn is_percentile(function: Function) -> bool {
    matches!(function, Function::ApproxPercentile(_))
}

/// The tables in which an aggregate keeps more of its rows than stands in them.
pub(super) fn tables(aggregate: &Aggregate) -> impl Iterator<Item = &'static str> {
    let has = |with| columns(aggregate, with).next().is_some();
    let distinct = has(is_approx_distinct).then_some(CONTEXT);
    let values = has(is_count_distinct).then_some(values::CONTEXT);
    let quantiles = has(is_percentile).then_some(quantiles::CONTEXT);
    [distinct, values, quantiles].into_iter().flatten()
}

impl Session {
    /// Prepares what the sketches of an aggregate need, outside the epoch's transaction.
    pub(super) async fn prepare_sketches(
        &mut self,
        aggregate: &Aggregate,
    ) -> Result<Option<SketchStatements>, PostgresError> {
        if !is_sketched(aggregate) {
            return Ok(None);
        }
        let has = |with| columns(aggregate, with).next().is_some();
        let sketches = match has(is_approx_distinct) {
            true => Some(DistinctStatements {
                write: self.prepared(CONTEXT, WRITE).await?,
                read: self.prepared(CONTEXT, READ).await?,
            }),
            false => None,
        };
        let values = match has(is_count_distinct) {
            true => Some(self.prepared(values::CONTEXT, values::INSERT).await?),
            false => None,
        };
        let quantiles = match has(is_percentile) {
            true => Some(QuantileStatements {
                read: self.prepared(quantiles::CONTEXT, quantiles::READ).await?,
                write: self.prepared(quantiles::CONTEXT, quantiles::WRITE).await?,
            }),
            false => None,
        };
        let update = self.prepared(&aggregate.table.name, &update_sql(aggregate)).await?;
        Ok(Some(SketchStatements { sketches, values, quantiles, update }))
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
