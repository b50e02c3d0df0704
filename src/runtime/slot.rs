//! The life of an assigned partition.
//!
//! ```text
//! Waiting --order--> Taking --taken--> Running (replaying -> outputs only -> live) --refusal--> Stopped
//!    ^                 |                  |
//!    +---not taken-----+--fenced, local---+
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::commit::{Refusal, RefusalCode, TaskStart};
use millstream_core::engine::{Effects, ProcessError, Record, StoreError, Task};
use millstream_core::model::{Epoch, Fingerprint, Offset, RollingHash};

use crate::kafka;
use crate::postgres::ProgressRow;

use super::desk::Ticket;
use super::hop::Hop;

pub const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Why: whoever is fenced may be the stale one, and learns that by its next heartbeat. It must not fence the rightful
/// owner before.
const FENCED_RETRY: Duration = Duration::from_millis(1_500);

pub enum Slot {
    /// To be taken, not before then.
    Waiting {
        retry_at: Instant,
        pause: Duration,
        reason: String,
    },
    /// The taker has it.
    Taking {
        ticket: Arc<Ticket>,
        pause: Duration,
    },
    Running(Box<Running>),
    Stopped(Refusal),
}

/// A task that is being read.
pub struct Running {
    pub task: Task,
    pub start: TaskStart,
    /// As it stood when the task was taken: what a replay must come to.
    pub taken: ProgressRow,
    /// The rolling hash at K, as the group's offset carries it.
    pub outputs_hash: Option<RollingHash>,
    /// Of the last epoch that PostgreSQL holds.
    pub epoch: Epoch,
    /// The end of the log as it was last seen.
    pub high: Offset,
    /// Everything below was given out by the client; above `task.next()` only where control records follow.
    pub read_up_to: Offset,
    /// R, as written.
    pub state: Offset,
    /// The record before the first one must be this one.
    pub verify: Option<Fingerprint>,
    /// Records were left out of a batch because a cut came first: read again from `task.next()`.
    pub left_out: bool,
    /// The group offset is known to equal `next`, and PostgreSQL was told.
    pub settled: bool,
    /// How long to wait before it is taken again, should it be dropped: grows until an epoch is committed.
    pub pause: Duration,
    /// Of a router: what it has said to the internal topic.
    pub hop: Option<Hop>,
}

/// What feeding one record came to.
pub enum Fed {
    Processed,
    /// Held already, or read only to be compared.
    Passed,
    /// The epoch must be cut before this record.
    Cut,
}

impl Slot {
    /// To be taken at once.
    pub fn fresh(now: Instant) -> Slot {
        Slot::Waiting { retry_at: now, pause: FIRST_RETRY, reason: "assigned".into() }
    }

    /// To be taken again after a pause, the next one twice as long.
    pub fn again(now: Instant, pause: Duration, reason: String) -> Slot {
        Slot::Waiting { retry_at: now + pause, pause: (pause * 2).min(LONGEST_RETRY), reason }
    }

    /// To be taken again by an owner that was fenced, if it is one still.
    pub fn fenced(now: Instant, pause: Duration) -> Slot {
        Slot::again(now, pause.max(FENCED_RETRY), "fenced: another owner took the task".into())
    }

    /// The pause before the next try.
    pub fn pause(&self) -> Duration {
        match self {
            Slot::Waiting { pause, .. } | Slot::Taking { pause, .. } => *pause,
            Slot::Running(running) => running.pause,
            Slot::Stopped(_) => FIRST_RETRY,
        }
    }

    pub fn running(&self) -> Option<&Running> {
        match self {
            Slot::Running(running) => Some(running),
            Slot::Waiting { .. } | Slot::Taking { .. } | Slot::Stopped(_) => None,
        }
    }

    pub fn running_mut(&mut self) -> Option<&mut Running> {
        match self {
            Slot::Running(running) => Some(running),
            Slot::Waiting { .. } | Slot::Taking { .. } | Slot::Stopped(_) => None,
        }
    }
}

impl Running {
    /// Everything that is read now is new to every participant.
    pub fn is_live(&self) -> bool {
        self.task.next() >= self.start.rows_from
    }

    /// Records read again since the last cut.
    pub fn replayed(&self) -> usize {
        let from = self.state.max(self.start.state_from);
        let behind = self.task.next() <= self.start.outputs_from && self.task.is_dirty();
        if behind { usize::try_from(self.task.next().0 - from.0).unwrap_or(0) } else { 0 }
    }

    /// Whether nothing below `end` is left to read.
    pub fn has_read_to(&self, end: Offset) -> bool {
        self.read_to() >= end
    }

    /// Everything below was read, control records among it.
    pub fn read_to(&self) -> Offset {
        self.task.next().max(self.read_up_to)
    }

    /// Epochs are cut exactly at K and at P: a part before it and a part after it mean different things.
    pub fn at_cut(&self) -> bool {
        let next = self.task.next();
        self.task.is_dirty()
            && self.state < self.start.rows_from
            && (next == self.start.outputs_from || next == self.start.rows_from)
    }

    /// Feeds one record.
    ///
    /// # Errors
    /// A refusal where the log is not the one that was read before, or an error of local state.
    pub fn feed(&mut self, record: &kafka::Record<'_>) -> Result<Fed, Unfed> {
        if let Some(expected) = self.verify.take() {
            let found = record.fingerprint();
            if record.offset() > expected.offset {
                // The record is gone by retention or compaction; nothing to compare.
                tracing::debug!(offset = %expected.offset, "the record before the first is gone");
            } else if found != expected {
                let detail =
                    format!("the record at offset {} is not the one that was read before", expected.offset);
                return Err(Refusal::new(RefusalCode::FingerprintMismatch, detail).into());
            } else {
                return Ok(Fed::Passed);
            }
        }
        let next = self.task.next();
        if record.offset() < next {
            return Ok(Fed::Passed);
        }
        if self.at_cut() {
            self.left_out = true;
            return Ok(Fed::Cut);
        }
        if next < self.start.rows_from && record.offset() >= self.start.rows_from {
            let detail = format!("records [{next}, {}) are missing from the log", self.start.rows_from);
            return Err(Refusal::new(RefusalCode::ReplayRangeGone, detail).into());
        }
        let effects =
            Effects { outputs: next >= self.start.outputs_from, rows: next >= self.start.rows_from };
        let headers = || {
            record
                .headers()
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value.map(<[u8]>::to_vec)))
                .collect()
        };
        self.task.process(
            &Record {
                offset: record.offset(),
                timestamp_ms: record.timestamp_ms(),
                key: record.key(),
                value: record.value(),
                headers: &headers,
            },
            effects,
        )?;
        self.settled = false;
        Ok(Fed::Processed)
    }
}

/// Why a record was not fed.
#[derive(Debug, thiserror::Error)]
pub enum Unfed {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ProcessError> for Unfed {
    fn from(error: ProcessError) -> Unfed {
        match error {
            ProcessError::Store(error) => Unfed::Store(error),
            ProcessError::Refused(refusal) => Unfed::Refused(refusal),
        }
    }
}
