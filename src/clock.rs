//! The clock.
//!
//! Owns every reading of time; `.clippy.toml` bans the standard library's readings elsewhere. Must never be asked
//! for anything that a replay has to reproduce: state and outputs depend on the log alone. Whoever needs the time
//! holds a `dyn Clock`, handed down from the command. Tested here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream_core::model::EventTime;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock, to the microsecond. It may step in either direction.
    fn now(&self) -> EventTime;

    /// A clock that never goes back: for measuring and for deadlines.
    fn monotonic(&self) -> Instant;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reading of the wall clock")]
    fn now(&self) -> EventTime {
        EventTime(micros_since_epoch(SystemTime::now()))
    }

    #[expect(clippy::disallowed_methods, reason = "the one reading of the monotonic clock")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A bound on a wait for a neighbour.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(span: Duration) -> Deadline {
        Deadline(SystemClock.monotonic() + span)
    }

    pub fn passed(self) -> bool {
        SystemClock.monotonic() >= self.0
    }
}

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch(SystemClock.monotonic())
    }

    pub fn elapsed(self) -> Duration {
        SystemClock.monotonic() - self.0
    }
}

/// Negative before 1970; saturates where the machine's clock is absurd.
fn micros_since_epoch(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_counts_microseconds_from_1970_both_ways() {
        assert_eq!(
            micros_since_epoch(UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001)),
            1_700_000_000_000_001
        );
        assert_eq!(micros_since_epoch(UNIX_EPOCH - Duration::from_micros(5)), -5);
    }

    #[test]
    fn monotonic_clock_never_goes_back() {
        let first = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= first);
        assert!(SystemClock.now() > EventTime::MIN);
    }
}
