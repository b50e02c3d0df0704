//! Values behind exact distinct counts.

use std::collections::HashMap;

use millstream_core::aggregate::Accumulator;
use millstream_core::pipeline::Aggregate;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

use super::PostgresError;
use super::columns::ColumnArray;
use super::delta::ResultDelta;
use super::session::bounded;

pub(super) const CONTEXT: &str = "millstream.distinct_values";
const VALUES_PER_STATEMENT: usize = 20_000;

/// Adds values; answers per row how many were not there yet.
pub(super) const INSERT: &str = "WITH added AS (
        INSERT INTO millstream.distinct_values (application, aggregate, row_key, column_name, value)
        SELECT $1, $2, u.row_key, $3, u.value FROM unnest($4::bytea[], $5::bytea[]) u (row_key, value)
        ON CONFLICT DO NOTHING RETURNING row_key)
    SELECT row_key, count(*) FROM added GROUP BY row_key";

/// Writes the values that an epoch has seen in one column and answers, per row, by how many its count grows.
///
/// Order: the result rows are locked already; nobody else adds values to them before the epoch is decided.
pub(super) async fn add_values(
    transaction: &Transaction<'_>,
    statement: &Statement,
    application: &str,
    (aggregate, column): (&Aggregate, usize),
    rows: &[ResultDelta],
) -> Result<ColumnArray<'static>, PostgresError> {
    let (mut row_keys, mut values): (Vec<&[u8]>, Vec<[u8; 16]>) = (Vec::new(), Vec::new());
    for row in rows {
        let Accumulator::Values(seen) = &row.accumulators[column] else {
            unreachable!("a distinct count keeps values, not {:?}", row.accumulators[column])
        };
        row_keys.extend(seen.iter().map(|_| &row.row_key[..]));
        values.extend(seen.iter().map(|value| value.to_be_bytes()));
    }
    let mut grown: HashMap<Vec<u8>, i64> = HashMap::new();
    let chunks = row_keys.chunks(VALUES_PER_STATEMENT).zip(values.chunks(VALUES_PER_STATEMENT));
    for (row_keys, values) in chunks {
        let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&application, &&*aggregate.name, &&*aggregate.select[column].name, &row_keys, &values];
        for row in bounded(CONTEXT, transaction.query(statement, &parameters)).await? {
            *grown.entry(row.get(0)).or_default() += row.get::<_, i64>(1);
        }
    }
    let by = |row: &ResultDelta| Some(grown.get(&row.row_key).copied().unwrap_or_default());
    Ok(ColumnArray::Bigint(rows.iter().map(by).collect()))
}
