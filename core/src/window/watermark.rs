//! The watermark of a partition and how late a record comes.

use crate::model::{EventTime, Span};

/// How a record stands to one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    OnTime,
    /// The window's end has passed; it is counted, and amends the row.
    Late,
    /// The window's end and the allowed lateness have passed; it is not counted.
    TooLate,
}

/// The watermark: the largest event time of records that are not dead, less the delay; none before the first.
pub fn watermark(max_event_time: Option<EventTime>, delay: Span) -> Option<EventTime> {
    max_event_time.map(|at| at.minus(delay))
}

/// Judges a window by its end against the watermark before the record.
pub fn lateness(end: EventTime, allowed: Span, watermark: Option<EventTime>) -> Lateness {
    match watermark {
        Some(w) if end.plus(allowed) <= w => Lateness::TooLate,
        Some(w) if end <= w => Lateness::Late,
        _ => Lateness::OnTime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_at_its_borders() {
        let end = EventTime(100);
        let allowed = Span(10);
        assert_eq!(lateness(end, allowed, None), Lateness::OnTime);
        assert_eq!(lateness(end, allowed, Some(EventTime(99))), Lateness::OnTime);
        assert_eq!(lateness(end, allowed, Some(EventTime(100))), Lateness::Late);
        assert_eq!(lateness(end, allowed, Some(EventTime(109))), Lateness::Late);
        assert_eq!(lateness(end, allowed, Some(EventTime(110))), Lateness::TooLate);
        assert_eq!(lateness(end, Span::ZERO, Some(EventTime(100))), Lateness::TooLate);
    }

    #[test]
    fn the_delay_holds_the_watermark_back() {
        assert_eq!(watermark(None, Span(5)), None);
        assert_eq!(watermark(Some(EventTime(7)), Span(5)), Some(EventTime(2)));
    }
}
