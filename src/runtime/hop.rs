//! When a router says how far its source has come, and that it has fallen idle.
//!
//! Both are facts of the internal log, like the copies: they go out in the transaction of an epoch, behind its records, under
//! the same compare in PostgreSQL. Where there are no records, an epoch of outputs only carries them. What was said is known
//! to the router's memory alone; a new owner says it again, which changes nothing.

use std::time::{Duration, Instant};

use millstream_core::engine::Role;
use millstream_core::model::{EventTime, TopicPartition};

use super::Halt;
use super::slot::{Running, Slot};
use super::worker::Worker;

/// A watermark that moves is told at most so often.
const TICK_EVERY: Duration = Duration::from_millis(500);

/// What a router has said to the internal topic.
#[derive(Debug)]
pub struct Hop {
    /// Quiet at the end of its log for so long, it is idle.
    idle_after: Duration,
    /// None: nothing yet, or nobody knows.
    said: Option<Said>,
    /// What the epoch under way says.
    saying: Option<Said>,
    said_at: Option<Instant>,
    /// Since when no record has come.
    quiet_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    watermark: Option<EventTime>,
    idle: bool,
}

impl Hop {
    /// Of a task that is a router.
    pub fn of(role: Role, idle_after: Duration) -> Option<Hop> {
        let hop = Hop { idle_after, said: None, saying: None, said_at: None, quiet_since: None };
        matches!(role, Role::Router { .. }).then_some(hop)
    }

    /// Whether the internal topic has not heard of this watermark.
    pub fn owes(&self, watermark: Option<EventTime>) -> bool {
        watermark.is_some() && self.said.is_none_or(|said| said.watermark != watermark)
    }

    /// What to say now, if anything: whether the router is idle. `dirty`: the epoch has records of it.
    fn due(&mut self, now: Instant, watermark: Option<EventTime>, dirty: bool) -> Option<bool> {
        if dirty {
            self.quiet_since = Some(now);
        }
        let quiet = now - *self.quiet_since.get_or_insert(now);
        let was_idle = self.said.is_some_and(|said| said.idle);
        if was_idle {
            // Order: with the first record, since from then on the others must wait for it.
            return dirty.then_some(false);
        }
        if quiet >= self.idle_after {
            return Some(true);
        }
        let rested = self.said_at.is_none_or(|at| now - at >= TICK_EVERY);
        (rested && self.owes(watermark)).then_some(false)
    }

    fn say(&mut self, now: Instant, watermark: Option<EventTime>, idle: bool) {
        self.saying = Some(Said { watermark, idle });
        self.said_at = Some(now);
    }

    /// The epoch that said it is committed.
    pub fn heard(&mut self) {
        if let Some(said) = self.saying.take() {
            self.said = Some(said);
        }
    }
}

impl Running {
    /// Whether an epoch is due for a tick alone.
    fn owes_tick(&mut self, now: Instant) -> bool {
        let watermark = self.task.watermark();
        let may = self.is_live() && !self.task.is_dirty();
        may && self.hop.as_mut().is_some_and(|hop| hop.due(now, watermark, false).is_some())
    }
}

impl Worker {
    /// Adds to the next epoch what routers have to say; answers those that have nothing else in it.
    pub(super) fn say_ticks(&mut self, now: Instant) -> Result<Vec<TopicPartition>, Halt> {
        let Worker { slots, links, .. } = self;
        let mut alone = Vec::new();
        for (tp, running) in slots.iter_mut().filter_map(|(tp, slot)| Some((tp, slot.running_mut()?))) {
            if !running.is_live() || running.at_cut() {
                continue;
            }
            let watermark = running.task.watermark();
            let dirty = running.task.is_dirty();
            let Some(hop) = &mut running.hop else { continue };
            let Some(idle) = hop.due(now, watermark, dirty) else { continue };
            if idle {
                // Why: the others go on without this source, so the broker itself is asked for the end of its log.
                let (_, end) = links.log_range(tp)?;
                if running.task.next().max(running.read_up_to) < end {
                    hop.quiet_since = Some(now);
                    continue;
                }
            }
            hop.say(now, watermark, idle);
            running.task.tick(idle);
            if !dirty {
                alone.push(tp.clone());
            }
        }
        Ok(alone)
    }

    /// Whether a router has something to say that no epoch of records will carry soon.
    pub(super) fn owes_ticks(&mut self) -> bool {
        let now = self.links.clock.monotonic();
        self.slots.values_mut().filter_map(Slot::running_mut).any(|running| running.owes_tick(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    const MS: Duration = Duration::from_millis(1);
    const IDLE: Duration = Duration::from_secs(3);

    /// What a router of these says at moments in turn: milliseconds, watermark, whether records came; and what it says.
    fn check(moments: &[(u32, Option<i64>, bool, Option<bool>)]) {
        let mut hop = Hop::of(Role::Router { partitions: 1 }, IDLE).unwrap();
        let began = SystemClock.monotonic();
        for (ms, watermark, dirty, expect) in moments {
            let (now, watermark) = (began + MS * *ms, watermark.map(EventTime));
            assert_eq!(hop.due(now, watermark, *dirty), *expect, "at {ms} of {moments:?}");
            if let Some(idle) = expect {
                hop.say(now, watermark, *idle);
                hop.heard();
            }
        }
    }

    #[test]
    fn watermark_that_moves_is_told_twice_a_second() {
        check(&[
            (0, None, false, None),
            (10, Some(1), true, Some(false)),
            (20, Some(1), true, None),
            (30, Some(2), true, None),
            (510, Some(2), false, Some(false)),
            (2_000, Some(2), false, None),
        ]);
    }

    #[test]
    fn quiet_router_says_once_that_it_is_idle_and_with_its_next_record_that_it_is_not() {
        check(&[
            (0, Some(1), false, Some(false)),
            (2_999, Some(1), false, None),
            (3_000, Some(1), false, Some(true)),
            (9_000, Some(1), false, None),
            (9_010, Some(1), true, Some(false)),
            (9_020, Some(1), true, None),
            (12_010, Some(1), false, None),
            (12_020, Some(1), false, Some(true)),
        ]);
    }

    #[test]
    fn source_without_a_record_falls_idle_too() {
        check(&[(0, None, false, None), (3_000, None, false, Some(true))]);
    }

    #[test]
    fn only_what_is_committed_counts_as_said() {
        let mut hop = Hop::of(Role::Router { partitions: 1 }, IDLE).unwrap();
        let now = SystemClock.monotonic();
        hop.say(now, Some(EventTime(1)), false);
        assert!(hop.owes(Some(EventTime(1))));
        hop.heard();
        assert!(!hop.owes(Some(EventTime(1))) && hop.owes(Some(EventTime(2))) && !hop.owes(None));
        assert!(Hop::of(Role::Internal, IDLE).is_none() && Hop::of(Role::Whole, IDLE).is_none());
    }
}
