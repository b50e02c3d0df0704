//! Partitions that belong to nobody, and how they come to have an owner.
//!
//! A partition moves in two rounds of the group: the first takes it from its old owner, the second, which the old owner
//! asks for once it has let go, gives it to the new one. If the old owner is killed in between and comes back within
//! its session, the broker gives the static member what the first round left it, without a round: nobody asks for the
//! second. So a worker that has joined looks until it has seen once that every partition has an owner. If one has none
//! for longer than a round takes, the worker leaves the group and joins again, which makes the group share everything
//! out anew.
//!
//! Who has been there all along does not look: another's slow epoch would send it away from partitions that it has.

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

/// Why: the workers of a process come back together; one that leaves is enough.
const PATIENCE_BETWEEN_WORKERS: Duration = Duration::from_secs(6);
/// Before the next look after one that was not answered, doubled from one to the next.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(160);

/// What a worker knows of the group's partitions.
pub struct Watch {
    seen_complete: bool,
    missing_since: Option<Instant>,
    patience: Duration,
    /// Not before then, and how long to wait after the next look in vain.
    look_at: Option<Instant>,
    pause: Duration,
}

impl Watch {
    /// Of the worker with this number in its instance.
    pub fn new(worker: usize) -> Watch {
        let later = PATIENCE_BETWEEN_WORKERS * u32::try_from(worker).unwrap_or(u32::MAX).min(10);
        Watch {
            seen_complete: false,
            missing_since: None,
            patience: FIRST_PATIENCE + later,
            look_at: None,
            pause: FIRST_PAUSE,
        }
    }

    /// The worker joins again: look again.
    pub fn rejoined(&mut self) {
        self.seen_complete = false;
        self.missing_since = None;
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.seen_complete && self.look_at.is_none_or(|at| at <= now)
    }

    /// A look was not answered.
    fn unanswered(&mut self, now: Instant) {
        self.look_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Takes note of a look; answers whether to join the group again.
    fn note(&mut self, coverage: &Coverage, now: Instant) -> bool {
        match coverage {
            Coverage::Rebalancing => self.missing_since = None,
            Coverage::Complete => self.seen_complete = true,
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
        if !self.joined || !self.watch.is_due(now) {
            return Ok(());
        }
        let (group, partitions) = (self.plan.application.clone(), self.prepared.partitions());
        let coverage = match self.links.consumer.coverage(&group, &partitions, LOOK_TIMEOUT) {
            Ok(coverage) => coverage,
            Err(error) => {
                tracing::debug!(%error, "not told who has which partition");
                self.watch.unanswered(self.links.clock.monotonic());
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
        let (mut watch, now) = (Watch::new(0), SystemClock.monotonic());
        assert!(!watch.note(&missing(), now));
        assert!(!watch.note(&missing(), now + FIRST_PATIENCE / 2));
        assert!(!watch.note(&Coverage::Rebalancing, now + FIRST_PATIENCE));
        assert!(!watch.note(&missing(), now + FIRST_PATIENCE), "counted from the end of the round");
        assert!(watch.note(&missing(), now + 2 * FIRST_PATIENCE));
    }

    #[test]
    fn joining_again_in_vain_grows_rare() {
        let (mut watch, mut now) = (Watch::new(0), SystemClock.monotonic());
        let mut waited = Vec::new();
        for _ in 0..6 {
            let since = now;
            while !watch.note(&missing(), now) {
                now += Duration::from_secs(5);
            }
            waited.push((now - since).as_secs());
            watch.rejoined();
        }
        assert_eq!(waited, [10, 20, 40, 80, 160, 160]);
    }

    #[test]
    fn nothing_is_asked_once_every_partition_was_seen_to_have_an_owner() {
        let (mut watch, now) = (Watch::new(0), SystemClock.monotonic());
        assert!(watch.is_due(now));
        watch.note(&Coverage::Complete, now);
        assert!(!watch.is_due(now));
        watch.rejoined();
        assert!(watch.is_due(now));
    }

    #[test]
    fn a_broker_that_does_not_answer_is_asked_ever_more_rarely() {
        let (mut watch, now) = (Watch::new(0), SystemClock.monotonic());
        watch.unanswered(now);
        assert!(!watch.is_due(now + FIRST_PAUSE / 2) && watch.is_due(now + FIRST_PAUSE));
        watch.unanswered(now);
        assert!(!watch.is_due(now + FIRST_PAUSE) && watch.is_due(now + 2 * FIRST_PAUSE));
    }

    #[test]
    fn workers_of_a_process_do_not_leave_together() {
        let (mut first, mut second, now) = (Watch::new(0), Watch::new(1), SystemClock.monotonic());
        let later = now + FIRST_PATIENCE;
        for at in [now, later] {
            assert_eq!(first.note(&missing(), at), at == later);
            assert!(!second.note(&missing(), at));
        }
    }
}
