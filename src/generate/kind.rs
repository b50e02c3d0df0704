//! Which events are late, repeated or bad: by counting, not by chance.

use std::str::FromStr;

/// What an event is to whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sound,
    /// Its time lies behind that of its neighbours.
    Late,
    /// The bytes of an earlier one again.
    Duplicate,
    /// No reader can take it.
    Bad,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Sound, Kind::Late, Kind::Duplicate, Kind::Bad];
}

/// A part of all events, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share(u32);

const WHOLE: u32 = 1_000_000;

/// Why a text is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a share like 2% or 0.05%, at most 100% and not finer than 0.0001%")]
pub struct ShareError;

impl Share {
    pub const NONE: Share = Share(0);

    pub const fn of_millionths(millionths: u32) -> Share {
        assert!(millionths <= WHOLE);
        Share(millionths)
    }

    pub fn is_none(self) -> bool {
        self == Share::NONE
    }
}

impl FromStr for Share {
    type Err = ShareError;

    /// Per cent, with or without the sign.
    fn from_str(text: &str) -> Result<Share, ShareError> {
        let number: f64 = text.strip_suffix('%').unwrap_or(text).trim().parse().map_err(|_| ShareError)?;
        let millionths = number * f64::from(WHOLE) / 100.0;
        if !(0.0..=f64::from(WHOLE)).contains(&millionths) || (millionths - millionths.round()).abs() > 1e-6 {
            return Err(ShareError);
        }
        Ok(Share(millionths.round() as u32))
    }
}

/// The kinds of successive events. Of any stretch as long as the shares' period (100 events for whole per cents) each
/// kind has exactly its share.
///
/// Method: smooth weighted round-robin, as nginx spreads requests: every kind earns its share, the richest pays.
#[derive(Clone, Debug)]
pub struct Kinds {
    shares: [i64; 4],
    credit: [i64; 4],
}

impl Kinds {
    /// None where the shares sum to more than all.
    pub fn new(late: Share, duplicates: Share, bad: Share) -> Option<Kinds> {
        let rest = WHOLE.checked_sub(late.0 + duplicates.0 + bad.0)?;
        Some(Kinds { shares: [rest, late.0, duplicates.0, bad.0].map(i64::from), credit: [0; 4] })
    }

    /// Whether any event is a duplicate.
    pub fn repeat(&self) -> bool {
        self.shares[Kind::Duplicate as usize] > 0
    }

    /// How many of so many events are no duplicates, as a generator meets them: nothing can be repeated before the first
    /// sound one.
    pub fn originals(mut self, events: u64) -> u64 {
        if !self.repeat() {
            return events;
        }
        let (mut originals, mut can_repeat) = (0, false);
        for _ in 0..events {
            let kind = self.next(can_repeat);
            originals += u64::from(kind != Kind::Duplicate);
            can_repeat |= kind == Kind::Sound;
        }
        originals
    }

    /// Where nothing can be repeated yet, no kind is `Duplicate`; it is made up for later.
    pub fn next(&mut self, can_repeat: bool) -> Kind {
        let mut richest = 0;
        for index in 0..Kind::ALL.len() {
            self.credit[index] += self.shares[index];
            let allowed = can_repeat || Kind::ALL[index] != Kind::Duplicate;
            if allowed && self.credit[index] > self.credit[richest] {
                richest = index;
            }
        }
        self.credit[richest] -= i64::from(WHOLE);
        Kind::ALL[richest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().expect(text)
    }

    fn counts(kinds: &mut Kinds, events: usize) -> [usize; 4] {
        let mut counts = [0; 4];
        (0..events).for_each(|_| counts[kinds.next(true) as usize] += 1);
        counts
    }

    #[test]
    fn share_is_read_in_per_cent() {
        assert_eq!(share("2%"), Share(20_000));
        assert_eq!(share("0.05"), Share(500));
        assert_eq!(share("0"), Share::NONE);
        assert_eq!(share("100%"), Share(WHOLE));
        for text in ["", "%", "-1%", "100.1%", "0.00001%", "nan", "inf", "two"] {
            assert_eq!(text.parse::<Share>(), Err(ShareError), "{text}");
        }
    }

    #[test]
    fn every_stretch_of_a_period_has_exactly_the_shares() {
        let mut kinds = Kinds::new(share("2%"), share("3%"), share("1%")).expect("not too much");
        for _ in 0..50 {
            assert_eq!(counts(&mut kinds, 100), [94, 2, 3, 1]);
        }
        let mut kinds = Kinds::new(share("2%"), Share::NONE, Share::NONE).expect("not too much");
        let late: Vec<bool> = (0..500).map(|_| kinds.next(false) == Kind::Late).collect();
        assert!(late.chunks(50).all(|fifty| fifty.iter().filter(|late| **late).count() == 1));
    }

    #[test]
    fn what_cannot_be_repeated_yet_is_made_up_for() {
        let mut kinds = Kinds::new(Share::NONE, share("60%"), share("40%")).expect("not too much");
        assert_eq!(kinds.next(false), Kind::Bad);
        assert_eq!(counts(&mut kinds, 999), [0, 0, 600, 399]);
    }

    #[test]
    fn originals_are_what_is_no_duplicate() {
        let of = |late, duplicates, bad| {
            Kinds::new(share(late), share(duplicates), share(bad)).expect("not too much").originals(1_000)
        };
        assert_eq!(of("2%", "0", "1%"), 1_000);
        assert_eq!(of("2%", "3%", "1%"), 970);
        assert_eq!(of("0", "100%", "0"), 1);
    }

    #[test]
    fn shares_of_more_than_all_are_refused() {
        assert!(Kinds::new(share("50%"), share("50%"), share("0.1%")).is_none());
        assert!(Kinds::new(share("50%"), share("25%"), share("25%")).is_some());
    }
}
