//! The local disk: an instance's directory, and one RocksDB for each of its tasks.
//!
//! Owns the state directory, its lock and the identity in it, and the store of a task. Must never decide what is
//! written: the engine hands over an epoch's changes, one write stores them. Must never wipe by itself: a store that
//! cannot be trusted is refused, and a person removes it. Changes come from the engine after everybody else has
//! committed; they are read back when a task is taken. A write that failed leaves a store that refuses further
//! writes: drop it, open it again. Tested in `tests.rs`, with killed processes and torn logs.
//!
//! | path below the root | content |
//! |---|---|
//! | `LOCK` | empty; locked by the instance that runs |
//! | `FORMAT` | `millstream state 1` |
//! | `INSTANCE` | the identity, a random UUID |
//! | `DRAIN` | empty; there while the instance is asked to leave its group |
//! | `DRAINED` | empty; its answer, until whoever asked has seen it |
//! | `tasks/<application>/<topic>/<partition>/FORMAT` | `millstream state 1` |
//! | `tasks/<application>/<topic>/<partition>/db/` | RocksDB with the families `meta`, `windows`, `sessions` and `dedup` |
//! | `tasks/<application>/<topic>/<partition>.removed/` | a destroyed task, on its way out |

mod dir;
mod disk;
mod options;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use millstream_core::engine::StoreError;
use millstream_core::model::Recovery;

pub use dir::{Drain, DrainRequest, StateDir};
pub use store::TaskStore;

/// Why local state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("state directory {} is in use by another process; give each instance its own --state-dir", dir.display())]
    InUse { dir: PathBuf },
    #[error("local state at {} is still open in another worker of this process", dir.display())]
    Busy { dir: PathBuf },
    #[error("state directory {}: {detail}; it was not written by this version, which changes nothing in it", dir.display())]
    Foreign { dir: PathBuf, detail: String },
    #[error("local state is corrupt: {}", damage(path, detail))]
    Corrupt { path: PathBuf, detail: String },
    #[error("local state: {}", shortage(path))]
    DiskFull { path: PathBuf },
    #[error("local state: {}: {detail}", path.display())]
    Io { path: PathBuf, detail: String },
}

impl StateError {
    pub fn recovery(&self) -> Recovery {
        match self {
            StateError::InUse { .. }
            | StateError::Busy { .. }
            | StateError::DiskFull { .. }
            | StateError::Io { .. } => Recovery::Retry,
            StateError::Foreign { .. } | StateError::Corrupt { .. } => Recovery::Corrupt,
        }
    }

    /// A failure of the file system at `path`.
    fn io(path: &Path, error: &std::io::Error) -> StateError {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StateError::DiskFull { path: path.into() },
            _ => StateError::Io { path: path.into(), detail: error.to_string() },
        }
    }
}

/// As a store's error: one text for the same condition, whenever it shows.
impl From<StateError> for StoreError {
    fn from(error: StateError) -> StoreError {
        match error {
            StateError::Corrupt { path, detail } => StoreError::Corrupt(damage(&path, &detail)),
            StateError::DiskFull { path } => StoreError::Io(shortage(&path)),
            StateError::Io { path, detail } => StoreError::Io(format!("{}: {detail}", path.display())),
            other => StoreError::Io(other.to_string()),
        }
    }
}

fn damage(path: &Path, detail: &str) -> String {
    let remedy = if path.ends_with(dir::INSTANCE_FILE) {
        "the instance takes a new identity at its next start"
    } else {
        "the task replays its input at its next start"
    };
    format!("{}: {detail}; remove that path: {remedy}", path.display())
}

fn shortage(path: &Path) -> String {
    format!("no space left at {}; free some: the work goes on where it stopped", path.display())
}
