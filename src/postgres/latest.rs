//! Views of result tables with the latest row of each key.

use millstream_core::pipeline::{Aggregate, LatestView, Window};
use tokio_postgres::Transaction;

use super::error::TableFault;
use super::session::bounded;
use super::tables::{Ddl, Found, describe};
use super::{PostgresError, quote};

/// Makes the view of an aggregate's table, or checks that what stands there is that.
pub(super) async fn make_or_check(
    transaction: &Transaction<'_>,
    (aggregate, latest): (&Aggregate, &LatestView),
    found: Found,
    ddl: Ddl,
) -> Result<Vec<TableFault>, PostgresError> {
    if found.exists {
        return check(transaction, aggregate, &latest.name, found.qualified).await;
    }
    if ddl == Ddl::CheckOnly {
        return Ok(vec![TableFault { table: found.qualified, fault: "does not exist".to_owned() }]);
    }
    // Why: a table that lacks columns is a fault already, which the error of the view would hide.
    let columns = describe(transaction, &quote(&aggregate.table.name)).await?;
    if aggregate.table.columns.iter().any(|wanted| columns.iter().all(|found| *found.name != *wanted.name)) {
        return Ok(Vec::new());
    }
    bounded(&latest.name, transaction.batch_execute(&latest_view_sql(aggregate, latest))).await?;
    Ok(Vec::new())
}

async fn check(
    transaction: &Transaction<'_>,
    aggregate: &Aggregate,
    view: &str,
    table: String,
) -> Result<Vec<TableFault>, PostgresError> {
    let sql = "SELECT relkind = 'v' FROM pg_class WHERE oid = to_regclass($1)";
    let is_view: bool = bounded(view, transaction.query_one(sql, &[&quote(view)])).await?.get(0);
    let columns = describe(transaction, &quote(view)).await?;
    let wanted = aggregate.table.columns.iter().map(|column| &*column.name);
    let fault = match is_view {
        false => "is no view",
        true if !columns.iter().map(|column| column.name.as_str()).eq(wanted) => {
            "has other columns than its table; drop it"
        }
        true => return Ok(Vec::new()),
    };
    Ok(vec![TableFault { table, fault: fault.to_owned() }])
}

/// The view: of the rows that agree in some columns, the one with the latest start; of equals the first by the rest of the
/// key.
pub(super) fn latest_view_sql(aggregate: &Aggregate, latest: &LatestView) -> String {
    let table = &aggregate.table;
    let start = match aggregate.window {
        Window::Session { .. } => &table.columns[aggregate.by.len()],
        Window::Tumbling { .. } | Window::Sliding { .. } => &table.columns[0],
    };
    let columns: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let of: Vec<String> = latest.by.iter().map(|name| quote(name)).collect();
    let rest = table.key.iter().filter(|name| **name != start.name && !latest.by.contains(name));
    let mut order = of.clone();
    order.push(format!("{} DESC", quote(&start.name)));
    order.extend(rest.map(|name| quote(name)));
    format!(
        "CREATE VIEW {} AS SELECT DISTINCT ON ({}) {} FROM {} ORDER BY {}",
        quote(&latest.name),
        of.join(", "),
        columns.join(", "),
        quote(&table.name),
        order.join(", ")
    )
}
