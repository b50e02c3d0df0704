//! All keys of one slice of one aggregate: read by one scan, changed in memory, written as one sorted run.

use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::aggregate::Accumulator;
use crate::codec::window_key;
use crate::model::{EventTime, Value};

use super::{Change, Family, StateStore, StoreError};

/// What an entry costs in memory beside key and accumulators: pointers, counts, its place in the table.
const ENTRY_BYTES: usize = 96;

#[derive(Debug, Default)]
pub struct Bucket {
    /// Indexes of `entries` by the hash of their keys.
    index: HashTable<u32>,
    entries: Vec<Entry>,
    /// Indexes of the entries that changed since the last `write`.
    dirty: Vec<u32>,
    /// Whether some of them add to result rows.
    pub pending: bool,
    pub bytes: usize,
    /// The epoch of its last use.
    pub touched: u64,
    /// The epoch in which everything that its rows need was last brought into memory.
    pub ready: u64,
}

#[derive(Debug)]
pub struct Entry {
    pub key: Arc<[u8]>,
    hash: u64,
    /// Over all records of this partition.
    pub total: Box<[Accumulator]>,
    /// Over the records of the epoch that PostgreSQL does not hold yet; empty until the first. A sketch is not kept
    /// twice: it stands in `total` alone. What is of epochs only stands here alone.
    pub delta: Vec<Accumulator>,
    dirty: bool,
    bytes: usize,
}

/// What one record adds to one entry.
pub struct Addition<'r> {
    pub key: &'r [u8],
    pub arguments: &'r [Value<'r>],
    /// For windows that start before this the record is late.
    pub late_before: Option<EventTime>,
    /// Whether the result row lacks it still.
    pub rows: bool,
}

impl Bucket {
    /// Reads what local state holds under `prefix`.
    pub fn load(store: &dyn StateStore, prefix: &[u8], columns: usize) -> Result<Bucket, StoreError> {
        let mut bucket = Bucket::default();
        let mut broken = None;
        store.scan(Family::Windows, prefix, &mut |key, value| match decode_entry(value, columns) {
            Ok(total) => {
                let key = &key[prefix.len()..];
                bucket.insert(xxh3_64(key), key, total);
            }
            Err(error) => broken = Some(error),
        })?;
        broken.map_or(Ok(bucket), Err)
    }

    /// Adds one record; `empty` are the accumulators of a new entry. Answers whether it is the first that the entry adds
    /// to result rows in this epoch.
    pub fn add(&mut self, addition: &Addition<'_>, empty: &[Accumulator]) -> bool {
        let Addition { key, arguments, late_before, rows } = addition;
        let hash = xxh3_64(key);
        let at = match self.find(hash, key) {
            Some(at) => at,
            None => self.insert(hash, key, empty.into()),
        };
        let entry = &mut self.entries[at];
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(at as u32);
        }
        for (total, value) in entry.total.iter_mut().zip(*arguments) {
            if !total.is_of_epochs() {
                total.add(value, *late_before);
            }
        }
        let first = *rows && entry.delta.is_empty();
        if *rows {
            self.pending = true;
            if first {
                entry.delta.extend_from_slice(empty);
            }
            for (delta, value) in entry.delta.iter_mut().zip(*arguments) {
                if !matches!(delta, Accumulator::Distinct(_)) {
                    delta.add(value, *late_before);
                }
            }
        }
        first
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.find(xxh3_64(key), key).map(|at| &self.entries[at])
    }

    /// Brings the changed entries into the order of their keys.
    pub fn sort(&mut self) {
        let Bucket { entries, dirty, .. } = self;
        dirty.sort_unstable_by(|a, b| entries[*a as usize].key.cmp(&entries[*b as usize].key));
    }

    /// The entries that add to result rows; by key once sorted.
    pub fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.dirty.iter().map(|at| &self.entries[*at as usize]).filter(|entry| !entry.delta.is_empty())
    }

    /// Whether it can be read back as it is here.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Takes what changed since the last call, by key; what was added to result rows is forgotten.
    pub fn write(&mut self, prefix: &[u8], changes: &mut Vec<Change>) {
        self.sort();
        self.pending = false;
        for at in self.dirty.drain(..) {
            let entry = &mut self.entries[at as usize];
            entry.dirty = false;
            entry.delta.clear();
            let mut value = Vec::with_capacity(9 * entry.total.len());
            for total in &entry.total {
                total.encode(&mut value);
            }
            changes.push(Change::Put { family: Family::Windows, key: window_key(prefix, &entry.key), value });
            let bytes = entry_bytes(&entry.key, &entry.total);
            self.bytes = self.bytes + bytes - std::mem::replace(&mut entry.bytes, bytes);
        }
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.index.find(hash, |at| *self.entries[*at as usize].key == *key).map(|at| *at as usize)
    }

    fn insert(&mut self, hash: u64, key: &[u8], total: Box<[Accumulator]>) -> usize {
        let at = self.entries.len();
        let bytes = entry_bytes(key, &total);
        self.entries.push(Entry { key: key.into(), hash, total, delta: Vec::new(), dirty: false, bytes });
        let place = u32::try_from(at).expect("a slice has fewer than 2^32 keys");
        self.index.insert_unique(hash, place, |other| self.entries[*other as usize].hash);
        self.bytes += bytes;
        at
    }
}

fn entry_bytes(key: &[u8], total: &[Accumulator]) -> usize {
    let heap: usize = total.iter().map(Accumulator::heap_bytes).sum();
    ENTRY_BYTES + key.len() + 2 * size_of_val(total) + heap
}

fn decode_entry(mut bytes: &[u8], columns: usize) -> Result<Box<[Accumulator]>, StoreError> {
    let corrupt = |what: String| StoreError::Corrupt(format!("a window entry: {what}"));
    let mut total = Vec::with_capacity(columns);
    for _ in 0..columns {
        total.push(Accumulator::decode(&mut bytes).map_err(|e| corrupt(e.to_string()))?);
    }
    if !bytes.is_empty() {
        return Err(corrupt(format!("{} bytes left over", bytes.len())));
    }
    Ok(total.into_boxed_slice())
}
