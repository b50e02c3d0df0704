//! When an epoch is cut, by figures alone; the bench's plain loop keeps the same rule.

use std::time::Duration;

/// Records taken from the client in one go.
pub const BATCH_RECORDS: usize = 10_000;
/// Longest sleep when nothing comes.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// An epoch under backlog grows to this many records, or to the bytes of output and result rows, or the age below.
pub const EPOCH_RECORDS: usize = 50_000;
const EPOCH_BYTES: usize = 64 << 20;
const EPOCH_AGE: Duration = Duration::from_secs(1);

/// What has gathered since the last epoch was cut.
#[derive(Clone, Copy, Debug)]
pub struct Gathered {
    pub records: usize,
    /// Of output and result rows.
    pub bytes: usize,
    /// Since the last cut.
    ///
    /// Why: counted from the first record instead, one that comes during a commit would wait for that commit, then for a
    /// whole interval, then for its own commit.
    pub age: Duration,
    /// The last batch was full: there is a backlog.
    pub backlog: bool,
}

impl Gathered {
    /// `interval` is the pipeline's `commit_interval`.
    pub fn is_due(self, interval: Duration) -> bool {
        let Gathered { records, bytes, age, backlog } = self;
        records > 0
            && (age >= EPOCH_AGE.max(interval)
                || records >= EPOCH_RECORDS
                || bytes >= EPOCH_BYTES
                || (age >= interval && !backlog))
    }

    /// How long a worker to whom nothing comes sleeps at most.
    pub fn idle_wait(self, interval: Duration) -> Duration {
        if self.records == 0 { IDLE_WAIT } else { interval.saturating_sub(self.age).min(IDLE_WAIT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const INTERVAL: Duration = Duration::from_millis(100);
    const FEW: Gathered = Gathered { records: 1, bytes: 1, age: Duration::ZERO, backlog: false };

    fn check(gathered: Gathered, interval: Duration, expect: bool) {
        assert_eq!(gathered.is_due(interval), expect, "{gathered:?} {interval:?}");
    }

    #[test]
    fn nothing_is_never_due() {
        check(Gathered { records: 0, age: EPOCH_AGE * 9, ..FEW }, INTERVAL, false);
    }

    #[test]
    fn live_epoch_is_as_old_as_the_interval() {
        check(Gathered { age: INTERVAL - MS, ..FEW }, INTERVAL, false);
        check(Gathered { age: INTERVAL, ..FEW }, INTERVAL, true);
    }

    #[test]
    fn epoch_under_backlog_grows_until_it_is_full_or_old() {
        let backlog = Gathered { backlog: true, ..FEW };
        check(Gathered { age: EPOCH_AGE - MS, ..backlog }, INTERVAL, false);
        check(Gathered { age: EPOCH_AGE, ..backlog }, INTERVAL, true);
        check(Gathered { age: EPOCH_AGE, ..backlog }, EPOCH_AGE * 2, false);
        check(Gathered { records: EPOCH_RECORDS - 1, ..backlog }, INTERVAL, false);
        check(Gathered { records: EPOCH_RECORDS, ..backlog }, INTERVAL, true);
        check(Gathered { bytes: EPOCH_BYTES - 1, ..backlog }, INTERVAL, false);
        check(Gathered { bytes: EPOCH_BYTES, ..backlog }, INTERVAL, true);
    }

    #[test]
    fn sleep_ends_when_the_epoch_is_due() {
        assert_eq!(Gathered { records: 0, ..FEW }.idle_wait(MS), IDLE_WAIT);
        assert_eq!(Gathered { age: 30 * MS, ..FEW }.idle_wait(INTERVAL), 70 * MS);
        assert_eq!(Gathered { age: 2 * INTERVAL, ..FEW }.idle_wait(INTERVAL), Duration::ZERO);
        assert_eq!(FEW.idle_wait(9 * IDLE_WAIT), IDLE_WAIT);
    }
}
