//! A task's part of an epoch, ready to be committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::aggregate::{Accumulator, Sketch};
use crate::model::{EventTime, Fingerprint, Offset, Partition, RollingHash, WindowSpan};
use crate::pipeline::AggregateId;

use super::{Change, Outputs, SessionChange, TaskCounts};

/// What one epoch adds to one result row.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaRow {
    pub window: WindowSpan,
    /// The encoded group key.
    pub key: Arc<[u8]>,
    /// By selected column. Those that count lateness are counts already; those with a sketch are empty.
    pub accumulators: Vec<Accumulator>,
    pub sketches: Vec<PartitionSketch>,
}

/// The distinct values of one column of a row that one partition has seen: all of them, not those of the epoch alone.
///
/// Why: what replaces the last one is right whatever was there; a row's number is the estimate of all its partitions'
/// sketches together.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSketch {
    /// Index of the selected column.
    pub column: usize,
    pub partition: Partition,
    pub sketch: Sketch,
}

impl DeltaRow {
    /// The sketches of one selected column.
    pub fn sketches_of(&self, column: usize) -> impl Iterator<Item = &Sketch> {
        self.sketches.iter().filter(move |s| s.column == column).map(|s| &s.sketch)
    }

    /// Adds another delta of the same row.
    fn merge(&mut self, other: &DeltaRow) {
        for (into, from) in self.accumulators.iter_mut().zip(&other.accumulators) {
            into.merge(from);
        }
        for theirs in &other.sketches {
            let of = (theirs.column, theirs.partition);
            match self.sketches.iter_mut().find(|mine| (mine.column, mine.partition) == of) {
                Some(mine) => mine.sketch.merge(&theirs.sketch),
                None => self.sketches.push(theirs.clone()),
            }
        }
    }
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
    /// Sorted by aggregate, key and start.
    pub sessions: BTreeMap<AggregateId, Vec<SessionChange>>,
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
            kept.entry((row.window.start, &*row.key))
                .and_modify(|sum| sum.merge(row))
                .or_insert_with(|| row.clone());
        }
    }
    merged.into_iter().map(|(id, rows)| (id, rows.into_values().collect())).collect()
}

/// The changes of several tasks to tables of sessions, sorted by key and start. A row has one owner, unless the promise of
/// `keyed_by` is broken; then the last task that has it wins, and a row goes only if no task has it.
pub fn merge_sessions<'a>(
    tasks: impl IntoIterator<Item = &'a SealedEpoch>,
) -> BTreeMap<AggregateId, Vec<SessionChange>> {
    let mut merged: BTreeMap<AggregateId, BTreeMap<(&[u8], EventTime), &SessionChange>> = BTreeMap::new();
    for (aggregate, changes) in tasks.into_iter().flat_map(|t| &t.sessions) {
        let kept = merged.entry(*aggregate).or_default();
        for change in changes {
            let place = kept.entry((&change.key, change.start)).or_insert(change);
            if change.row.is_some() {
                *place = change;
            }
        }
    }
    merged.into_iter().map(|(id, changes)| (id, changes.into_values().cloned().collect())).collect()
}
