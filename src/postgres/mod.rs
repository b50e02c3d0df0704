//! PostgreSQL, the participant that decides.
//!
//! Owns one session per worker, the schema `millstream` with its migrations, the progress rows with their fence,
//! result tables and their views, partial sums, sketches, distinct values, rows of records and dead letters. Must never make
//! anything of an epoch visible unless the progress rows of all its tasks matched (I4), and never report an indefinite COMMIT
//! as a failure or as a success (I6).
//! An `EpochCommit` comes in and a `CommitOutcome` goes out; recovery reads `ProgressRow`s. `target` -> `tls` -> `session`
//! connect; `migrate` and `claim`, by `tables` and `latest`, prepare; `commit` is the epoch, of which `progress`, `results`
//! (by `partials`, `sketches`, `values`, `quantiles`, `sweep`), `sessions`, `records` and `dead_letters` each know a part.
//! Tested by `tests/it/postgres.rs` on a real server.

mod claim;
mod columns;
mod commit;
mod dead_letters;
#[cfg(feature = "fault")]
mod deliberate;
mod delta;
mod error;
mod latest;
mod migrate;
mod partials;
mod progress;
mod quantiles;
mod records;
mod results;
mod session;
mod sessions;
mod sketches;
mod sweep;
mod tables;
mod target;
mod tls;
mod values;

pub use claim::{ClusterIdentity, ddl_sql};
pub use commit::{CommitOutcome, EpochCommit, Step};
pub use dead_letters::DeadLetter;
#[cfg(feature = "fault")]
pub use deliberate::Deliberate;
pub use delta::{AggregateDelta, ResultDelta};
pub use error::{OutputConflict, PostgresError, TableFault};
pub use progress::{AggregateCounts, Backend, Owned, ProgressRow, TaskCommit, TaskCounts};
pub use records::RecordRows;
pub use session::Session;
pub use sessions::{SessionDelta, SessionRow};
pub use tables::Ddl;
pub use target::Target;

/// Key of the transaction-level advisory lock under which the schema and the ownership of outputs change.
const SCHEMA_LOCK: i64 = 0x006d_696c_6c73_7472;

/// An SQL identifier in quotes.
fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
