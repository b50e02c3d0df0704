//! Tables of sessions: an epoch writes whole rows, and removes those that a merge has replaced.
//!
//! A session belongs to one partition, whose owner knows all of it: nothing is merged here, and what is written is right
//! whatever was there.

use millstream_core::engine::SessionChange;
use millstream_core::model::Value;
use millstream_core::pipeline::Aggregate;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

use super::columns::{ColumnArray, ROWS_PER_STATEMENT, array_type};
use super::session::bounded;
use super::{PostgresError, Session, quote};

/// What an epoch changes in one table of sessions, merged over the worker's tasks and sorted by key and start.
pub struct SessionDelta<'a> {
    pub aggregate: &'a Aggregate,
    pub rows: Vec<SessionRow>,
}

/// A row that is written, or removed.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// The columns of `by` and the start, which tell the row apart.
    pub key: Vec<Value<'static>>,
    /// All columns, in order; none: the row goes.
    pub values: Option<Vec<Value<'static>>>,
}

pub(super) struct SessionStatements {
    remove: Statement,
    write: Statement,
}

impl SessionRow {
    /// From a change whose group key was decoded.
    pub fn new(change: SessionChange, mut key: Vec<Value<'static>>) -> SessionRow {
        let values = change.row.map(|row| key.iter().cloned().chain(row).collect());
        key.push(Value::Timestamp(change.start));
        SessionRow { key, values }
    }
}

impl Session {
    /// Prepares what tables of sessions need, outside the epoch's transaction; in table order.
    pub(super) async fn prepare_sessions(
        &mut self,
        deltas: &[SessionDelta<'_>],
    ) -> Result<Vec<SessionStatements>, PostgresError> {
        let mut statements = Vec::new();
        for SessionDelta { aggregate, .. } in in_table_order(deltas) {
            let table = &aggregate.table.name;
            let remove = self.prepared(table, &remove_sql(aggregate)).await?;
            let write = self.prepared(table, &write_sql(aggregate)).await?;
            statements.push(SessionStatements { remove, write });
        }
        Ok(statements)
    }
}

/// Order: all workers write their tables by name and rows by key. These come after the tables of windows.
fn in_table_order<'e>(deltas: &'e [SessionDelta<'e>]) -> Vec<&'e SessionDelta<'e>> {
    let mut deltas: Vec<&SessionDelta<'_>> = deltas.iter().filter(|d| !d.rows.is_empty()).collect();
    deltas.sort_by(|a, b| a.aggregate.table.name.cmp(&b.aggregate.table.name));
    deltas
}

/// Removes replaced rows and writes changed ones. Readers see both at once, or neither.
pub(super) async fn write_sessions(
    transaction: &Transaction<'_>,
    statements: &[SessionStatements],
    deltas: &[SessionDelta<'_>],
) -> Result<(), PostgresError> {
    for (SessionDelta { aggregate, rows }, statements) in in_table_order(deltas).into_iter().zip(statements) {
        let gone: Vec<&[Value<'_>]> =
            rows.iter().filter(|row| row.values.is_none()).map(|row| &row.key[..]).collect();
        let columns = key_columns(aggregate);
        for rows in gone.chunks(ROWS_PER_STATEMENT) {
            execute(transaction, &statements.remove, (aggregate, &columns), rows).await?;
        }
        let columns: Vec<usize> = (0..aggregate.table.columns.len()).collect();
        let written: Vec<&[Value<'_>]> = rows.iter().filter_map(|row| row.values.as_deref()).collect();
        for rows in written.chunks(ROWS_PER_STATEMENT) {
            execute(transaction, &statements.write, (aggregate, &columns), rows).await?;
        }
    }
    Ok(())
}

/// Runs a statement on rows whose values are those of the named columns.
async fn execute(
    transaction: &Transaction<'_>,
    statement: &Statement,
    (aggregate, columns): (&Aggregate, &[usize]),
    rows: &[&[Value<'_>]],
) -> Result<(), PostgresError> {
    let table = &aggregate.table;
    let mut arrays = Vec::with_capacity(columns.len());
    for (place, column) in columns.iter().enumerate() {
        let mut array = ColumnArray::new(table.columns[*column].data_type, rows.len());
        for row in rows {
            assert_eq!(row.len(), columns.len(), "a value per column");
            array.push(&row[place]);
        }
        arrays.push(array);
    }
    let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(ColumnArray::parameter).collect();
    bounded(&table.name, transaction.execute(statement, &parameters)).await?;
    Ok(())
}

/// Indexes of the columns of `by` and of the start, which is the first one behind them.
fn key_columns(aggregate: &Aggregate) -> Vec<usize> {
    (0..=aggregate.by.len()).collect()
}

/// The columns as arrays of an `unnest`, its aliases, and its values with their types.
struct Unnested {
    arrays: String,
    aliases: String,
    values: Vec<String>,
}

impl Unnested {
    fn of(aggregate: &Aggregate, columns: &[usize]) -> Unnested {
        let (mut arrays, mut aliases, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (place, column) in columns.iter().enumerate() {
            let (array, cast) = array_type(aggregate.table.columns[*column].data_type);
            arrays.push(format!("${}::{array}", place + 1));
            aliases.push(format!("c{place}"));
            values.push(format!("u.c{place}{cast}"));
        }
        Unnested { arrays: arrays.join(", "), aliases: aliases.join(", "), values }
    }
}

fn remove_sql(aggregate: &Aggregate) -> String {
    let (table, columns) = (&aggregate.table, key_columns(aggregate));
    let Unnested { arrays, aliases, values } = Unnested::of(aggregate, &columns);
    let same: Vec<String> = columns
        .iter()
        .zip(&values)
        .map(|(column, value)| format!("t.{} = {value}", quote(&table.columns[*column].name)))
        .collect();
    format!(
        "DELETE FROM {} AS t USING unnest({arrays}) u ({aliases}) WHERE {}",
        quote(&table.name),
        same.join(" AND ")
    )
}

fn write_sql(aggregate: &Aggregate) -> String {
    let (table, columns) = (&aggregate.table, (0..aggregate.table.columns.len()).collect::<Vec<_>>());
    let Unnested { arrays, aliases, values } = Unnested::of(aggregate, &columns);
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let key: Vec<String> = table.key.iter().map(|name| quote(name)).collect();
    let set: Vec<String> =
        names[aggregate.by.len() + 1..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM unnest({arrays}) u ({aliases}) ON CONFLICT ({}) DO UPDATE SET {}",
        quote(&table.name),
        names.join(", "),
        values.join(", "),
        key.join(", "),
        set.join(", ")
    )
}
