//! Rows of result tables, merged into what stands there.

use millstream_core::model::{DataType, EventTime};
use millstream_core::pipeline::{Aggregate, Function};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

use super::columns::{ColumnArray, ROWS_PER_STATEMENT, array_type};
use super::delta::{AggregateDelta, ResultDelta};
use super::partials::{self, merge_partials, partials_sql};
use super::session::bounded;
use super::sketches::{self, SketchStatements, is_sketched, merge_sketches};
use super::sweep::{Sweep, sweep};
use super::{PostgresError, Session, quote};

pub(super) struct TableStatements {
    upsert: Statement,
    partials: Option<Statement>,
    sketches: Option<SketchStatements>,
    sweep: Option<Sweep>,
}

/// Order: all workers write their tables by name and rows by key, so none waits for one that waits for it.
fn in_table_order<'e>(deltas: &'e [AggregateDelta<'e>]) -> Vec<&'e AggregateDelta<'e>> {
    let mut deltas: Vec<&AggregateDelta<'_>> = deltas.iter().filter(|d| !d.rows.is_empty()).collect();
    deltas.sort_by(|a, b| a.aggregate.table.name.cmp(&b.aggregate.table.name));
    deltas
}

impl Session {
    /// Prepares what the tables of these deltas need, outside the epoch's transaction; in table order. `watermark`: the
    /// least of the epoch's tasks.
    pub(super) async fn prepare_results(
        &mut self,
        deltas: &[AggregateDelta<'_>],
        watermark: Option<EventTime>,
    ) -> Result<Vec<TableStatements>, PostgresError> {
        let mut tables = Vec::new();
        for AggregateDelta { aggregate, .. } in in_table_order(deltas) {
            let upsert = self.prepared(&aggregate.table.name, &upsert_sql(aggregate)).await?;
            let averages = aggregate.select.iter().any(|s| s.function == Function::Avg);
            let partials = match averages {
                true => Some(self.prepared(partials::CONTEXT, &partials_sql()).await?),
                false => None,
            };
            let sketches = self.prepare_sketches(aggregate).await?;
            let sweep = self.prepare_sweep(aggregate, watermark).await?;
            tables.push(TableStatements { upsert, partials, sketches, sweep });
        }
        Ok(tables)
    }
}

/// Merges rows into their tables and sweeps behind them. Answers from which window on each aggregate that was swept to the
/// end has something left: true once the transaction is committed.
pub(super) async fn merge_results(
    transaction: &Transaction<'_>,
    statements: &[TableStatements],
    application: &str,
    deltas: &[AggregateDelta<'_>],
) -> Result<Vec<(String, EventTime)>, PostgresError> {
    let mut swept = Vec::new();
    for (AggregateDelta { aggregate, rows }, table) in in_table_order(deltas).into_iter().zip(statements) {
        let size = if is_sketched(aggregate) { sketches::ROWS_PER_STATEMENT } else { ROWS_PER_STATEMENT };
        for rows in rows.chunks(size) {
            merge_rows(transaction, table, application, aggregate, rows).await?;
        }
        if let Some(statements) = &table.sweep {
            let done = sweep(transaction, statements, application, aggregate).await?;
            swept.extend(done.map(|live| (aggregate.name.to_string(), live)));
        }
    }
    Ok(swept)
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
            let [there, more] = [format!("t.{column}"), format!("excluded.{column}")];
            let sum = match data_type {
                DataType::Double => partials::double_sum_sql(&there, &more),
                _ => format!("{there} + {more}"),
            };
            format!("{column} = coalesce({sum}, {there}, {more})")
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
