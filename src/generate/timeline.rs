//! When events happen: from what was asked for, and the present time.

use super::profile::Defaults;

/// What was said about time and number. Times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub start_ms: Option<i64>,
    pub span_ms: Option<i64>,
    pub events: Option<u64>,
    /// None: as fast as possible.
    pub rate: Option<u32>,
    pub now_ms: i64,
}

/// Event time from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    pub start_ms: i64,
    /// From one event to the next.
    pub step_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimelineError {
    #[error("--span needs to know how many events it holds: add --events N")]
    EventsUnknown,
    #[error(
        "without a rate and a number of events nothing tells when they happen: add --start, --rate or --events"
    )]
    StartUnknown,
    #[error("{events} events at this pace end beyond the year 2199: shorten --span or raise --rate")]
    TooLong { events: u64 },
}

const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
const END_MS: i64 = millstream_core::model::EventTime::END.0 / 1_000;

impl Timeline {
    /// A rate is live: events happen as they are sent, from now on, unless a span or a start says otherwise. What is
    /// sent as fast as possible ends now.
    pub fn of(asked: Asked, defaults: &Defaults) -> Result<Timeline, TimelineError> {
        let live = asked.rate.is_some() && asked.span_ms.is_none();
        let span_ms = if live { None } else { asked.span_ms.or(defaults.span_ms) };
        let step_ns = match (span_ms, asked.events) {
            (Some(span), Some(events)) => (span.unsigned_abs()).saturating_mul(NS_PER_MS) / events.max(1),
            (Some(_), None) => return Err(TimelineError::EventsUnknown),
            (None, _) => NS_PER_SECOND / u64::from(asked.rate.unwrap_or(defaults.pace)),
        };
        let length_ms = asked.events.map(|events| length_ms(step_ns, events));
        let start_ms = match (asked.start_ms, length_ms) {
            (Some(start), _) => start,
            (None, _) if live => asked.now_ms,
            (None, Some(length)) => asked.now_ms.saturating_sub(length),
            (None, None) => return Err(TimelineError::StartUnknown),
        };
        let end_ms = start_ms.saturating_add(length_ms.unwrap_or(0));
        if !(0..END_MS).contains(&start_ms) || end_ms >= END_MS {
            return Err(TimelineError::TooLong { events: asked.events.unwrap_or(0) });
        }
        Ok(Timeline { start_ms, step_ns })
    }

    /// The event time that so many events cover.
    pub fn length_ms(self, events: u64) -> i64 {
        length_ms(self.step_ns, events)
    }
}

fn length_ms(step_ns: u64, events: u64) -> i64 {
    i64::try_from(u128::from(step_ns) * u128::from(events) / u128::from(NS_PER_MS)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::profile::Profile;
    use super::*;

    const NOW: i64 = 1_769_735_890_000;

    fn check(profile: Profile, asked: Asked, expect: Result<(i64, u64), TimelineError>) {
        let found = Timeline::of(Asked { now_ms: NOW, ..asked }, &profile.defaults());
        assert_eq!(found.map(|found| (found.start_ms, found.step_ns)), expect, "{asked:?}");
    }

    #[test]
    fn rate_is_live() {
        let asked = Asked { rate: Some(200), ..Asked::default() };
        check(Profile::UserActivity, asked, Ok((NOW, 5_000_000)));
        check(Profile::W1, Asked { events: Some(1_000), ..asked }, Ok((NOW, 5_000_000)));
        check(Profile::UserActivity, Asked { start_ms: Some(5), ..asked }, Ok((5, 5_000_000)));
    }

    #[test]
    fn what_is_sent_at_once_ends_now() {
        let asked = Asked { events: Some(1_000), ..Asked::default() };
        check(Profile::UserActivity, asked, Ok((NOW - 10_000, 10_000_000)));
        check(Profile::W1, asked, Ok((NOW - 7_200_000, 7_200_000_000)));
        let spread = Asked { span_ms: Some(86_400_000), ..asked };
        check(Profile::UserActivity, spread, Ok((NOW - 86_400_000, 86_400_000_000)));
        check(
            Profile::UserActivity,
            Asked { rate: Some(50), ..spread },
            Ok((NOW - 86_400_000, 86_400_000_000)),
        );
    }

    #[test]
    fn what_cannot_be_known_is_asked_for() {
        let none = Asked::default();
        check(Profile::UserActivity, none, Err(TimelineError::StartUnknown));
        check(Profile::UserActivity, Asked { start_ms: Some(7), ..none }, Ok((7, 10_000_000)));
        let span = Asked { span_ms: Some(1_000), ..none };
        check(Profile::UserActivity, span, Err(TimelineError::EventsUnknown));
        let years = Asked { events: Some(u64::MAX), ..none };
        check(Profile::UserActivity, years, Err(TimelineError::TooLong { events: u64::MAX }));
    }
}
