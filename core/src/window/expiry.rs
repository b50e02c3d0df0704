//! How long an id is remembered: by buckets of event time, so that what is forgotten is forgotten together.

use crate::model::{EventTime, Span};

const BUCKETS: i64 = 24;
const LEAST_GRAIN: Span = Span::from_secs(1);

/// A bucket of event time, numbered from 1970-01-01T00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeBucket(pub i64);

/// Bucket n is `[n * grain, (n + 1) * grain)` and is kept until the watermark has come to its end and `within` beyond.
/// The grain is a 24th of `within` in microseconds, rounded up, and at least one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    grain: Span,
    within: Span,
}

impl Expiry {
    pub fn of(within: Span) -> Expiry {
        assert!(within > Span::ZERO, "checked at load");
        let grain = Span((within.0 + BUCKETS - 1) / BUCKETS).max(LEAST_GRAIN);
        Expiry { grain, within }
    }

    pub fn bucket(self, at: EventTime) -> TimeBucket {
        TimeBucket(at.0.div_euclid(self.grain.0))
    }

    /// The first bucket that has not expired at `watermark`; every bucket lives before there is one.
    pub fn first_live(self, watermark: Option<EventTime>) -> TimeBucket {
        // Bucket n has expired when (n + 1) * grain + within <= watermark.
        watermark.map_or(TimeBucket(i64::MIN), |w| self.bucket(w.minus(self.within)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_day_has_buckets_of_an_hour_and_short_bounds_of_a_second() {
        let grain = |within: Span| Expiry::of(within).grain;
        assert_eq!(grain(Span::from_secs(86_400)), Span::from_secs(3_600));
        assert_eq!(grain(Span::from_secs(25)), Span(1_041_667), "rounded up");
        assert_eq!(grain(Span::from_secs(24)), Span::from_secs(1));
        assert_eq!(grain(Span::from_millis(1)), Span::from_secs(1));
    }

    proptest! {
        #[test]
        fn a_bucket_lives_until_its_end_and_the_bound_are_passed(
            within in 1i64..200_000_000,
            at in 0i64..400_000_000,
            watermark in prop::option::of(-50_000_000i64..800_000_000),
        ) {
            let expiry = Expiry::of(Span(within));
            let bucket = expiry.bucket(EventTime(at));
            let end = (bucket.0 + 1) * expiry.grain.0;
            prop_assert!(end - expiry.grain.0 <= at && at < end);
            let expired = watermark.is_some_and(|w| end + within <= w);
            prop_assert_eq!(bucket < expiry.first_live(watermark.map(EventTime)), expired);
        }
    }
}
