//! How many events are due.

use std::time::Duration;

/// Waits are not shorter: what falls due within one is sent together.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// A steady rate from the start on: what was missed in a stall is made up for at once.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Events per second; None: no limit.
    rate: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At most so many may go.
    Now(u64),
    After(Duration),
}

impl Pace {
    pub fn new(rate: Option<u32>) -> Pace {
        assert!(rate != Some(0), "a rate is at least one event a second");
        Pace { rate }
    }

    /// After `elapsed` and so many `sent`. The first is due at once.
    pub fn due(self, elapsed: Duration, sent: u64) -> Due {
        let Some(rate) = self.rate else { return Due::Now(u64::MAX) };
        let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000 + 1;
        match due.checked_sub(u128::from(sent)) {
            None | Some(0) => {
                let at_ns = u128::from(sent) * 1_000_000_000 / u128::from(rate);
                let at = Duration::from_nanos(u64::try_from(at_ns).unwrap_or(u64::MAX));
                Due::After(at.saturating_sub(elapsed).max(SHORTEST_WAIT))
            }
            Some(owed) => Due::Now(u64::try_from(owed).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_kept_and_made_up_for() {
        let pace = Pace::new(Some(1_000));
        let ms = Duration::from_millis;
        assert_eq!(pace.due(ms(0), 0), Due::Now(1));
        assert_eq!(pace.due(ms(0), 1), Due::After(ms(1)));
        assert_eq!(pace.due(ms(3), 1), Due::Now(3));
        assert_eq!(pace.due(ms(5_000), 1), Due::Now(5_000));
        assert_eq!(Pace::new(Some(1)).due(ms(250), 1), Due::After(ms(750)));
        assert_eq!(Pace::new(Some(1_000_000)).due(ms(1_000), 0), Due::Now(1_000_001));
        assert_eq!(Pace::new(None).due(ms(0), 7), Due::Now(u64::MAX));
    }
}
