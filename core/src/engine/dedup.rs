//! The ids that a source's records are held against.
//!
//! An id is kept with the bucket of event time in which it was accepted, in the *generation* that was open when it came.
//! Every generation is a range of keys in local state: it is written once, in order, and dropped whole when the last of its
//! buckets has expired. The youngest stand in memory with all their ids. Beyond the budget the oldest of them keep a filter
//! only: a new id passes it without a read, and one that may be there is looked up. Beyond that even filters go. What is
//! remembered, and for how long, depends on none of this.
//!
//! Why generations and not buckets: one bucket may hold nearly all ids, or there may be late ones for every bucket. A
//! generation has so many ids whatever their times, so a record asks few filters, and a table never grows beyond its share.

use std::collections::VecDeque;
use std::mem::size_of;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use crate::codec::{DEDUP_HEAD, decode_dedup_key, decode_dedup_value, dedup_key, dedup_prefix};
use crate::model::{EventTime, Span};
use crate::window::{Expiry, Marks, TimeBucket};

use super::filter::Filter;
use super::{Change, Family, StateStore, StoreError};

/// A generation's table takes at most this part of the budget.
const GENERATION_SHARE: usize = 8;
const LEAST_SLOTS: usize = 1 << 6;
const MOST_SLOTS: usize = 1 << 24;
/// What a slot of a table takes: the entry and a control byte.
const SLOT_BYTES: usize = size_of::<Seen>() + 1;

/// All ids of one task.
#[derive(Debug)]
pub struct Dedup {
    expiry: Expiry,
    budget_bytes: usize,
    /// Ids after which a generation is closed.
    generation_ids: usize,
    /// Oldest first; only the last one takes ids.
    generations: VecDeque<Generation>,
    /// Since the last `seal`.
    added: Vec<(u64, Seen)>,
    loaded: bool,
}

#[derive(Debug)]
struct Generation {
    number: u64,
    ids: Ids,
    /// The latest bucket of its ids.
    last_bucket: TimeBucket,
}

/// What memory holds of a generation's ids.
#[derive(Debug)]
enum Ids {
    All(HashTable<Seen>),
    Filter(Filter),
    Nothing,
}

/// Two halves, not a `u128`: a third smaller beside a bucket.
#[derive(Clone, Copy, Debug)]
struct Seen {
    high: u64,
    low: u64,
    bucket: TimeBucket,
}

impl Dedup {
    /// Remembers ids `within` this bound, in about `budget_bytes` of memory.
    pub fn new(within: Span, budget_bytes: usize) -> Dedup {
        let slots = (budget_bytes / GENERATION_SHARE / SLOT_BYTES).clamp(LEAST_SLOTS, MOST_SLOTS);
        // Why: a table of 2^k slots is full at 7/8, and would double with the next id.
        let generation_ids = (1usize << slots.ilog2()) / 8 * 7;
        Dedup {
            expiry: Expiry::of(within),
            budget_bytes,
            generation_ids,
            generations: VecDeque::new(),
            added: Vec::new(),
            loaded: false,
        }
    }

    /// Whether an id was seen and has not expired for its record; one that was not is seen from now on, at `at`.
    pub fn is_duplicate(
        &mut self,
        store: &dyn StateStore,
        (id, at): (u128, EventTime),
        marks: Marks,
    ) -> Result<bool, StoreError> {
        self.load(store)?;
        let first_live = self.expiry.first_live(marks.watermark);
        for generation in self.generations.iter().rev().filter(|g| g.last_bucket >= first_live) {
            if generation.bucket_of(store, id)?.is_some_and(|bucket| bucket >= first_live) {
                return Ok(true);
            }
        }
        let bucket = self.expiry.bucket(at);
        // What has expired for all would never be found.
        if bucket >= self.expiry.first_live(marks.least) {
            self.insert(Seen::new(id, bucket));
        }
        Ok(false)
    }

    /// Reads what local state holds, once.
    pub fn load(&mut self, store: &dyn StateStore) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.loaded, true) {
            return Ok(());
        }
        let mut broken = None;
        store.scan(Family::Dedup, &DEDUP_HEAD, &mut |key, value| match decode_dedup_key(key)
            .and_then(|place| Ok((place, decode_dedup_value(value)?)))
        {
            Ok(((number, id), bucket)) => {
                if self.generations.back().is_none_or(|last| last.number != number) {
                    self.evict();
                    self.generations.push_back(Generation::new(number));
                }
                let last = self.generations.back_mut().expect("just made");
                last.insert(Seen::new(id, TimeBucket(bucket)));
            }
            Err(error) => broken = Some(StoreError::Corrupt(error.to_string())),
        })?;
        self.evict();
        broken.map_or(Ok(()), Err)
    }

    fn insert(&mut self, seen: Seen) {
        let next = match self.generations.back() {
            None => Some(0),
            Some(last) if last.takes_ids(self.generation_ids) => None,
            Some(last) => Some(last.number + 1),
        };
        self.generations.extend(next.map(Generation::new));
        let last = self.generations.back_mut().expect("there is one");
        let kept = last.insert(seen);
        self.added.push((last.number, kept));
    }

    /// Takes what local state lacks, by key, and forgets what has expired at `watermark`.
    pub fn seal(&mut self, watermark: Option<EventTime>, changes: &mut Vec<Change>) {
        // Stable: of an id that expired and came again the last bucket counts.
        self.added.sort_by_key(|(number, seen)| (*number, seen.high, seen.low));
        changes.extend(self.added.drain(..).map(|(number, seen)| Change::Put {
            family: Family::Dedup,
            key: dedup_key(number, seen.id()),
            value: seen.bucket.0.to_le_bytes().to_vec(),
        }));
        let first_live = self.expiry.first_live(watermark);
        self.generations.retain(|generation| {
            let alive = generation.last_bucket >= first_live;
            if !alive {
                let (from, to) = (dedup_prefix(generation.number), dedup_prefix(generation.number + 1));
                changes.push(Change::DeleteRange { family: Family::Dedup, from, to });
            }
            alive
        });
    }

    /// Lets go of the oldest ids, and then of the oldest filters, until the budget holds.
    ///
    /// Order: only after the changes of every sealed epoch were written, or an id would be in neither place.
    pub fn evict(&mut self) {
        let mut bytes: usize = self.generations.iter().map(Generation::bytes).sum();
        let unwritten = self.added.first().map_or(u64::MAX, |(number, _)| *number);
        let closed = self.generations.len().saturating_sub(1);
        let kinds: [fn(&Ids) -> bool; 2] =
            [|ids| matches!(ids, Ids::All(_)), |ids| matches!(ids, Ids::Filter(_))];
        for of_kind in kinds {
            let written = self.generations.iter_mut().take(closed).filter(|g| g.number < unwritten);
            for generation in written.filter(|g| of_kind(&g.ids)) {
                if bytes <= self.budget_bytes {
                    return;
                }
                bytes -= generation.bytes();
                generation.shrink();
                bytes += generation.bytes();
            }
        }
    }
}

impl Generation {
    fn new(number: u64) -> Generation {
        Generation { number, ids: Ids::All(HashTable::new()), last_bucket: TimeBucket(i64::MIN) }
    }

    /// The bucket in which an id was seen last.
    fn bucket_of(&self, store: &dyn StateStore, id: u128) -> Result<Option<TimeBucket>, StoreError> {
        match &self.ids {
            Ids::All(table) => {
                let wanted = Seen::new(id, TimeBucket(0));
                return Ok(table.find(wanted.low, |seen| seen.is(&wanted)).map(|seen| seen.bucket));
            }
            Ids::Filter(filter) if !filter.may_hold(id) => return Ok(None),
            Ids::Filter(_) | Ids::Nothing => {}
        }
        let Some(value) = store.get(Family::Dedup, &dedup_key(self.number, id))? else { return Ok(None) };
        let bucket = decode_dedup_value(&value).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Some(TimeBucket(bucket)))
    }

    /// Answers what it keeps. Invariant: asked whether it takes ids before.
    fn insert(&mut self, seen: Seen) -> Seen {
        let Ids::All(table) = &mut self.ids else { unreachable!("a generation with all its ids") };
        let kept = match table.entry(seen.low, |other| other.is(&seen), |other| other.low) {
            Slot::Occupied(mut expired) => {
                // Why: one that has expired for this record may live on for another source's.
                let kept = expired.get_mut();
                kept.bucket = kept.bucket.max(seen.bucket);
                *kept
            }
            Slot::Vacant(free) => *free.insert(seen).get(),
        };
        self.last_bucket = self.last_bucket.max(kept.bucket);
        kept
    }

    /// Whether it has room for one more, up to `most` of them.
    fn takes_ids(&self, most: usize) -> bool {
        matches!(&self.ids, Ids::All(table) if table.len() < most)
    }

    fn shrink(&mut self) {
        self.ids = match &self.ids {
            Ids::All(table) => {
                let mut filter = Filter::new(table.len());
                table.iter().for_each(|seen| filter.insert(seen.id()));
                Ids::Filter(filter)
            }
            Ids::Filter(_) | Ids::Nothing => Ids::Nothing,
        };
    }

    fn bytes(&self) -> usize {
        let ids = match &self.ids {
            Ids::All(table) => table.allocation_size(),
            Ids::Filter(filter) => filter.bytes(),
            Ids::Nothing => 0,
        };
        size_of::<Generation>() + ids
    }
}

impl Seen {
    fn new(id: u128, bucket: TimeBucket) -> Seen {
        Seen { high: (id >> 64) as u64, low: id as u64, bucket }
    }

    fn id(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    fn is(&self, other: &Seen) -> bool {
        (self.high, self.low) == (other.high, other.low)
    }
}
