//! The last sound events, for those that come twice.

use std::collections::VecDeque;
use std::ops::Range;

use super::chance::Chance;

/// How many are kept at most.
const MOST: usize = 1_024;

/// An event as it was sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub value: Vec<u8>,
    /// The user's text in the value.
    pub user: Range<usize>,
    pub place: u32,
}

/// A copy is of one of the last `reach` events.
#[derive(Debug)]
pub struct Recent {
    sent: VecDeque<Sent>,
    reach: usize,
}

impl Recent {
    /// A `reach` of 0 keeps nothing.
    pub fn new(reach: usize) -> Recent {
        Recent { sent: VecDeque::new(), reach: reach.min(MOST) }
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub fn keep(&mut self, value: &[u8], user: Range<usize>, place: u32) {
        if self.reach == 0 {
            return;
        }
        let full = self.sent.len() == self.reach;
        let mut sent = if full { self.sent.pop_front() } else { None }.unwrap_or_default();
        sent.value.clear();
        sent.value.extend_from_slice(value);
        (sent.user, sent.place) = (user, place);
        self.sent.push_back(sent);
    }

    /// Any of those kept, of which there must be one.
    pub fn pick(&self, chance: &mut Chance) -> &Sent {
        &self.sent[chance.below(self.sent.len() as u32) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_ones_are_picked() {
        let mut recent = Recent::new(3);
        assert!(recent.is_empty());
        for number in 0..10_u8 {
            recent.keep(&[number], 0..1, 0);
        }
        let mut chance = Chance::new(1, 0);
        let mut seen: Vec<u8> = (0..100).map(|_| recent.pick(&mut chance).value[0]).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [7, 8, 9]);
    }

    #[test]
    fn without_a_reach_nothing_is_kept() {
        let mut recent = Recent::new(0);
        recent.keep(b"a", 0..1, 0);
        assert!(recent.is_empty());
    }
}
