//! A task's part of an epoch, ready to be committed.

use std::collections::BTreeMap;

use crate::aggregate::Accumulator;
use crate::model::{EventTime, Fingerprint, Offset, RollingHash, WindowSpan};
use crate::pipeline::AggregateId;

use super::{Change, Outputs, TaskCounts};

/// What one epoch adds to one result row.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaRow {
    pub window: WindowSpan,
    /// The encoded group key.
    pub key: Vec<u8>,
    pub accumulators: Vec<Accumulator>,
}

/// Everything the records `[from, to)` of one task mean. Kept until every participant has it.
#[derive(Debug)]
pub struct SealedEpoch {
    pub from: Offset,
    pub to: Offset,
    pub hash: RollingHash,
    pub max_event_time: Option<EventTime>,
    pub watermark: Option<EventTime>,
    pub fingerprint: Option<Fingerprint>,
    pub outputs: Outputs,
    /// Sorted by aggregate, window and key.
    pub deltas: BTreeMap<AggregateId, Vec<DeltaRow>>,
    /// Totals after this epoch.
    pub counts: TaskCounts,
    /// What local state must become; written last.
    pub changes: Vec<Change>,
}

/// Merges the deltas of several tasks into one row per window and key, sorted by both: the order in which all writers
/// lock result rows.
pub fn merge_deltas<'a>(
    tasks: impl IntoIterator<Item = &'a SealedEpoch>,
) -> BTreeMap<AggregateId, Vec<DeltaRow>> {
    let mut merged: BTreeMap<AggregateId, BTreeMap<(EventTime, &[u8]), DeltaRow>> = BTreeMap::new();
    for (aggregate, rows) in tasks.into_iter().flat_map(|t| &t.deltas) {
        let kept = merged.entry(*aggregate).or_default();
        for row in rows {
            kept.entry((row.window.start, row.key.as_slice()))
                .and_modify(|sum| {
                    for (into, from) in sum.accumulators.iter_mut().zip(&row.accumulators) {
                        into.merge(from);
                    }
                })
                .or_insert_with(|| row.clone());
        }
    }
    merged.into_iter().map(|(id, rows)| (id, rows.into_values().collect())).collect()
}
