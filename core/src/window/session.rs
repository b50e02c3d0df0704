//! Which sessions of a key a record belongs to, and how late it comes for any.

use std::ops::Range;

use crate::model::{EventTime, SessionSpan, Span};
use crate::pipeline::{Aggregate, Window};

use super::{Lateness, lateness};

/// How records of one key become sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// A record this far from a session still joins it.
    pub gap: Span,
    /// No session becomes longer than this.
    pub max_duration: Option<Span>,
    pub allowed_lateness: Span,
}

impl SessionRules {
    /// Those of an aggregate of sessions; none of any other.
    pub fn of(aggregate: &Aggregate) -> Option<SessionRules> {
        match aggregate.window {
            Window::Session { gap, max_duration } => {
                Some(SessionRules { gap, max_duration, allowed_lateness: aggregate.allowed_lateness })
            }
            Window::Tumbling { .. } | Window::Sliding { .. } => None,
        }
    }

    /// The instant from which on no record that belongs beside one at `at` is in time.
    pub fn end(self, at: EventTime) -> EventTime {
        at.plus(self.gap)
    }

    /// Judges a record at `at` by the watermark before it, whatever sessions there are.
    pub fn lateness(self, at: EventTime, watermark: Option<EventTime>) -> Lateness {
        lateness(self.end(at), self.allowed_lateness, watermark)
    }

    /// The watermark at which no record can join a session any more that ends at `end`: one that could is too late.
    pub fn over_at(self, end: EventTime) -> EventTime {
        end.plus(self.gap).plus(self.gap).plus(self.allowed_lateness)
    }

    /// Which of a key's sessions a record at `at` becomes one with: one, or two neighbours; or none of them, and where a
    /// new one belongs. `sessions` stand in order and do not overlap; neither will they afterwards.
    ///
    /// A record joins the earlier neighbour if the result fits into `max_duration`, else the later one, else stands alone;
    /// both are merged only if the whole fits.
    pub fn place<S>(self, sessions: &[S], span: impl Fn(&S) -> SessionSpan, at: EventTime) -> Range<usize> {
        let next = sessions.partition_point(|s| span(s).start <= at);
        let earlier = next.checked_sub(1).map(|i| span(&sessions[i])).filter(|s| s.end.plus(self.gap) >= at);
        let later = sessions.get(next).map(&span).filter(|s| at.plus(self.gap) >= s.start);
        let fits =
            |start: EventTime, end: EventTime| self.max_duration.is_none_or(|most| start.plus(most) >= end);
        match (earlier, later) {
            (Some(e), _) if at <= e.end => next - 1..next,
            (Some(e), Some(l)) if fits(e.start, l.end) => next - 1..next + 1,
            (Some(e), _) if fits(e.start, at) => next - 1..next,
            (_, Some(l)) if fits(at, l.end) => next..next + 1,
            _ => next..next,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(gap: i64, max_duration: Option<i64>) -> SessionRules {
        SessionRules { gap: Span(gap), max_duration: max_duration.map(Span), allowed_lateness: Span(5) }
    }

    fn spans(of: &[(i64, i64)]) -> Vec<SessionSpan> {
        of.iter().map(|(start, end)| SessionSpan { start: EventTime(*start), end: EventTime(*end) }).collect()
    }

    #[test]
    fn a_distance_of_exactly_the_gap_joins() {
        let sessions = spans(&[(100, 110), (140, 150)]);
        for (at, expected) in [
            (89, 0..0),
            (90, 0..1),
            (100, 0..1),
            (105, 0..1),
            (110, 0..1),
            (120, 0..1),
            (121, 1..1),
            (129, 1..1),
            (130, 1..2),
            (150, 1..2),
            (160, 1..2),
            (161, 2..2),
        ] {
            assert_eq!(rules(10, None).place(&sessions, |s| *s, EventTime(at)), expected, "{at}");
        }
        let close = spans(&[(100, 110), (130, 150)]);
        assert_eq!(rules(10, None).place(&close, |s| *s, EventTime(120)), 0..2, "it bridges both");
    }

    #[test]
    fn what_does_not_fit_goes_to_the_later_neighbour_or_stands_alone() {
        let place = |sessions: &[(i64, i64)], most: i64, at: i64| {
            rules(10, Some(most)).place(&spans(sessions), |s| *s, EventTime(at))
        };
        let sessions = [(100, 120), (138, 150)];
        assert_eq!(place(&sessions, 50, 130), 0..2, "the whole fits, to the very end");
        assert_eq!(place(&sessions, 49, 130), 0..1, "the whole does not, the earlier does");
        assert_eq!(place(&sessions, 30, 130), 0..1);
        assert_eq!(place(&sessions, 29, 130), 1..2, "the earlier does not, the later does");
        assert_eq!(place(&[(100, 120), (138, 160)], 29, 130), 1..1, "neither does");
        assert_eq!(place(&sessions, 20, 110), 0..1, "what lies inside changes no length");
    }

    #[test]
    fn lateness_is_that_of_a_session_of_one_record() {
        let judged = |watermark: i64| rules(10, None).lateness(EventTime(100), Some(EventTime(watermark)));
        assert_eq!(rules(10, None).lateness(EventTime(100), None), Lateness::OnTime);
        assert_eq!(
            [109, 110, 114, 115].map(judged),
            [Lateness::OnTime, Lateness::Late, Lateness::Late, Lateness::TooLate]
        );
    }

    proptest! {
        /// State may be forgotten: no record that is in time has anything to do with it.
        #[test]
        fn a_session_that_is_over_is_out_of_reach(gap in 1i64..20, end in 0i64..100, at in 0i64..200, watermark in 0i64..200) {
            let rules = rules(gap, None);
            let over = rules.over_at(EventTime(end)) <= EventTime(watermark);
            let in_time = rules.lateness(EventTime(at), Some(EventTime(watermark))) != Lateness::TooLate;
            prop_assert!(!(over && in_time && at - end <= gap));
        }

        /// Without a longest duration sessions are the runs of a sorted list, whatever order records come in.
        #[test]
        fn sessions_are_the_runs_of_a_sorted_list(gap in 1i64..12, times in prop::collection::vec(0i64..200, 1..60)) {
            let mut sessions: Vec<SessionSpan> = Vec::new();
            for at in times.iter().copied().map(EventTime) {
                let range = rules(gap, None).place(&sessions, |s| *s, at);
                let joined = sessions[range.clone()].iter().fold(SessionSpan { start: at, end: at }, |a, b| SessionSpan {
                    start: a.start.min(b.start),
                    end: a.end.max(b.end),
                });
                sessions.splice(range, [joined]);
            }
            let mut sorted = times;
            sorted.sort_unstable();
            let runs: Vec<(i64, i64)> = sorted
                .chunk_by(|a, b| b - a <= gap)
                .map(|run| (run[0], run[run.len() - 1]))
                .collect();
            prop_assert_eq!(sessions, spans(&runs));
        }
    }
}
