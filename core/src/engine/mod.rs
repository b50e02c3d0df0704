//! One task: a batch of records in, staged changes, result deltas, output records and counts out.
//!
//! Owns what a task knows (offset, rolling hash, watermark, windows, ids, counts) and what its records since the last
//! epoch mean for every participant. Must never make anything visible: a `SealedEpoch` is handed to `runtime`, which
//! commits it, and only then are the changes written. Records come in through `Task::process`, epochs leave through
//! `Task::seal`. Tested in `tests.rs` with the in-memory store, and by `tests/golden`.

mod bucket;
mod combine;
mod counts;
mod dedup;
#[cfg(test)]
mod dedup_tests;
#[cfg(test)]
mod disk;
mod epoch;
mod expectation;
mod filter;
mod gather;
mod outputs;
mod report;
mod route;
#[cfg(test)]
mod route_tests;
mod session;
#[cfg(test)]
mod session_tests;
mod sessions;
#[cfg(test)]
mod sliding_tests;
mod store;
mod task;
#[cfg(test)]
mod tests;
mod trial;
mod windows;

pub use counts::{AggregateCounts, TaskCounts};
pub use epoch::{DeltaRow, PartitionSketch, SealedEpoch, merge_deltas, merge_sessions};
pub use expectation::{Difference, difference};
pub use outputs::{DeadLetter, Header, Outputs, RecordMessage, RoutedRecord, SideMessage, TableRow};
pub use report::{
    PartitionVerdicts, TrialAggregate, TrialDeadLetter, TrialLate, TrialRecord, TrialReport, TrialRow,
    TrialTable, TrialValue,
};
pub use session::SessionChange;
pub use store::{Change, Family, MemoryStore, StateStore, StoreError, Visitor};
pub use task::{Effects, ProcessError, Record, Role, Task, TaskIdentity};
pub use trial::{TrialInput, TrialOptions, run_trial};
pub use windows::MAX_HOP_PARTITIONS;
