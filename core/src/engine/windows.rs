//! The windows of one task: a write-back cache over local state.
//!
//! A record is kept once, in its slice (`window::Frame`); a bucket is all keys of one slice of one aggregate. It is loaded
//! whole by one scan when a record first falls into it, changed in memory, and its dirty entries leave as one sorted run of
//! changes per epoch. Rows of windows are combined from slices when the epoch is sealed, so what a record costs does not
//! depend on how many windows hold it. Clean buckets that the last epoch did not touch are evicted by age once the budget is
//! exceeded, and read back on demand: state may exceed memory, the slices that one epoch touches may not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::aggregate::Accumulator;
use crate::codec::window_prefix;
use crate::model::{EventTime, Partition, Span};
use crate::pipeline::{Aggregate, AggregateId, Function, Plan};
use crate::window::{Arrival, Frame, Horizon};

use super::bucket::{Addition, Bucket};
use super::combine::Slices;
use super::{Change, DeltaRow, Family, StateStore, StoreError};

const HOP_BITS: u32 = 14;
/// Neither a repartitioned source nor its internal topic may have more partitions.
pub const MAX_HOP_PARTITIONS: i32 = 1 << HOP_BITS;

/// The windows of one aggregate; of an internal topic's task, those of one source partition.
///
/// Why by source: what a slice holds of a window depends on when the watermark passed the window, and only the watermark
/// of one source partition never goes back.
pub type WindowsOf = (AggregateId, Option<Partition>);

/// What a row of an epoch takes beside its key, accumulators and sketches.
const ROW_BYTES: usize = 96;
/// What a sketch of a row takes: that of some hundred values.
const SKETCH_BYTES: usize = 1 << 10;

/// All windows of one task.
#[derive(Debug)]
pub struct Windows {
    partition: Partition,
    aggregates: Vec<AggregateWindows>,
    budget_bytes: usize,
    bytes: usize,
    /// At most what the rows take that the epoch has come to so far.
    row_bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct AggregateWindows {
    id: AggregateId,
    source: Option<Partition>,
    name: Arc<str>,
    frame: Frame,
    allowed_lateness: Span,
    horizon: Horizon,
    empty: Vec<Accumulator>,
    /// Whether a row needs all slices of its window, and not only those that changed.
    whole: bool,
    /// What the rows of one slice and key take without the key, one for each window that holds the slice.
    row_bytes: usize,
    /// By the start of their slice.
    buckets: BTreeMap<EventTime, Bucket>,
    /// Slices that start before this are gone from local state.
    dropped_before: Option<EventTime>,
    /// Windows that start before this take no records any more; what the epoch adds to them stands in `closed`.
    closed_before: EventTime,
    closed: Vec<DeltaRow>,
}

impl Windows {
    /// `budget_bytes` bounds what clean buckets may take.
    pub fn new(
        plan: &Plan,
        aggregates: &[AggregateId],
        partition: Partition,
        budget_bytes: usize,
    ) -> Windows {
        let aggregates =
            aggregates.iter().map(|id| AggregateWindows::new(*id, &plan.aggregates[id.0])).collect();
        Windows { partition, aggregates, budget_bytes, bytes: 0, row_bytes: 0, clock: 1 }
    }

    /// How a record at `at` stands to the windows of an aggregate.
    pub fn judge(&mut self, of: WindowsOf, at: EventTime, watermark: Option<EventTime>) -> Arrival {
        let index = self.index_of(of);
        self.aggregates[index].horizon.arrival(at, watermark)
    }

    /// Adds one record that is not too late to its slice.
    pub fn add(
        &mut self,
        store: &dyn StateStore,
        (of, arrival): (WindowsOf, &Arrival),
        addition: &Addition<'_>,
    ) -> Result<(), StoreError> {
        let index = self.index_of(of);
        let kept = &mut self.aggregates[index];
        kept.close(arrival.live_from, self.partition);
        let bucket = match kept.buckets.get_mut(&arrival.slice) {
            Some(bucket) if bucket.ready == self.clock => bucket,
            _ => {
                self.bytes += kept.load(store, arrival.slice, self.clock)?;
                kept.buckets.get_mut(&arrival.slice).expect("just loaded")
            }
        };
        let before = bucket.bytes;
        if bucket.add(addition, &kept.empty) {
            self.row_bytes += kept.row_bytes + kept.frame.most_windows() * addition.key.len();
        }
        self.bytes += bucket.bytes - before;
        Ok(())
    }

    /// At most what the result rows take that the next `seal` gives out, in bytes.
    ///
    /// Why: a record adds to as many rows as windows hold it, so records alone do not bound an epoch.
    pub fn pending_row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Makes room for the windows of a source partition, of which local state may hold some.
    pub fn know(&mut self, source: Partition) {
        let ids: Vec<AggregateId> =
            self.aggregates.iter().filter(|a| a.source.is_none()).map(|a| a.id).collect();
        for id in ids {
            self.index_of((id, Some(source)));
        }
    }

    fn index_of(&mut self, of: WindowsOf) -> usize {
        if let Some(found) = self.aggregates.iter().position(|a| (a.id, a.source) == of) {
            return found;
        }
        let plain = self.aggregates.iter().find(|a| a.id == of.0 && a.source.is_none());
        let plain = plain.expect("an aggregate that matched is one of this source's");
        self.aggregates.push(plain.of_source(of.1));
        self.aggregates.len() - 1
    }

    /// Takes what changed since the last call: changes of local state, and deltas of result rows by aggregate; those of each
    /// source partition are sorted.
    pub fn seal(&mut self, changes: &mut Vec<Change>) -> BTreeMap<AggregateId, Vec<DeltaRow>> {
        self.clock += 1;
        self.row_bytes = 0;
        let mut deltas = BTreeMap::new();
        for kept in &mut self.aggregates {
            let mut rows = std::mem::take(&mut kept.closed);
            kept.combine(EventTime(i64::MAX), self.partition, &mut rows);
            for (start, bucket) in kept.buckets.iter_mut().filter(|(_, bucket)| !bucket.is_clean()) {
                let before = bucket.bytes;
                bucket.write(&window_prefix(&kept.name, kept.source, *start), changes);
                self.bytes = self.bytes + bucket.bytes - before;
            }
            if !rows.is_empty() {
                deltas.entry(kept.id).or_insert_with(Vec::new).append(&mut rows);
            }
        }
        deltas
    }

    /// Forgets slices that no record can reach any more at the watermark of their source partition.
    pub fn expire(
        &mut self,
        watermark: impl Fn(Option<Partition>) -> Option<EventTime>,
        changes: &mut Vec<Change>,
    ) {
        for kept in &mut self.aggregates {
            let Some(watermark) = watermark(kept.source) else { continue };
            let live = kept.frame.live_from(watermark, kept.allowed_lateness);
            let before = kept.dropped_before.unwrap_or(EventTime(0));
            if live <= before {
                continue;
            }
            let alive = kept.buckets.split_off(&live);
            let dead = std::mem::replace(&mut kept.buckets, alive);
            self.bytes -= dead.values().map(|b| b.bytes).sum::<usize>();
            kept.dropped_before = Some(live);
            changes.push(Change::DeleteRange {
                family: Family::Windows,
                from: window_prefix(&kept.name, kept.source, before),
                to: window_prefix(&kept.name, kept.source, live),
            });
        }
    }

    /// Evicts the buckets that were touched longest ago until the budget holds, or only those of the last epoch are left.
    ///
    /// Why these stay: the next epoch is likely to touch them again, and each reading is of all their keys.
    ///
    /// Order: only after the changes of every sealed epoch were written, or an evicted bucket would be read back old.
    pub fn evict(&mut self) {
        if self.bytes <= self.budget_bytes {
            return;
        }
        let buckets = self.aggregates.iter().enumerate().flat_map(|(i, kept)| {
            kept.buckets.iter().map(move |(start, bucket)| (bucket.touched, i, *start, bucket.is_clean()))
        });
        let last_epoch = self.clock - 1;
        let mut oldest: Vec<_> =
            buckets.filter(|(touched, .., clean)| *clean && *touched < last_epoch).collect();
        oldest.sort_unstable();
        for (_, i, start, _) in oldest {
            if let Some(bucket) = self.aggregates[i].buckets.remove(&start) {
                self.bytes -= bucket.bytes;
            }
            if self.bytes <= self.budget_bytes {
                break;
            }
        }
    }
}

impl AggregateWindows {
    fn new(id: AggregateId, aggregate: &Aggregate) -> AggregateWindows {
        let frame = Frame::of(aggregate.window);
        let sketches = aggregate.select.iter().filter(|s| s.function == Function::ApproxDistinct).count();
        let row_bytes =
            ROW_BYTES + aggregate.select.len() * size_of::<Accumulator>() + sketches * SKETCH_BYTES;
        AggregateWindows {
            id,
            source: None,
            name: aggregate.name.clone(),
            frame,
            allowed_lateness: aggregate.allowed_lateness,
            horizon: Horizon::new(frame, aggregate.allowed_lateness),
            empty: aggregate.select.iter().map(Accumulator::empty).collect(),
            whole: aggregate.select.iter().any(|s| s.function == Function::ApproxDistinct),
            row_bytes: frame.most_windows() * row_bytes,
            buckets: BTreeMap::new(),
            dropped_before: None,
            closed_before: EventTime(i64::MIN),
            closed: Vec::new(),
        }
    }

    /// The same aggregate's windows of one source partition, empty.
    fn of_source(&self, source: Option<Partition>) -> AggregateWindows {
        AggregateWindows {
            source,
            name: self.name.clone(),
            horizon: Horizon::new(self.frame, self.allowed_lateness),
            empty: self.empty.clone(),
            buckets: BTreeMap::new(),
            dropped_before: None,
            closed_before: EventTime(i64::MIN),
            closed: Vec::new(),
            ..*self
        }
    }

    /// Which sketches are these windows' own, of a task of `partition`.
    ///
    /// Why: a sketch replaces the one before it, and so must hold all that its writer has seen.
    fn sketches_of(&self, partition: Partition) -> Partition {
        self.source.map_or(partition, |source| Partition(source.0 << HOP_BITS | partition.0))
    }

    /// Brings a slice, and those it shares a window with if rows need them, into memory for this epoch; answers how
    /// many bytes that took.
    fn load(&mut self, store: &dyn StateStore, slice: EventTime, clock: u64) -> Result<usize, StoreError> {
        let AggregateWindows { source, name, frame, whole, empty, buckets, dropped_before, .. } = self;
        let mut bytes = 0;
        for start in frame.neighbours(slice).filter(|start| *whole || *start == slice) {
            if Some(start) < *dropped_before {
                continue;
            }
            let bucket = match buckets.entry(start) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(free) => {
                    let bucket = Bucket::load(store, &window_prefix(name, *source, start), empty.len())?;
                    bytes += bucket.bytes;
                    free.insert(bucket)
                }
            };
            bucket.touched = clock;
            if start == slice {
                bucket.ready = clock;
            }
        }
        Ok(bytes)
    }

    /// Puts aside the rows of windows that take no records any more, before a slice of theirs takes one that is too late
    /// for them.
    ///
    /// Why: a slice does not know which of its records came when; but a window dies once, and all that its slices hold
    /// up to then is its own.
    fn close(&mut self, live_from: EventTime, partition: Partition) {
        if live_from > self.closed_before {
            if !self.frame.is_tumbling() {
                let mut closed = std::mem::take(&mut self.closed);
                self.combine(live_from, partition, &mut closed);
                self.closed = closed;
            }
            self.closed_before = live_from;
        }
    }

    /// Appends the rows of windows that start before `below` and are not closed.
    fn combine(&mut self, below: EventTime, partition: Partition, rows: &mut Vec<DeltaRow>) {
        let (frame, partition) = (self.frame, self.sketches_of(partition));
        let from = if frame.is_tumbling() { EventTime(i64::MIN) } else { self.closed_before };
        let asked =
            self.buckets.range_mut(from..).take_while(|(slice, _)| frame.first_start(**slice) < below);
        asked.filter(|(_, bucket)| bucket.pending).for_each(|(_, bucket)| bucket.sort());
        Slices { frame, partition, buckets: &self.buckets, from, below }.rows(rows);
    }
}
