//! What an epoch adds to the rows of result tables.

use millstream_core::aggregate::Accumulator;
use millstream_core::engine::PartitionSketch;
use millstream_core::model::{Value, WindowSpan};
use millstream_core::pipeline::Aggregate;

/// What an epoch adds to one result table, merged over the worker's tasks and sorted by `row_key`.
pub struct AggregateDelta<'a> {
    pub aggregate: &'a Aggregate,
    pub rows: Vec<ResultDelta>,
}

/// What an epoch adds to one row.
#[derive(Clone, Debug)]
pub struct ResultDelta {
    pub window: WindowSpan,
    /// Unique bytes of window and key; the order in which rows are written.
    pub row_key: Vec<u8>,
    /// The `by` columns.
    pub key: Vec<Value<'static>>,
    /// One per selected column.
    pub accumulators: Vec<Accumulator>,
    /// Of the columns with a distinct count.
    pub sketches: Vec<PartitionSketch>,
}
