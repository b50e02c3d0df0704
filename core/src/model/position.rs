//! Positions in a log and incarnations of its owner.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The number of a partition within its topic, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// The next offset to read: everything below it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset after this one.
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

/// The number of an atomic commit of a worker, counted per task from 1; 0 before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

/// One incarnation of a task's owner: taking the task increments it, and every commit compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnerEpoch(pub i64);

/// The rolling hash over everything a task derived from its records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RollingHash(pub u64);

/// Identifies the last record that was consumed, so that a recreated topic is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub offset: Offset,
    /// The Kafka timestamp in milliseconds, -1 where the record has none.
    pub timestamp_ms: i64,
    /// xxh3-64 of the value, seeded by that of the key.
    pub hash: u64,
}

/// An input partition; the unit of ownership.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: Partition,
}

impl Fingerprint {
    /// Lengths are hashed with the bytes, so that a key cannot pass for part of a value.
    pub fn of(offset: Offset, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Fingerprint {
        let seed = key.map_or(u64::MAX, |k| xxh3_64_with_seed(k, k.len() as u64));
        let hash = value.map_or(seed, |v| xxh3_64_with_seed(v, seed ^ 1));
        Fingerprint { offset, timestamp_ms, hash }
    }
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition: Partition(partition) }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for OwnerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RollingHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
        Fingerprint::of(Offset(3), 1, key, value).hash
    }

    #[test]
    fn null_differs_from_empty() {
        assert_ne!(hash(None, Some(b"v")), hash(Some(b""), Some(b"v")));
        assert_ne!(hash(Some(b"k"), None), hash(Some(b"k"), Some(b"")));
    }

    #[test]
    fn bytes_do_not_move_between_key_and_value() {
        assert_ne!(hash(Some(b"ab"), Some(b"c")), hash(Some(b"a"), Some(b"bc")));
        assert_ne!(hash(None, Some(b"abc")), hash(Some(b"abc"), None));
    }
}
