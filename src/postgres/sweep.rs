//! Removing what stands behind result rows that no partition can change any more: sketches, distinct values, partial sums.

use millstream_core::model::EventTime;
use millstream_core::pipeline::{Aggregate, Function};
use millstream_core::window::Frame;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

use super::columns::SqlTime;
use super::session::bounded;
use super::{PostgresError, Session, partials, sketches};

const CONTEXT: &str = "millstream.progress";
/// Rows that one epoch removes at most of each table, per aggregate; the next one goes on.
const SWEPT_ROWS: u64 = 10_000;

/// What an epoch needs to sweep behind one aggregate.
pub(super) struct Sweep {
    /// Windows that start before this have nothing behind them any more.
    done: Option<EventTime>,
    watermark: Statement,
    removes: Vec<Statement>,
}

/// The tables in which rows of an aggregate have something behind them.
fn tables(aggregate: &Aggregate) -> impl Iterator<Item = &'static str> {
    let averages = aggregate.select.iter().any(|s| s.function == Function::Avg);
    sketches::tables(aggregate).chain(averages.then_some(partials::CONTEXT))
}

/// The least watermark of all partitions; null while one has none.
const WATERMARK: &str = "SELECT CASE WHEN count(p.watermark) >= max(a.partitions) THEN min(p.watermark) END
    FROM millstream.aggregates a JOIN millstream.progress p USING (application, topic)
    WHERE a.application = $1 AND a.aggregate = $2";

/// Row keys begin with the window's start, big-endian: those before 1970 sort last.
///
/// Why `SKIP LOCKED`: another worker may be at the same work; neither waits for the other.
fn remove_sql(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM {table} s
            WHERE s.application = $1 AND s.aggregate = $2 AND (s.row_key < $3 OR s.row_key >= '\\x80'::bytea)
            LIMIT $4 FOR UPDATE SKIP LOCKED))"
    )
}

impl Session {
    /// Prepares, outside the epoch's transaction, where `watermark`, the least of its tasks, has passed windows that have
    /// something behind them still.
    pub(super) async fn prepare_sweep(
        &mut self,
        aggregate: &Aggregate,
        watermark: Option<EventTime>,
    ) -> Result<Option<Sweep>, PostgresError> {
        let Some(least) = watermark else { return Ok(None) };
        let reached = Frame::of(aggregate.window).live_from(least, aggregate.allowed_lateness);
        let done = self.swept.get(&*aggregate.name).copied();
        if done.is_some_and(|done| reached <= done) || tables(aggregate).next().is_none() {
            return Ok(None);
        }
        let mut removes = Vec::new();
        for table in tables(aggregate) {
            removes.push(self.prepared(table, &remove_sql(table)).await?);
        }
        Ok(Some(Sweep { done, watermark: self.prepared(CONTEXT, WATERMARK).await?, removes }))
    }
}

/// Removes what belongs to windows that no partition can reach any more: their rows do not change again. Answers from
/// which window on something is left, if that is further than before.
///
/// Why not by `finality`: that leaves idle partitions out, which may wake with records for an old row, and merging those
/// needs all that the row rests on.
pub(super) async fn sweep(
    transaction: &Transaction<'_>,
    statements: &Sweep,
    application: &str,
    aggregate: &Aggregate,
) -> Result<Option<EventTime>, PostgresError> {
    let name = &*aggregate.name;
    let asked: [&(dyn ToSql + Sync); 2] = [&application, &name];
    let row = bounded(CONTEXT, transaction.query_one(&statements.watermark, &asked)).await?;
    let least = row.get::<_, Option<SqlTime>>(0);
    let live = least.map(|SqlTime(at)| Frame::of(aggregate.window).live_from(at, aggregate.allowed_lateness));
    let done = statements.done.unwrap_or(EventTime(0));
    let Some(live) = live.filter(|live| *live > done) else { return Ok(None) };
    let before = live.0.to_be_bytes();
    let mut whole = true;
    for remove in &statements.removes {
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&application, &name, &&before[..], &SWEPT_ROWS.cast_signed()];
        whole &= bounded(CONTEXT, transaction.execute(remove, &parameters)).await? < SWEPT_ROWS;
    }
    Ok(whole.then_some(live))
}
