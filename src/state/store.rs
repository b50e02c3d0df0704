//! The store of a task.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use millstream_core::engine::{Change, Family, StateStore, StoreError, Visitor};
use rocksdb::{ColumnFamily, DB, ErrorKind, Options, PrefixRange, ReadOptions, WriteBatch};

use super::disk::{check_format, sync_parent};
use super::{StateError, options};

pub(super) const META: &str = "meta";
pub(super) const WINDOWS: &str = "windows";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const DEDUP: &str = "dedup";
const DB_DIR: &str = "db";

/// One task's state on disk. A batch survives the death of the process; after a loss of power the store stands at
/// some earlier batch, whole.
pub struct TaskStore {
    path: PathBuf,
    db: DB,
}

impl TaskStore {
    /// Opens a task's store, or makes an empty one where there is none.
    pub fn open(dir: &Path) -> Result<TaskStore, StateError> {
        remove_leftovers(dir)?;
        std::fs::create_dir_all(dir).map_err(|error| StateError::io(dir, &error))?;
        check_format(dir, &[DB_DIR])?;
        let path = dir.join(DB_DIR);
        if path.join("CURRENT").exists() {
            check_families(dir, &path)?;
        }
        let db = DB::open_cf_descriptors(&options::database(), &path, options::families())
            .map_err(|error| open_error(dir, &error))?;
        Ok(TaskStore { path: dir.into(), db })
    }

    /// Removes a store that is not open; the task begins anew.
    pub fn destroy(dir: &Path) -> Result<(), StateError> {
        remove_leftovers(dir)?;
        let doomed = doomed(dir);
        // Order: renamed before anything is removed; a crash half-way leaves no store with a part of its files.
        match std::fs::rename(dir, &doomed).and_then(|()| sync_parent(dir)) {
            Ok(()) => remove_leftovers(dir),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StateError::io(dir, &error)),
        }
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        let name = match family {
            Family::Meta => META,
            Family::Windows => WINDOWS,
            Family::Sessions => SESSIONS,
            Family::Dedup => DEDUP,
        };
        let missing = || StoreError::Corrupt(format!("{}: no family '{name}'", self.path.display()));
        self.db.cf_handle(name).ok_or_else(missing)
    }

    fn error(&self, error: &rocksdb::Error) -> StoreError {
        classify(&self.path, error).into()
    }
}

impl StateStore for TaskStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(family)?, key).map_err(|error| self.error(&error))
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_range(PrefixRange(prefix));
        let mut entries = self.db.raw_iterator_cf_opt(self.family(family)?, bounds);
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            visit(key, value);
            entries.next();
        }
        entries.status().map_err(|error| self.error(&error))
    }

    fn scan_range(
        &self,
        family: Family,
        (from, to): (&[u8], &[u8]),
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        let mut bounds = ReadOptions::default();
        bounds.set_iterate_lower_bound(from);
        bounds.set_iterate_upper_bound(to);
        let mut entries = self.db.raw_iterator_cf_opt(self.family(family)?, bounds);
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            if visit(key, value).is_break() {
                break;
            }
            entries.next();
        }
        entries.status().map_err(|error| self.error(&error))
    }

    fn write(&mut self, mut changes: Vec<Change>) -> Result<(), StoreError> {
        sort_puts(&mut changes);
        let mut batch = WriteBatch::default();
        for change in &changes {
            match change {
                Change::Put { family, key, value } => batch.put_cf(self.family(*family)?, key, value),
                Change::Delete { family, key } => batch.delete_cf(self.family(*family)?, key),
                // An empty range deletes nothing; RocksDB refuses the whole batch for a reversed one.
                Change::DeleteRange { from, to, .. } if from >= to => {}
                Change::DeleteRange { family, from, to } => {
                    batch.delete_range_cf(self.family(*family)?, from, to);
                }
            }
        }
        self.db.write(batch).map_err(|error| self.error(&error))
    }
}

impl fmt::Debug for TaskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Sorts each run of puts by key; the last put of a key stays the last.
///
/// Why: random keys cost ten times as much as sorted ones.
fn sort_puts(changes: &mut [Change]) {
    let is_put = |change: &Change| matches!(change, Change::Put { .. });
    for run in changes.chunk_by_mut(|a, b| is_put(a) && is_put(b)) {
        run.sort_by(|a, b| put_key(a).cmp(&put_key(b)));
    }
}

fn put_key(change: &Change) -> Option<(Family, &[u8])> {
    match change {
        Change::Put { family, key, .. } => Some((*family, key)),
        Change::Delete { .. } | Change::DeleteRange { .. } => None,
    }
}

/// Refuses a database with families of another program or version.
fn check_families(dir: &Path, db: &Path) -> Result<(), StateError> {
    let found = DB::list_cf(&Options::default(), db).map_err(|error| open_error(dir, &error))?;
    let known = [META, WINDOWS, SESSIONS, DEDUP, "default"];
    match found.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            Err(StateError::Foreign { dir: dir.into(), detail: format!("it has an unknown family '{name}'") })
        }
        None => Ok(()),
    }
}

/// Like `classify`, but a file that is missing from a database that exists is damage, not an outage.
fn open_error(dir: &Path, error: &rocksdb::Error) -> StateError {
    let text: &str = error.as_ref();
    if text.contains("lock hold by current process") {
        return StateError::Busy { dir: dir.into() };
    }
    if text.contains("While lock file") {
        return StateError::InUse { dir: dir.into() };
    }
    if error.kind() == ErrorKind::NotFound || text.contains("No such file or directory") {
        return StateError::Corrupt { path: dir.into(), detail: text.to_string() };
    }
    classify(dir, error)
}

fn classify(path: &Path, error: &rocksdb::Error) -> StateError {
    let text: &str = error.as_ref();
    match error.kind() {
        ErrorKind::Corruption => StateError::Corrupt { path: path.into(), detail: text.to_string() },
        _ if text.contains("No space left on device") || text.contains("Disk quota exceeded") => {
            StateError::DiskFull { path: path.into() }
        }
        _ => StateError::Io { path: path.into(), detail: text.to_string() },
    }
}

/// Where a destroyed store goes first.
fn doomed(dir: &Path) -> PathBuf {
    let mut name = OsString::from(dir);
    name.push(".removed");
    PathBuf::from(name)
}

fn remove_leftovers(dir: &Path) -> Result<(), StateError> {
    let doomed = doomed(dir);
    match std::fs::remove_dir_all(&doomed) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StateError::io(&doomed, &error)),
        _ => Ok(()),
    }
}
