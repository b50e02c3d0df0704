//! Sketches behind percentiles.

use std::collections::HashMap;

use millstream_core::aggregate::{Accumulator, Quantiles};
use millstream_core::pipeline::{Aggregate, Quantile};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

use super::PostgresError;
use super::columns::ColumnArray;
use super::delta::ResultDelta;
use super::session::bounded;

pub(super) const CONTEXT: &str = "millstream.quantiles";

pub(super) const READ: &str = "SELECT row_key, sketch FROM millstream.quantiles
    WHERE application = $1 AND aggregate = $2 AND column_name = $3 AND row_key = ANY ($4::bytea[])";

pub(super) const WRITE: &str = "INSERT INTO millstream.quantiles
        (application, aggregate, column_name, row_key, sketch)
    SELECT $1, $2, $3, u.row_key, u.sketch FROM unnest($4::bytea[], $5::bytea[]) u (row_key, sketch)
    ON CONFLICT (application, aggregate, row_key, column_name) DO UPDATE SET sketch = excluded.sketch";

pub(super) struct QuantileStatements {
    pub read: Statement,
    pub write: Statement,
}

/// Adds what an epoch has seen in one column to the sketches of its rows, and answers the rows' percentiles.
///
/// Order: the result rows are locked already, by the upsert of an earlier statement. Whoever comes second to a row
/// waited there, and reads here, with a snapshot of its own, what the first one wrote.
pub(super) async fn add_quantiles(
    transaction: &Transaction<'_>,
    statements: &QuantileStatements,
    application: &str,
    (aggregate, column, q): (&Aggregate, usize, Quantile),
    rows: &[ResultDelta],
) -> Result<ColumnArray<'static>, PostgresError> {
    let name = &*aggregate.select[column].name;
    let keys: Vec<&[u8]> = rows.iter().map(|row| &row.row_key[..]).collect();
    let place: [&(dyn ToSql + Sync); 4] = [&application, &&*aggregate.name, &name, &keys];
    let stored = bounded(CONTEXT, transaction.query(&statements.read, &place)).await?;
    let stored: HashMap<&[u8], &[u8]> = stored.iter().map(|row| (row.get(0), row.get(1))).collect();
    let (mut sketches, mut percentiles) = (Vec::new(), Vec::new());
    for row in rows {
        let Accumulator::Quantiles(added) = &row.accumulators[column] else {
            unreachable!("a percentile keeps quantiles, not {:?}", row.accumulators[column])
        };
        let mut all = match stored.get(&row.row_key[..]) {
            Some(bytes) => Quantiles::from_bytes(bytes)
                .map_err(|e| PostgresError::Corrupt { context: CONTEXT.to_owned(), cause: e.to_string() })?,
            None => Quantiles::default(),
        };
        all.merge(added);
        percentiles.push(all.value_at(q.get()));
        sketches.push(all.to_bytes());
    }
    let parameters: [&(dyn ToSql + Sync); 5] = [&application, &&*aggregate.name, &name, &keys, &sketches];
    bounded(CONTEXT, transaction.execute(&statements.write, &parameters)).await?;
    Ok(ColumnArray::Double(percentiles))
}
