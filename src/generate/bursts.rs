//! Workload W1: a fixed number of events, in bursts of some minutes, two a user, in the order in which they arrive.

use super::chance::Chance;
use super::event::{Action, BROWSERS, DEVICES, Event};
use super::popularity::Popularity;

/// Events that one run may hold: their order of arrival is kept in memory, 8 bytes each.
pub const MOST_EVENTS: u64 = 200_000_000;
/// Events of a user, unless there are fewer users to share them.
pub const EVENTS_PER_USER: u64 = 40;
/// The event time all of them cover.
pub const SPAN_MS: i64 = 2 * 3_600_000;
/// The span in units of a burst's length at most, and in units of the jitter.
const SPAN_IN_BURSTS: i64 = 24;
const SPAN_IN_JITTERS: i64 = 240;
const BURSTS_PER_USER: u64 = 2;
/// page_view, click, session_start, session_end, in per cent.
const ACTIONS: [u32; 4] = [70, 26, 2, 2];

/// Events in the order of their arrival: event time and up to a 240th of the span on top.
pub struct Bursts {
    seed: u64,
    layout: Layout,
    times: Times,
    pages: Popularity,
    /// When it arrives (milliseconds since the start) and which it is, in the halves of a number; sorted.
    order: Vec<u64>,
    given: usize,
}

/// Whose event is the n-th.
#[derive(Clone, Copy, Debug)]
struct Layout {
    users: u64,
    bursts_per_user: u64,
    events_per_burst: u64,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    start_ms: i64,
    /// The last burst begins before this.
    bursts_ms: u32,
    burst_ms: u32,
    jitter_ms: u32,
}

impl Bursts {
    pub fn new(
        seed: u64,
        events: u64,
        (users, pages): (u32, Popularity),
        (start_ms, span_ms): (i64, i64),
    ) -> Bursts {
        assert!(events <= MOST_EVENTS && users > 0);
        let times = Times::new(start_ms, span_ms);
        let mut bursts =
            Bursts { seed, layout: Layout::new(events, users), times, pages, order: Vec::new(), given: 0 };
        bursts.order = (0..events).map(|number| (bursts.arrival(number) << 32) | number).collect();
        bursts.order.sort_unstable();
        bursts
    }

    pub fn next(&mut self) -> Option<Event> {
        let number = *self.order.get(self.given)? & u64::from(u32::MAX);
        self.given += 1;
        Some(self.event(number))
    }

    fn arrival(&self, number: u64) -> u64 {
        let (at, jitter) = self.time(number, &mut self.chance(number));
        u64::from(at + jitter)
    }

    fn event(&self, number: u64) -> Event {
        let mut chance = self.chance(number);
        let (at, jitter) = self.time(number, &mut chance);
        let burst = self.layout.burst(number);
        let actions = [Action::View, Action::Click, Action::SessionStart, Action::SessionEnd];
        Event {
            at_ms: self.times.start_ms + i64::from(at),
            arrives_ms: self.times.start_ms + i64::from(at + jitter),
            user: self.layout.user(burst),
            page: self.pages.pick(&mut chance),
            action: actions[usize::from(chance.weighted(&ACTIONS))],
            session: burst as u32,
            device: chance.weighted(&DEVICES),
            browser: chance.weighted(&BROWSERS),
            id: u128::from(chance.next()) << 64 | u128::from(chance.next()),
        }
    }

    /// Every event and every burst has random numbers of its own, so that none needs the one before it.
    fn chance(&self, number: u64) -> Chance {
        Chance::new(self.seed, number * 2)
    }

    /// Milliseconds since the start, and those by which it arrives later.
    fn time(&self, number: u64, chance: &mut Chance) -> (u32, u32) {
        let burst = Chance::new(self.seed, self.layout.burst(number) * 2 + 1).below(self.times.bursts_ms);
        (burst + chance.below(self.times.burst_ms), chance.below(self.times.jitter_ms))
    }
}

impl Layout {
    fn new(events: u64, users: u32) -> Layout {
        let users = u64::from(users);
        let per_user = (events / users).max(1);
        let bursts_per_user = BURSTS_PER_USER.min(per_user);
        Layout { users, bursts_per_user, events_per_burst: per_user / bursts_per_user }
    }

    fn burst(self, number: u64) -> u64 {
        number / self.events_per_burst
    }

    /// What does not divide evenly goes round to the first users.
    fn user(self, burst: u64) -> u32 {
        (burst / self.bursts_per_user % self.users) as u32
    }
}

impl Times {
    /// Bursts of 5 min and a jitter of 30 s in 2 h, with 10 min left at the end for the last to finish; shorter in a
    /// shorter span.
    fn new(start_ms: i64, span_ms: i64) -> Times {
        let burst_ms = (span_ms / SPAN_IN_BURSTS).clamp(1, SPAN_MS / SPAN_IN_BURSTS);
        let jitter_ms = (span_ms / SPAN_IN_JITTERS).clamp(1, SPAN_MS / SPAN_IN_JITTERS);
        let bursts_ms = (span_ms - 2 * burst_ms).max(1);
        let whole = |ms: i64| u32::try_from(ms).expect("a span below 49 days");
        Times {
            start_ms,
            bursts_ms: whole(bursts_ms),
            burst_ms: whole(burst_ms),
            jitter_ms: whole(jitter_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn all(events: u64, users: u32, span_ms: i64) -> Vec<Event> {
        let mut bursts = Bursts::new(42, events, (users, Popularity::new(200, 0.9)), (1_000, span_ms));
        std::iter::from_fn(|| bursts.next()).collect()
    }

    #[test]
    fn two_bursts_of_twenty_events_within_five_minutes_a_user() {
        let events = all(20_000, 500, SPAN_MS);
        assert_eq!(events.len(), 20_000);
        let mut users: BTreeMap<u32, BTreeMap<u32, Vec<i64>>> = BTreeMap::new();
        for event in &events {
            users.entry(event.user).or_default().entry(event.session).or_default().push(event.at_ms);
        }
        assert_eq!(users.len(), 500);
        for bursts in users.values() {
            assert_eq!(bursts.len(), 2);
            for times in bursts.values() {
                assert_eq!(times.len(), 20);
                let span = times.iter().max().unwrap() - times.iter().min().unwrap();
                assert!(span < 300_000, "{span}");
            }
        }
        let (first, last) = (events[0].at_ms - 1_000, events[19_999].at_ms - 1_000);
        assert!(first < 60_000 && (108 * 60_000..115 * 60_000).contains(&last), "{first} {last}");
    }

    #[test]
    fn events_come_as_they_arrive_and_none_is_two_minutes_late() {
        let events = all(20_000, 500, SPAN_MS);
        assert!(events.is_sorted_by_key(|event| event.arrives_ms));
        let mut latest = 0;
        for event in &events {
            assert!((0..30_000).contains(&(event.arrives_ms - event.at_ms)));
            latest = latest.max(event.at_ms);
            assert!(latest - event.at_ms < 30_000);
        }
    }

    #[test]
    fn shares_are_those_of_the_workload() {
        let events = all(40_000, 1_000, SPAN_MS);
        let pages: f64 = (1..=200).map(|rank| f64::from(rank).powf(-0.9)).sum();
        let share = |test: fn(&Event) -> bool| events.iter().filter(|e| test(e)).count() as f64 / 40_000.0;
        for (expect, found) in [
            (0.70, share(|e| e.action == Action::View)),
            (0.26, share(|e| e.action == Action::Click)),
            (0.02, share(|e| e.action == Action::SessionEnd)),
            (0.55, share(|e| e.device == 0)),
            (0.08, share(|e| e.browser == 3)),
            (1.0 / pages, share(|e| e.page == 0)),
        ] {
            assert!((expect - found).abs() < 0.01, "{expect} {found}");
        }
        let ids: BTreeSet<u128> = events.iter().map(|e| e.id).collect();
        assert_eq!(ids.len(), 40_000);
    }

    #[test]
    fn any_number_of_users_and_any_span_will_do() {
        for (events, users, span) in
            [(1, 1, 1), (10, 100, 1_000), (1_000, 1_000, 60_000), (1_003, 10, SPAN_MS)]
        {
            let found = all(events, users, span);
            assert_eq!(found.len() as u64, events);
            assert!(found.iter().all(|e| e.user < users && (0..=span + 60_000).contains(&(e.at_ms - 1_000))));
            let distinct: BTreeSet<u32> = found.iter().map(|e| e.user).collect();
            assert_eq!(distinct.len() as u64, u64::from(users).min(events), "{events} {users}");
        }
    }
}
