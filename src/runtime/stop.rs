//! The request to stop.

use std::sync::atomic::{AtomicU8, Ordering};

const RUN: u8 = 0;
const STOP: u8 = 1;
const LEAVE: u8 = 2;

/// Set once; workers look at it between batches and while they wait.
#[derive(Debug, Default)]
pub struct StopFlag(AtomicU8);

impl StopFlag {
    /// Finish the epoch and end; the membership in the group is kept, for whoever comes back soon.
    pub fn set(&self) {
        self.0.fetch_max(STOP, Ordering::Relaxed);
    }

    /// Finish the epoch, give the partitions away at once, and end.
    pub fn set_leaving(&self) {
        self.0.fetch_max(LEAVE, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != RUN
    }

    /// Whether the group is to be left.
    pub fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Relaxed) == LEAVE
    }
}
