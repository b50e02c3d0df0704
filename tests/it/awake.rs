//! How long something takes on a machine that may stand still meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// Counts the ticks of a thread: while the machine stands still there are none.
pub struct Awake(Arc<AtomicU32>);

impl Awake {
    pub fn start() -> Awake {
        let ticks = Arc::new(AtomicU32::new(0));
        let counted = Arc::downgrade(&ticks);
        thread::spawn(move || {
            while let Some(ticks) = counted.upgrade() {
                ticks.fetch_add(1, Ordering::Relaxed);
                drop(ticks);
                thread::park_timeout(TICK);
            }
        });
        Awake(ticks)
    }

    /// At most one tick more than it was.
    pub fn elapsed(&self) -> Duration {
        TICK * self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn awake_time_goes_on() {
    let awake = Awake::start();
    while awake.elapsed() < 3 * TICK {
        thread::yield_now();
    }
}
