//! Accepted records as rows.

use millstream_core::engine::TableRow;
use millstream_core::model::EventTime;
use millstream_core::pipeline::{RecordTable, ResultTable, SetValue};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

use super::columns::{ColumnArray, ROWS_PER_STATEMENT, array_type};
use super::session::bounded;
use super::{PostgresError, quote};

/// Per statement, unless [`ROWS_PER_STATEMENT`] is reached first.
const BYTES_PER_STATEMENT: usize = 8 << 20;

/// What an epoch adds to one record table. Invariant: sorted by key, and of equal keys the first record stands first.
pub struct RecordRows<'a> {
    pub output: &'a RecordTable,
    pub rows: Vec<&'a TableRow>,
}

impl<'a> RecordRows<'a> {
    /// Brings rows into the order in which all workers write them, so that none waits for one that waits for it.
    pub fn new(output: &'a RecordTable, mut rows: Vec<&'a TableRow>) -> RecordRows<'a> {
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        RecordRows { output, rows }
    }
}

/// A row whose key is there already, be it of this epoch, is left out.
pub(super) fn insert_sql(table: &ResultTable) -> String {
    let (mut names, mut fields, mut arrays, mut aliases) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, column) in table.columns.iter().enumerate() {
        let (array, cast) = array_type(column.data_type);
        names.push(quote(&column.name));
        fields.push(format!("u.c{i}{cast}"));
        arrays.push(format!("${}::{array}", i + 1));
        aliases.push(format!("c{i}"));
    }
    let key: Vec<String> = table.key.iter().map(|name| quote(name)).collect();
    let conflict = match key.as_slice() {
        [] => String::new(),
        key => format!(" ON CONFLICT ({}) DO NOTHING", key.join(", ")),
    };
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM unnest({}) u ({}){conflict}",
        quote(&table.name),
        names.join(", "),
        fields.join(", "),
        arrays.join(", "),
        aliases.join(", ")
    )
}

pub(super) async fn insert_rows(
    transaction: &Transaction<'_>,
    statement: &Statement,
    RecordRows { output, rows }: &RecordRows<'_>,
    commit_time: EventTime,
) -> Result<(), PostgresError> {
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take(ROWS_PER_STATEMENT).take_while(|row| {
            bytes += row.size();
            bytes <= BYTES_PER_STATEMENT
        });
        let (chunk, after) = rest.split_at(fitting.count().max(1));
        let arrays: Vec<ColumnArray<'_>> =
            (0..output.values.len()).map(|column| array(output, column, chunk, commit_time)).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(ColumnArray::parameter).collect();
        bounded(&output.table.name, transaction.execute(statement, &parameters)).await?;
        rest = after;
    }
    Ok(())
}

fn array<'r>(
    output: &RecordTable,
    column: usize,
    rows: &[&'r TableRow],
    commit_time: EventTime,
) -> ColumnArray<'r> {
    let mut array = ColumnArray::new(output.table.columns[column].data_type, rows.len());
    for row in rows {
        match output.values[column] {
            SetValue::CommitTime => array.push_time(commit_time),
            SetValue::Expr(_) => array.push(&row.values[column]),
        }
    }
    array
}
