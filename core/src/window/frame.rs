//! Which windows an instant falls into, and the slices that windows share.
//!
//! Windows are half-open, start at every multiple of `slide` since 1970-01-01T00:00Z and are `size` long; of a
//! tumbling aggregate both are equal. The edges of all windows cut time into slices: at `k * slide`, and, where `slide`
//! does not divide `size`, at `k * slide + size mod slide` ("paired windows": Krishnamurthy, Wu, Franklin, SIGMOD 2006).
//! Every window is a run of whole slices, so a record is kept once, in its slice, however many windows hold it.

use crate::model::{EventTime, Span, WindowSpan};
use crate::pipeline::Window;

/// The windows of one aggregate. Invariant: `0 < slide <= size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    size: Span,
    slide: Span,
    /// `size` is `whole` slides and `rest`.
    whole: i64,
    rest: Span,
}

impl Frame {
    /// Of tumbling or sliding windows.
    pub fn of(window: Window) -> Frame {
        let (size, slide) = match window {
            Window::Tumbling { size } => (size, size),
            Window::Sliding { size, slide } => (size, slide),
            Window::Session { .. } => unreachable!("sessions have no frame"),
        };
        assert!(Span::ZERO < slide && slide <= size, "checked at load: {slide:?} within {size:?}");
        Frame { size, slide, whole: size.0 / slide.0, rest: Span(size.0 % slide.0) }
    }

    /// Whether every instant falls into one window only, which is its slice.
    pub fn is_tumbling(self) -> bool {
        self.size == self.slide
    }

    /// How many windows hold an instant at most.
    pub fn most_windows(self) -> usize {
        usize::try_from(self.whole + i64::from(self.rest > Span::ZERO)).unwrap_or(usize::MAX)
    }

    /// The window that starts at `start`.
    pub fn window(self, start: EventTime) -> WindowSpan {
        WindowSpan { start, end: start.plus(self.size) }
    }

    /// Start of the latest window that holds `at`.
    pub fn last_start(self, at: EventTime) -> EventTime {
        EventTime(at.0 - at.0.rem_euclid(self.slide.0))
    }

    /// Start of the earliest window that holds `at`.
    pub fn first_start(self, at: EventTime) -> EventTime {
        self.first_of(at, self.last_start(at))
    }

    fn first_of(self, at: EventTime, last: EventTime) -> EventTime {
        let windows = self.whole + i64::from(at < last.plus(self.rest));
        last.minus(Span((windows - 1) * self.slide.0))
    }

    /// Start of the window after the one that starts at `start`.
    pub fn next_start(self, start: EventTime) -> EventTime {
        start.plus(self.slide)
    }

    /// Starts of the windows from one to another, both of them included.
    pub fn starts(self, first: EventTime, last: EventTime) -> impl Iterator<Item = EventTime> {
        std::iter::successors(Some(first), move |start| Some(start.plus(self.slide)))
            .take_while(move |start| *start <= last)
    }

    /// Start of the slice that holds `at`.
    pub fn slice(self, at: EventTime) -> EventTime {
        self.slice_of(at, self.last_start(at))
    }

    fn slice_of(self, at: EventTime, last: EventTime) -> EventTime {
        let cut = last.plus(self.rest);
        if at < cut { last } else { cut }
    }

    /// The slice that holds `at`, and the first and last window that do, by their starts.
    pub fn place(self, at: EventTime) -> (EventTime, EventTime, EventTime) {
        let last = self.last_start(at);
        (self.slice_of(at, last), self.first_of(at, last), last)
    }

    /// Starts of the slices of time that some window shares with the slice at `slice`, itself included.
    pub fn neighbours(self, slice: EventTime) -> impl Iterator<Item = EventTime> {
        let (first, last) = (self.first_start(slice), self.last_start(slice).plus(self.size));
        let rest = self.rest;
        self.starts(first, last)
            .flat_map(move |start| [Some(start), (rest > Span::ZERO).then(|| start.plus(rest))])
            .flatten()
            .take_while(move |start| *start < last)
    }

    /// Start of the earliest window whose end, and `allowed` beyond it, the watermark has not passed. Windows that
    /// start before this take no records any more; slices before it can be forgotten.
    pub fn live_from(self, watermark: EventTime, allowed: Span) -> EventTime {
        // A window is dead when start + size + allowed <= watermark.
        self.last_start(watermark.minus(allowed).minus(self.size)).plus(self.slide)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Span = Span::from_secs(60);

    fn frame(size: i64, slide: i64) -> Frame {
        Frame::of(Window::Sliding { size: Span(size), slide: Span(slide) })
    }

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let frame = Frame::of(Window::Tumbling { size: MINUTE });
        let span = |s: i64| frame.window(frame.last_start(EventTime(s * 1_000_000)));
        assert_eq!(span(0).start, EventTime(0));
        assert_eq!(span(59), span(0));
        assert_eq!(span(60).start, EventTime(60_000_000));
        assert_eq!(span(60).end, EventTime(120_000_000));
        assert!(frame.is_tumbling());
    }

    #[test]
    fn state_is_dropped_exactly_when_records_are_too_late() {
        let frame = Frame::of(Window::Tumbling { size: MINUTE });
        let allowed = Span::from_secs(30);
        for watermark in (0..400).map(|s| EventTime(s * 1_000_000)) {
            let live = frame.live_from(watermark, allowed);
            for start in (-5..10).map(|m| EventTime(m * 60_000_000)) {
                let too_late = start.plus(MINUTE).plus(allowed) <= watermark;
                assert_eq!(start < live, too_late, "window {start} at watermark {watermark}");
            }
        }
    }

    #[test]
    fn five_by_one_is_five_windows_and_one_slice() {
        let frame = frame(5, 1);
        let starts: Vec<i64> = frame
            .starts(frame.first_start(EventTime(7)), frame.last_start(EventTime(7)))
            .map(|s| s.0)
            .collect();
        assert_eq!(starts, [3, 4, 5, 6, 7]);
        assert_eq!(frame.slice(EventTime(7)), EventTime(7));
        let neighbours: Vec<i64> = frame.neighbours(EventTime(7)).map(|s| s.0).collect();
        assert_eq!(neighbours, [3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }

    proptest! {
        #[test]
        fn slices_are_where_the_same_windows_hold(size in 1i64..40, slide in 1i64..40, at in 0i64..200) {
            let (size, slide) = (size.max(slide), size.min(slide));
            let frame = frame(size, slide);
            let naive = |t: i64| (-100..300).map(|k| k * slide).filter(|s| *s <= t && t < s + size).collect::<Vec<_>>();
            let (first, last) = (frame.first_start(EventTime(at)), frame.last_start(EventTime(at)));
            let windows: Vec<i64> = frame.starts(first, last).map(|s| s.0).collect();
            prop_assert_eq!(&windows, &naive(at));
            let slice = frame.slice(EventTime(at));
            prop_assert_eq!(frame.place(EventTime(at)), (slice, first, last));
            prop_assert!((slice.0..=at).all(|t| naive(t) == windows), "one slice, the same windows");
            // Whatever shares a window with the slice is one of its neighbours, and nothing else is.
            let neighbours: Vec<i64> = frame.neighbours(slice).map(|s| s.0).collect();
            let mut sharing: Vec<i64> = (first.0..last.0 + size).map(|t| frame.slice(EventTime(t)).0).collect();
            sharing.dedup();
            prop_assert_eq!(neighbours, sharing);
        }
    }
}
