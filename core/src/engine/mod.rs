//! One task: a batch of records in, staged changes, result deltas, output records and counts out.

mod store;

pub use store::{Change, Family, MemoryStore, StateStore, StoreError};
