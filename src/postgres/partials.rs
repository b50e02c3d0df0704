//! Sums and counts behind averages.

use millstream_core::aggregate::{Accumulator, nearest_quotient};
use millstream_core::pipeline::{Aggregate, Function};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement, Transaction};

use super::PostgresError;
use super::delta::ResultDelta;
use super::session::bounded;

pub(super) const CONTEXT: &str = "millstream.partials";

/// The sum of two doubles as everybody but PostgreSQL has it: infinite where it leaves their range, which there is an error.
///
/// Exact: where the larger one is beyond half the range, all of these differences can be written as doubles, and a sum is
/// rounded away from the largest double from half its last place on.
pub(super) fn double_sum_sql(a: &str, b: &str) -> String {
    let (high, low) = (format!("greatest({a}, {b})"), format!("least({a}, {b})"));
    let [most, half, step] =
        [f64::MAX, f64::MAX / 2.0, 2f64.powi(970)].map(|number| format!("'{number:e}'::float8"));
    format!(
        "CASE WHEN {a} IS NULL OR {b} IS NULL THEN NULL
            WHEN {high} > {half} AND {high} < 'Infinity' AND {low} > 0 THEN
                CASE WHEN {low} >= {most} - {high} + {step} THEN 'Infinity' ELSE {a} + {b} END
            WHEN {low} < -{half} AND {low} > '-Infinity' AND {high} < 0 THEN
                CASE WHEN {high} <= -{most} - {low} - {step} THEN '-Infinity' ELSE {a} + {b} END
            ELSE {a} + {b} END"
    )
}

/// The upsert of partial sums; returns the merged ones in the order of its input.
pub(super) fn partials_sql() -> String {
    let doubles = double_sum_sql("p.sum_double", "excluded.sum_double");
    format!(
        "INSERT INTO millstream.partials AS p
        (application, aggregate, row_key, column_name, sum_numeric, sum_double, count)
     SELECT $1, $2, u.row_key, $3, u.sum_numeric::numeric, u.sum_double, u.count
     FROM unnest($4::bytea[], $5::text[], $6::double precision[], $7::bigint[])
        u (row_key, sum_numeric, sum_double, count)
     ON CONFLICT (application, aggregate, row_key, column_name) DO UPDATE SET
        sum_numeric = p.sum_numeric + excluded.sum_numeric,
        sum_double = {doubles},
        count = p.count + excluded.count
     RETURNING row_key, sum_numeric::text, sum_double, count"
    )
}

/// Merges the partial sums of each `avg` column and returns its index among the selected ones with the averages.
///
/// Order: partial rows are locked before the result rows they belong to, both in key order. Whoever comes second
/// to a key waits here and then sees the first one's sums, so the average written after is that of both.
pub(super) async fn merge_partials(
    transaction: &Transaction<'_>,
    statement: &Statement,
    application: &str,
    aggregate: &Aggregate,
    rows: &[ResultDelta],
) -> Result<Vec<(usize, Vec<Option<f64>>)>, PostgresError> {
    let keys: Vec<&[u8]> = rows.iter().map(|row| &row.row_key[..]).collect();
    let mut averages = Vec::new();
    for (index, select) in aggregate.select.iter().enumerate() {
        if select.function != Function::Avg {
            continue;
        }
        let sums = Sums::of(rows, index);
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&application, &&*aggregate.name, &&*select.name, &keys, &sums.exact, &sums.double, &sums.count];
        let merged = bounded(CONTEXT, transaction.query(statement, &parameters)).await?;
        let in_order = merged.len() == rows.len()
            && merged.iter().zip(&keys).all(|(row, key)| row.get::<_, &[u8]>(0) == *key);
        if !in_order {
            return Err(corrupt(format!(
                "{} rows returned for {}, or out of order",
                merged.len(),
                rows.len()
            )));
        }
        let values = merged.iter().map(average).collect::<Result<Vec<_>, _>>()?;
        averages.push((index, values));
    }
    Ok(averages)
}

/// What an epoch adds to one column's partial sums; either `exact` or `double` is null throughout.
struct Sums {
    exact: Vec<Option<String>>,
    double: Vec<Option<f64>>,
    count: Vec<i64>,
}

impl Sums {
    fn of(rows: &[ResultDelta], index: usize) -> Sums {
        let mut sums = Sums { exact: Vec::new(), double: Vec::new(), count: Vec::new() };
        for row in rows {
            let (exact, double, n) = match &row.accumulators[index] {
                Accumulator::Integer { sum, count } => (Some(sum.to_string()), None, *count),
                Accumulator::Double { sum, count } => (None, Some(*sum), *count),
                other => unreachable!("an average keeps sum and count, not {other:?}"),
            };
            sums.exact.push(exact);
            sums.double.push(double);
            sums.count.push(n);
        }
        sums
    }
}

/// The average of one merged row; null while nothing was counted.
fn average(row: &Row) -> Result<Option<f64>, PostgresError> {
    let count: i64 = row.get(3);
    if count == 0 {
        return Ok(None);
    }
    match (row.get::<_, Option<&str>>(1), row.get::<_, Option<f64>>(2)) {
        (Some(sum), None) if count > 0 => {
            let sum = sum.parse::<i128>().map_err(|_| corrupt(format!("sum {sum} is no integer")))?;
            Ok(Some(nearest_quotient(sum, count)))
        }
        (None, Some(sum)) if count > 0 => Ok(Some(sum / count as f64)),
        _ => Err(corrupt(format!("neither an exact nor a double sum for count {count}"))),
    }
}

fn corrupt(cause: String) -> PostgresError {
    PostgresError::Corrupt { context: CONTEXT.to_owned(), cause }
}
