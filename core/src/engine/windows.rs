//! The windows of one task: a write-back cache over local state.
//!
//! A bucket is all keys of one window of one aggregate. It is loaded whole by one scan when a record first falls into
//! it, changed in memory, and its dirty entries leave as one sorted run of changes per epoch. Clean buckets are evicted
//! by age once the budget is exceeded, and read back on demand: state may exceed memory, a single window may not.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::aggregate::Accumulator;
use crate::codec::{window_key, window_prefix};
use crate::model::{EventTime, Span, Value, WindowSpan};
use crate::pipeline::{Aggregate, AggregateId, Plan, Window};
use crate::window::first_live_start;

use super::{Change, DeltaRow, Family, StateStore, StoreError};

/// What an entry costs in memory beside its key: two boxes, accumulators, map slot.
const ENTRY_OVERHEAD: usize = 160;

/// All windows of one task.
#[derive(Debug)]
pub struct Windows {
    aggregates: Vec<AggregateWindows>,
    budget_bytes: usize,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct AggregateWindows {
    id: AggregateId,
    name: Arc<str>,
    size: Span,
    allowed_lateness: Span,
    empty: Vec<Accumulator>,
    buckets: BTreeMap<EventTime, Bucket>,
    /// Windows that start before this are gone from local state.
    dropped_before: Option<EventTime>,
}

#[derive(Debug, Default)]
struct Bucket {
    entries: HashMap<Box<[u8]>, Entry>,
    dirty: Vec<Box<[u8]>>,
    bytes: usize,
    touched: u64,
}

#[derive(Debug)]
struct Entry {
    /// Over all records of this partition.
    total: Vec<Accumulator>,
    /// Over the records of the epoch that PostgreSQL does not hold yet; empty until the first.
    delta: Vec<Accumulator>,
    dirty: bool,
}

impl Windows {
    /// `budget_bytes` bounds what clean buckets may take.
    pub fn new(plan: &Plan, aggregates: &[AggregateId], budget_bytes: usize) -> Windows {
        let aggregates =
            aggregates.iter().map(|id| AggregateWindows::new(*id, &plan.aggregates[id.0])).collect();
        Windows { aggregates, budget_bytes, bytes: 0, clock: 0 }
    }

    /// Adds one record to one window. `rows`: the result row lacks it still.
    pub fn add(
        &mut self,
        store: &dyn StateStore,
        at: (AggregateId, WindowSpan),
        key: &[u8],
        arguments: &[Value<'_>],
        rows: bool,
    ) -> Result<(), StoreError> {
        let (id, window) = at;
        let kept = self
            .aggregates
            .iter_mut()
            .find(|a| a.id == id)
            .expect("an aggregate that matched is one of this source's");
        let AggregateWindows { name, empty, buckets, .. } = kept;
        let bucket = match buckets.entry(window.start) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let bucket = Bucket::load(store, &window_prefix(name, window.start), empty.len())?;
                self.bytes += bucket.bytes;
                free.insert(bucket)
            }
        };
        bucket.touched = self.clock;
        let entry = match bucket.entries.get_mut(key) {
            Some(entry) => entry,
            None => {
                let cost = key.len() + ENTRY_OVERHEAD;
                bucket.bytes += cost;
                self.bytes += cost;
                let fresh = Entry { total: empty.clone(), delta: Vec::new(), dirty: false };
                bucket.entries.entry(key.into()).or_insert(fresh)
            }
        };
        if !entry.dirty {
            entry.dirty = true;
            bucket.dirty.push(key.into());
        }
        for (total, value) in entry.total.iter_mut().zip(arguments) {
            total.add(value);
        }
        if rows {
            if entry.delta.is_empty() {
                entry.delta.clone_from(empty);
            }
            for (delta, value) in entry.delta.iter_mut().zip(arguments) {
                delta.add(value);
            }
        }
        Ok(())
    }

    /// Takes what changed since the last call: changes of local state and deltas of result rows, both sorted.
    pub fn seal(&mut self, changes: &mut Vec<Change>) -> BTreeMap<AggregateId, Vec<DeltaRow>> {
        self.clock += 1;
        let mut deltas = BTreeMap::new();
        for kept in &mut self.aggregates {
            let mut rows = Vec::new();
            for (start, bucket) in &mut kept.buckets {
                let window = WindowSpan { start: *start, end: start.plus(kept.size) };
                bucket.seal(window, &window_prefix(&kept.name, *start), changes, &mut rows);
            }
            if !rows.is_empty() {
                deltas.insert(kept.id, rows);
            }
        }
        deltas
    }

    /// Forgets windows that no record can reach any more at `watermark`.
    pub fn expire(&mut self, watermark: Option<EventTime>, changes: &mut Vec<Change>) {
        let Some(watermark) = watermark else { return };
        for kept in &mut self.aggregates {
            let live = first_live_start(watermark, kept.size, kept.allowed_lateness);
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
                from: window_prefix(&kept.name, before),
                to: window_prefix(&kept.name, live),
            });
        }
    }

    /// Evicts the buckets that were touched longest ago until the budget holds.
    ///
    /// Order: only after the changes of every sealed epoch were written, or an evicted bucket would be read back old.
    pub fn evict(&mut self) {
        while self.bytes > self.budget_bytes {
            let oldest = self
                .aggregates
                .iter()
                .enumerate()
                .flat_map(|(i, a)| {
                    a.buckets.iter().map(move |(start, b)| (b.touched, i, *start, b.dirty.is_empty()))
                })
                .filter(|(touched, .., clean)| *clean && *touched < self.clock)
                .min();
            let Some((_, i, start, _)) = oldest else { break };
            if let Some(bucket) = self.aggregates[i].buckets.remove(&start) {
                self.bytes -= bucket.bytes;
            }
        }
    }
}

impl AggregateWindows {
    fn new(id: AggregateId, aggregate: &Aggregate) -> AggregateWindows {
        let Window::Tumbling { size } = aggregate.window;
        AggregateWindows {
            id,
            name: aggregate.name.clone(),
            size,
            allowed_lateness: aggregate.allowed_lateness,
            empty: aggregate.select.iter().map(Accumulator::empty).collect(),
            buckets: BTreeMap::new(),
            dropped_before: None,
        }
    }
}

impl Bucket {
    fn load(store: &dyn StateStore, prefix: &[u8], columns: usize) -> Result<Bucket, StoreError> {
        let mut bucket = Bucket::default();
        let mut broken = None;
        store.scan(Family::Windows, prefix, &mut |key, value| match decode_entry(value, columns) {
            Ok(total) => {
                let key = &key[prefix.len()..];
                bucket.bytes += key.len() + ENTRY_OVERHEAD;
                bucket.entries.insert(key.into(), Entry { total, delta: Vec::new(), dirty: false });
            }
            Err(error) => broken = Some(error),
        })?;
        broken.map_or(Ok(bucket), Err)
    }

    fn seal(
        &mut self,
        window: WindowSpan,
        prefix: &[u8],
        changes: &mut Vec<Change>,
        rows: &mut Vec<DeltaRow>,
    ) {
        self.dirty.sort_unstable();
        for key in self.dirty.drain(..) {
            let entry = self.entries.get_mut(&key).expect("a dirty key has an entry");
            entry.dirty = false;
            let mut value = Vec::with_capacity(9 * entry.total.len());
            for total in &entry.total {
                total.encode(&mut value);
            }
            changes.push(Change::Put { family: Family::Windows, key: window_key(prefix, &key), value });
            if !entry.delta.is_empty() {
                rows.push(DeltaRow {
                    window,
                    key: key.into_vec(),
                    accumulators: std::mem::take(&mut entry.delta),
                });
            }
        }
    }
}

fn decode_entry(mut bytes: &[u8], columns: usize) -> Result<Vec<Accumulator>, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt(format!("a window entry: {what}"));
    let mut total = Vec::with_capacity(columns);
    for _ in 0..columns {
        total.push(Accumulator::decode(&mut bytes).map_err(|e| corrupt(e.to_string()))?);
    }
    if bytes.is_empty() { Ok(total) } else { Err(corrupt(format!("{} bytes left over", bytes.len()))) }
}
