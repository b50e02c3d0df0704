//! The request to stop.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, by a signal; the worker looks at it between batches and while it waits.
#[derive(Debug, Default)]
pub struct StopFlag(AtomicBool);

impl StopFlag {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
