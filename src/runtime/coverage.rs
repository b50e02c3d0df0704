//! Partitions that belong to nobody, and how they come to have an owner.
//!
//! A partition moves in two rounds of the group: the first takes it from its old owner, the second, which the old owner
//! asks for once it has let go, gives it to the new one. If the old owner is killed in between and comes back within
//! its session, the broker gives the static member what the first round left it, without a round: nobody asks for the
//! second. So a worker looks, after every change of its assignment, until it has seen that every partition has an
//! owner. If one has none for longer than a round takes, the worker leaves the group and joins again, which makes the
//! group share everything out anew.

use std::time::{Duration, Instant};

use crate::kafka::Coverage;

use super::Halt;
use super::worker::Worker;

/// How long one look may keep the worker from its records.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a partition may be on its way. Why: whoever lets go of it finishes its epoch first.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
/// Why: where joining again does not help, say for an owner that waits for a neighbour, doing it often disturbs.
const LONGEST_PATIENCE: Duration = Duration::from_secs(160);

/// What a worker knows of the group's partitions.
pub struct Watch {
    seen_complete: bool,
    missing_since: Option<Instant>,
    patience: Duration,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { seen_complete: false, missing_since: None, patience: FIRST_PATIENCE }
    }
}

impl Watch {
    /// The assignment has changed: look again.
    pub fn changed(&mut self) {
        self.seen_complete = false;
        self.missing_since = None;
    }

    /// Takes note of a look; answers whether to join the group again.
    fn note(&mut self, coverage: &Coverage, now: Instant) -> bool {
        match coverage {
            Coverage::Rebalancing => self.missing_since = None,
            Coverage::Complete => {
                *self = Watch { seen_complete: true, ..Watch::default() };
            }
            Coverage::Missing(_) => {
                let since = *self.missing_since.get_or_insert(now);
                if now - since >= self.patience {
                    self.missing_since = None;
                    self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
                    return true;
                }
            }
        }
        false
    }
}

impl Worker {
    /// Called every few seconds.
    pub(super) fn watch_coverage(&mut self, now: Instant) -> Result<(), Halt> {
        if !self.joined || self.watch.seen_complete {
            return Ok(());
        }
        let (group, partitions) = (self.plan.application.clone(), self.prepared.partitions());
        let coverage = match self.links.consumer.coverage(&group, &partitions, LOOK_TIMEOUT) {
            Ok(coverage) => coverage,
            Err(error) => {
                tracing::debug!(%error, "not told who has which partition");
                return Ok(());
            }
        };
        if !self.watch.note(&coverage, now) {
            return Ok(());
        }
        tracing::warn!(?coverage, "partitions belong to nobody; joining the group again");
        metrics::counter!("millstream_rejoins_total").increment(1);
        self.rejoin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    fn missing() -> Coverage {
        Coverage::Missing(Vec::new())
    }

    #[test]
    fn a_partition_may_be_on_its_way_for_a_while() {
        let (mut watch, now) = (Watch::default(), SystemClock.monotonic());
        assert!(!watch.note(&missing(), now));
        assert!(!watch.note(&missing(), now + FIRST_PATIENCE / 2));
        assert!(!watch.note(&Coverage::Rebalancing, now + FIRST_PATIENCE));
        assert!(!watch.note(&missing(), now + FIRST_PATIENCE), "counted from the end of the round");
        assert!(watch.note(&missing(), now + 2 * FIRST_PATIENCE));
    }

    #[test]
    fn joining_again_in_vain_grows_rare() {
        let (mut watch, mut now) = (Watch::default(), SystemClock.monotonic());
        let mut waited = Vec::new();
        for _ in 0..6 {
            let since = now;
            while !watch.note(&missing(), now) {
                now += Duration::from_secs(5);
            }
            waited.push((now - since).as_secs());
            watch.changed();
        }
        assert_eq!(waited, [10, 20, 40, 80, 160, 160]);
    }

    #[test]
    fn nothing_is_asked_once_every_partition_was_seen_to_have_an_owner() {
        let (mut watch, now) = (Watch::default(), SystemClock.monotonic());
        watch.note(&Coverage::Complete, now);
        assert!(watch.seen_complete);
        watch.changed();
        assert!(!watch.seen_complete);
    }
}
