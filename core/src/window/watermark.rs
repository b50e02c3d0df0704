//! The watermark of a partition and how late a record comes.

use crate::model::{EventTime, Span};

use super::Frame;

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

/// Which windows of an aggregate the watermark has passed. Invariant: it is asked with a watermark that never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    frame: Frame,
    allowed: Span,
    /// Windows that start before this take no records any more.
    live_from: EventTime,
    /// Windows that start before this have ended.
    ended_before: EventTime,
}

/// How a record stands to all the windows that hold it. Later windows are never later for it than earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Start of the slice it falls into.
    pub slice: EventTime,
    /// Of the windows that hold it, the start of the earliest and of the latest.
    pub first: EventTime,
    pub last: EventTime,
    /// For windows that start before this it is too late.
    pub live_from: EventTime,
    /// Of the windows that hold it, those that start before this have ended; none: no one has.
    pub late_before: Option<EventTime>,
}

impl Horizon {
    pub fn new(frame: Frame, allowed: Span) -> Horizon {
        let never = EventTime(i64::MIN);
        Horizon { frame, allowed, live_from: never, ended_before: never }
    }

    /// Judges a record at `at` by the watermark before it.
    pub fn arrival(&mut self, at: EventTime, watermark: Option<EventTime>) -> Arrival {
        let Horizon { frame, allowed, .. } = *self;
        if let Some(watermark) = watermark {
            // Why: a division a window instead of two a record.
            if frame.window(self.ended_before).end <= watermark {
                self.ended_before = frame.live_from(watermark, Span::ZERO);
            }
            if frame.window(self.live_from).end.plus(allowed) <= watermark {
                self.live_from = frame.live_from(watermark, allowed);
            }
        }
        let (slice, first, last) = frame.place(at);
        // Bounded by the windows that hold it, so that a slice sees few different values.
        let late_before = self.ended_before.min(frame.next_start(last));
        let late_before = (first < late_before).then_some(late_before);
        Arrival { slice, first, last, live_from: self.live_from, late_before }
    }
}

impl Arrival {
    /// Whether no window takes it.
    pub fn is_too_late(&self) -> bool {
        self.last < self.live_from
    }

    /// Whether some windows take it and some do not.
    pub fn is_partly_late(&self) -> bool {
        self.first < self.live_from && self.live_from <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Window;

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

    #[test]
    fn arrival_says_of_every_window_what_lateness_does() {
        for (size, slide) in [(10, 10), (10, 5), (10, 3), (7, 2), (4, 1)] {
            let frame = Frame::of(Window::Sliding { size: Span(size), slide: Span(slide) });
            let allowed = Span(6);
            for at in (0..30).map(EventTime) {
                let mut horizon = Horizon::new(frame, allowed);
                for mark in (-5..60).map(|w| (w >= 0).then_some(EventTime(w))) {
                    let arrival = horizon.arrival(at, mark);
                    let each: Vec<Lateness> = frame
                        .starts(arrival.first, arrival.last)
                        .map(|start| {
                            let found = lateness(frame.window(start).end, allowed, mark);
                            assert_eq!(start < arrival.live_from, found == Lateness::TooLate);
                            let late = arrival.late_before.is_some_and(|before| start < before);
                            assert_eq!(late, found != Lateness::OnTime);
                            found
                        })
                        .collect();
                    let dead = each.iter().filter(|l| **l == Lateness::TooLate).count();
                    assert_eq!(arrival.is_too_late(), dead == each.len());
                    assert_eq!(arrival.is_partly_late(), dead > 0 && dead < each.len());
                }
            }
        }
    }
}
