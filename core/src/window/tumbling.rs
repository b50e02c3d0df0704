//! Tumbling windows: half-open, aligned to 1970-01-01T00:00Z.

use crate::model::{EventTime, Span, WindowSpan};

/// The window of length `size` that holds `at`.
pub fn tumbling_window(at: EventTime, size: Span) -> WindowSpan {
    let start = EventTime(at.0 - at.0.rem_euclid(size.0));
    WindowSpan { start, end: start.plus(size) }
}

/// The start of the earliest window of length `size` for which a record is not too late at `watermark`; whatever
/// starts before it can be forgotten.
pub fn first_live_start(watermark: EventTime, size: Span, allowed: Span) -> EventTime {
    // A window is dead when start + size + allowed <= watermark.
    let last_dead = watermark.minus(allowed).minus(size);
    let window = tumbling_window(last_dead, size);
    window.end
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Span = Span::from_secs(60);

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let span = |s: i64| tumbling_window(EventTime(s * 1_000_000), MINUTE);
        assert_eq!(span(0).start, EventTime(0));
        assert_eq!(span(59), span(0));
        assert_eq!(span(60).start, EventTime(60_000_000));
        assert_eq!(span(60).end, EventTime(120_000_000));
    }

    #[test]
    fn state_is_dropped_exactly_when_records_are_too_late() {
        let allowed = Span::from_secs(30);
        for watermark in (0..400).map(|s| EventTime(s * 1_000_000)) {
            let live = first_live_start(watermark, MINUTE, allowed);
            for start in (-5..10).map(|m| EventTime(m * 60_000_000)) {
                let too_late = start.plus(MINUTE).plus(allowed) <= watermark;
                assert_eq!(start < live, too_late, "window {start} at watermark {watermark}");
            }
        }
    }
}
