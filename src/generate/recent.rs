//! The last sound events, for those that come twice.

use std::collections::VecDeque;
use std::ops::Range;

use super::chance::Chance;

/// How many are kept at most.
const MOST: usize = 1_024;
/// A copy comes at most this much event time after what it repeats, so that it is not late as well.
const WITHIN_MS: i64 = 10_000;

/// An event as it was sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub value: Vec<u8>,
    /// The user's text in the value.
    pub user: Range<usize>,
    pub place: u32,
    /// When it arrived, in milliseconds of event time.
    pub arrived_ms: i64,
}

/// In the order of their arrival.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<Sent>);

impl Recent {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies the value; the allocation of one that is given up is used again.
    pub fn keep(&mut self, value: &[u8], (user, place): (Range<usize>, u32), arrived_ms: i64) {
        let mut sent = if self.0.len() == MOST { self.0.pop_front() } else { None }.unwrap_or_default();
        sent.value.clear();
        sent.value.extend_from_slice(value);
        (sent.user, sent.place, sent.arrived_ms) = (user, place, arrived_ms);
        self.0.push_back(sent);
    }

    /// Any of those that arrived in the last ten seconds; the last one where none did. There must be one.
    pub fn pick(&mut self, now_ms: i64, chance: &mut Chance) -> &Sent {
        let old = self.0.partition_point(|sent| sent.arrived_ms < now_ms - WITHIN_MS);
        self.0.drain(..old.min(self.0.len() - 1));
        &self.0[chance.below(self.0.len() as u32) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrivals_ms: impl Iterator<Item = i64>, now_ms: i64, expect: Range<i64>) {
        let mut recent = Recent::default();
        assert!(recent.is_empty());
        arrivals_ms.for_each(|ms| recent.keep(&ms.to_be_bytes(), (0..1, 0), ms));
        let mut chance = Chance::new(1, 0);
        let mut seen: Vec<i64> = (0..50_000).map(|_| recent.pick(now_ms, &mut chance).arrived_ms).collect();
        seen.sort_unstable();
        assert_eq!((seen[0], seen[seen.len() - 1]), (expect.start, expect.end - 1));
    }

    #[test]
    fn only_those_of_the_last_ten_seconds_are_picked() {
        check((0..20).map(|n| n * 1_000), 19_500, 10_000..19_001);
    }

    #[test]
    fn last_one_is_picked_however_long_it_is_ago() {
        check([1, 2, 3].into_iter(), 1_000_000, 3..4);
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        check(0..5_000, 5_000, 5_000 - MOST as i64..5_000);
    }
}
