//! What a task asks of its local state, and the in-memory twin of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// One entry: offset, hash, watermark, owner epoch, identity.
    Meta,
    /// Accumulators by aggregate, window start and key.
    Windows,
    /// Sessions by aggregate and key, and when they are over.
    Sessions,
    /// Buckets of event time by generation and id.
    Dedup,
}

/// One change of a `ChangeSet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        family: Family,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        family: Family,
        key: Vec<u8>,
    },
    /// Deletes every key in `[from, to)`.
    DeleteRange {
        family: Family,
        from: Vec<u8>,
        to: Vec<u8>,
    },
}

/// A failure of the local disk or of what stands on it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("local state: {0}")]
    Io(String),
    #[error("local state is corrupt: {0}")]
    Corrupt(String),
}

/// Is shown keys and values, and may break off.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Local state of one task, written once per epoch.
pub trait StateStore {
    /// The value under a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits every entry whose key begins with `prefix`, in key order.
    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError>;

    /// Visits the entries whose keys lie in `[from, to)`, in key order, until the visitor breaks off.
    fn scan_range(
        &self,
        family: Family,
        range: (&[u8], &[u8]),
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError>;

    /// Applies all changes in order as one atomic unit that survives the death of the process.
    fn write(&mut self, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// State in memory: for `try`, `test` and tests.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
}

impl StateStore for MemoryStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.entries.get(&(family, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let from = (family, prefix.to_vec());
        for ((at, key), value) in self.entries.range(from..) {
            if *at != family || !key.starts_with(prefix) {
                break;
            }
            visit(key, value);
        }
        Ok(())
    }

    fn scan_range(
        &self,
        family: Family,
        (from, to): (&[u8], &[u8]),
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        for ((_, key), value) in self.entries.range((family, from.to_vec())..(family, to.to_vec())) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        for change in changes {
            match change {
                Change::Put { family, key, value } => {
                    self.entries.insert((family, key), value);
                }
                Change::Delete { family, key } => {
                    self.entries.remove(&(family, key));
                }
                Change::DeleteRange { family, from, to } => {
                    let doomed: Vec<_> = self
                        .entries
                        .range((family, from)..(family, to))
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in doomed {
                        self.entries.remove(&key);
                    }
                }
            }
        }
        Ok(())
    }
}
