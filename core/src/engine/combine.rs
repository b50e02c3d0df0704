//! From slices to windows: what an epoch adds to the rows of the windows that share them.

use std::collections::BTreeMap;

use crate::aggregate::{Accumulator, Sketch};
use crate::model::{EventTime, Partition};
use crate::window::Frame;

use super::bucket::{Bucket, Entry};
use super::{DeltaRow, PartitionSketch};

/// The slices of one aggregate, and which of their windows are asked for.
pub struct Slices<'b> {
    pub frame: Frame,
    pub partition: Partition,
    pub buckets: &'b BTreeMap<EventTime, Bucket>,
    /// Only windows that start in `[from, below)`.
    pub from: EventTime,
    pub below: EventTime,
}

impl Slices<'_> {
    /// Appends a row for every window and key that something was added to, in this order. Buckets are sorted.
    pub fn rows(&self, rows: &mut Vec<DeltaRow>) {
        // A slice before `from` lies in no window that is asked for.
        let pending = self.buckets.range(self.from..).filter(|(_, bucket)| bucket.pending);
        if self.frame.is_tumbling() {
            rows.extend(pending.flat_map(|(slice, bucket)| bucket.pending().map(|e| self.row(*slice, e))));
            return;
        }
        let mut added: Vec<(&[u8], EventTime, &Entry)> = pending
            .take_while(|(slice, _)| self.frame.first_start(**slice) < self.below)
            .flat_map(|(slice, bucket)| bucket.pending().map(|entry| (&*entry.key, *slice, entry)))
            .collect();
        added.sort_by_key(|(key, slice, _)| (*key, *slice));
        let first = rows.len();
        added.chunk_by(|a, b| a.0 == b.0).for_each(|of_key| self.rows_of_key(of_key, rows));
        rows[first..].sort_by(|a, b| (a.window.start, &a.key).cmp(&(b.window.start, &b.key)));
    }

    /// The row of a window that is a slice itself.
    fn row(&self, slice: EventTime, entry: &Entry) -> DeltaRow {
        let sketch = |(column, total): (usize, &Accumulator)| match total {
            Accumulator::Distinct(Some(sketch)) => {
                Some(PartitionSketch { column, partition: self.partition, sketch: (**sketch).clone() })
            }
            _ => None,
        };
        DeltaRow {
            window: self.frame.window(slice),
            key: entry.key.clone(),
            accumulators: in_window(entry, slice),
            sketches: entry.total.iter().enumerate().filter_map(sketch).collect(),
        }
    }

    /// The rows of one key, whose changed slices stand in order.
    fn rows_of_key(&self, entries: &[(&[u8], EventTime, &Entry)], rows: &mut Vec<DeltaRow>) {
        let ((key, _, entry), frame) = (entries[0], self.frame);
        let mut starts: Vec<EventTime> = Vec::new();
        for (_, slice, _) in entries {
            let first = frame.first_start(*slice).max(self.from);
            let after_last = starts.last().map_or(first, |last| first.max(frame.next_start(*last)));
            starts.extend(frame.starts(after_last, frame.last_start(*slice)).take_while(|s| *s < self.below));
        }
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return };
        let sketched = |column: &usize| matches!(entry.total[*column], Accumulator::Distinct(_));
        let mut sketches: Vec<MovingUnion<'_>> = (0..entry.total.len())
            .filter(sketched)
            .map(|column| {
                let slices = self.buckets.range(*first..frame.window(*last).end);
                MovingUnion::new(
                    column,
                    slices.filter_map(|(slice, bucket)| Some((*slice, bucket.get(key)?))),
                )
            })
            .collect();
        for start in starts {
            let window = frame.window(start);
            let before = |end: EventTime| entries.partition_point(|(_, slice, _)| *slice < end);
            let inside = &entries[before(window.start)..before(window.end)];
            let accumulators = inside.iter().map(|(.., entry)| in_window(entry, start)).reduce(merged);
            let Some(accumulators) = accumulators else { continue };
            let sketches = sketches
                .iter_mut()
                .filter_map(|moving| {
                    let sketch = moving.union(window.start, window.end)?;
                    Some(PartitionSketch { column: moving.column, partition: self.partition, sketch })
                })
                .collect();
            rows.push(DeltaRow { window, key: entry.key.clone(), accumulators, sketches });
        }
    }
}

fn in_window(entry: &Entry, start: EventTime) -> Vec<Accumulator> {
    entry.delta.iter().map(|delta| delta.in_window(start)).collect()
}

fn merged(mut into: Vec<Accumulator>, from: Vec<Accumulator>) -> Vec<Accumulator> {
    into.iter_mut().zip(&from).for_each(|(a, b)| a.merge(b));
    into
}

/// Unions over a range of slices that only moves forward. Each slice is merged three times at most, however many ranges
/// hold it: the older part of a range is the end of a run that was merged backwards, the newer part grows.
struct MovingUnion<'e> {
    column: usize,
    parts: Vec<(EventTime, &'e Sketch)>,
    /// The range is `parts[from..to]`.
    from: usize,
    to: usize,
    /// `older[i]` is the union of `parts[turn - 1 - i..turn]`.
    older: Vec<Sketch>,
    turn: usize,
    /// The union of `parts[turn..to]`.
    newer: Sketch,
}

impl<'e> MovingUnion<'e> {
    fn new(column: usize, entries: impl Iterator<Item = (EventTime, &'e Entry)>) -> MovingUnion<'e> {
        let parts = entries.filter_map(|(slice, entry)| match &entry.total[column] {
            Accumulator::Distinct(Some(sketch)) => Some((slice, &**sketch)),
            _ => None,
        });
        let (parts, newer) = (parts.collect(), Sketch::default());
        MovingUnion { column, parts, from: 0, to: 0, older: Vec::new(), turn: 0, newer }
    }

    /// The union of the slices in `[start, end)`; none without a value. Neither bound may go back.
    fn union(&mut self, start: EventTime, end: EventTime) -> Option<Sketch> {
        while self.parts.get(self.from).is_some_and(|(slice, _)| *slice < start) {
            self.from += 1;
        }
        self.to = self.to.max(self.from);
        let after = self.parts[self.to..].iter().take_while(|(slice, _)| *slice < end).count();
        if self.from >= self.turn {
            self.turn_at(self.to + after);
        } else {
            self.parts[self.to..self.to + after].iter().for_each(|(_, sketch)| self.newer.merge(sketch));
        }
        self.to += after;
        if self.from == self.to {
            return None;
        }
        let mut union = self.older[self.turn - 1 - self.from].clone();
        union.merge(&self.newer);
        Some(union)
    }

    fn turn_at(&mut self, turn: usize) {
        self.older.clear();
        for (_, sketch) in self.parts[self.from..turn].iter().rev() {
            let mut longer = self.older.last().cloned().unwrap_or_default();
            longer.merge(sketch);
            self.older.push(longer);
        }
        (self.turn, self.newer) = (turn, Sketch::default());
    }
}
