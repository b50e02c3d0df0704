//! Visits that go on for ever: some visitors are there, each leaves after a while and another comes.

use super::chance::Chance;
use super::event::{Action, BROWSERS, DEVICES, Event};
use super::popularity::Popularity;

/// Events of a visit, its start and end included.
const LENGTH: std::ops::Range<u32> = 5..36;
/// A tenth of all users are there at a time, but not more than this.
const MOST_VISITORS: u32 = 20_000;
/// Of the events between start and end, in per cent.
const VIEWS: u32 = 72;

/// An endless stream of events at a steady pace of event time.
pub struct Visits {
    chance: Chance,
    users: Popularity,
    pages: Popularity,
    clock: Clock,
    jitter_ms: u32,
    visitors: Vec<Option<Visit>>,
    sessions: u32,
}

/// Where event time begins, and how it advances.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub start_ms: i64,
    pub step_ns: u64,
    /// Nanoseconds since the start.
    pub passed_ns: u64,
}

/// Who is there.
#[derive(Clone, Copy, Debug)]
struct Visit {
    user: u32,
    session: u32,
    left: u32,
    device: u8,
    browser: u8,
}

impl Visits {
    pub fn new(seed: u64, (users, pages): (Popularity, Popularity), clock: Clock, jitter_ms: u32) -> Visits {
        let visitors = (users.count() / 10).clamp(1, MOST_VISITORS);
        let visitors = vec![None; visitors as usize];
        Visits { chance: Chance::new(seed, 1), users, pages, clock, jitter_ms, visitors, sessions: 0 }
    }

    pub fn next(&mut self) -> Event {
        let arrives_ms = self.clock.tick();
        let place = self.chance.below(self.visitors.len() as u32) as usize;
        let (visit, action) = match self.visitors[place] {
            None => (self.arrive(), Action::SessionStart),
            Some(visit) if visit.left == 0 => (visit, Action::SessionEnd),
            Some(visit) if self.chance.below(100) < VIEWS => (visit, Action::View),
            Some(visit) => (visit, Action::Click),
        };
        self.visitors[place] = visit.left.checked_sub(1).map(|left| Visit { left, ..visit });
        let late_ms = if self.jitter_ms == 0 { 0 } else { self.chance.below(self.jitter_ms + 1) };
        Event {
            at_ms: arrives_ms - i64::from(late_ms),
            arrives_ms,
            user: visit.user,
            page: self.pages.pick(&mut self.chance),
            action,
            session: visit.session,
            device: visit.device,
            browser: visit.browser,
            id: u128::from(self.chance.next()) << 64 | u128::from(self.chance.next()),
        }
    }

    /// Nobody does anything for once; answers when, in milliseconds.
    pub fn pass(&mut self) -> i64 {
        self.clock.tick()
    }

    fn arrive(&mut self) -> Visit {
        let session = self.sessions;
        self.sessions = self.sessions.wrapping_add(1);
        Visit {
            user: self.users.pick(&mut self.chance),
            session,
            left: LENGTH.start - 1 + self.chance.below(LENGTH.end - LENGTH.start),
            device: self.chance.weighted(&DEVICES),
            browser: self.chance.weighted(&BROWSERS),
        }
    }
}

impl Clock {
    /// The present millisecond, before it goes on.
    fn tick(&mut self) -> i64 {
        let now = self.start_ms + (self.passed_ns / 1_000_000) as i64;
        self.passed_ns += self.step_ns;
        now
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn visits(users: u32, jitter_ms: u32) -> Visits {
        let clock = Clock { start_ms: 1_000_000, step_ns: 2_500_000, passed_ns: 0 };
        Visits::new(3, (Popularity::new(users, 0.0), Popularity::new(20, 0.9)), clock, jitter_ms)
    }

    #[test]
    fn visit_begins_with_its_start_and_ends_with_its_end() {
        let mut visits = visits(100, 0);
        let mut sessions: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
        for _ in 0..10_000 {
            let event = visits.next();
            sessions.entry(event.session).or_default().push(event);
        }
        let over: Vec<_> =
            sessions.values().filter(|s| s[s.len() - 1].action == Action::SessionEnd).collect();
        assert!(over.len() > 400, "{}", over.len());
        for session in over {
            assert!(LENGTH.contains(&(session.len() as u32)), "{session:?}");
            assert_eq!(session[0].action, Action::SessionStart);
            let ends = |e: &&Event| matches!(e.action, Action::SessionStart | Action::SessionEnd);
            assert_eq!(session.iter().filter(ends).count(), 2);
            let one = |e: &Event| {
                (e.user, e.device, e.browser) == (session[0].user, session[0].device, session[0].browser)
            };
            assert!(session.iter().all(one), "{session:?}");
        }
    }

    #[test]
    fn event_time_advances_at_its_pace_within_the_jitter() {
        let mut visits = visits(10, 40);
        for number in 0..2_000 {
            let event = visits.next();
            assert_eq!(event.arrives_ms, 1_000_000 + number * 5 / 2);
            assert!((0..=40).contains(&(event.arrives_ms - event.at_ms)));
        }
    }
}
