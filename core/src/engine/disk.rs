//! The store of tests: it outlives its task, as a disk does, and counts what it is asked for.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{Change, Family, MemoryStore, StateStore, StoreError, Visitor};

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    store: MemoryStore,
    gets: usize,
    scans: usize,
}

impl Disk {
    /// How often the value of a key was asked for.
    pub fn gets(&self) -> usize {
        self.lock().gets
    }

    /// How often everything under a prefix was.
    pub fn scans(&self) -> usize {
        self.lock().scans
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().expect("one thread")
    }
}

impl StateStore for Disk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut contents = self.lock();
        contents.gets += 1;
        contents.store.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let mut contents = self.lock();
        contents.scans += 1;
        contents.store.scan(family, prefix, visit)
    }

    fn scan_range(
        &self,
        family: Family,
        range: (&[u8], &[u8]),
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        self.lock().store.scan_range(family, range, visit)
    }

    fn write(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.lock().store.write(changes)
    }
}
