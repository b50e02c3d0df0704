//! Event time and spans of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An instant in microseconds since 1970-01-01T00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

/// A length of time in microseconds, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub i64);

/// A half-open window `[start, end)` of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowSpan {
    pub start: EventTime,
    pub end: EventTime,
}

/// A session from its first to its last event time, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionSpan {
    pub start: EventTime,
    pub end: EventTime,
}

impl EventTime {
    /// 1970-01-01T00:00Z, the first instant a record may carry.
    pub const MIN: EventTime = EventTime(0);
    /// 2200-01-01T00:00Z, the first instant a record may no longer carry.
    pub const END: EventTime = EventTime(7_258_118_400_000_000);

    pub fn from_millis(ms: i64) -> EventTime {
        EventTime(ms * 1_000)
    }

    /// Milliseconds, cut towards the past.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    pub fn plus(self, span: Span) -> EventTime {
        EventTime(self.0 + span.0)
    }

    pub fn minus(self, span: Span) -> EventTime {
        EventTime(self.0 - span.0)
    }
}

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn from_millis(ms: i64) -> Span {
        Span(ms * 1_000)
    }

    pub const fn from_secs(s: i64) -> Span {
        Span(s * 1_000_000)
    }

    /// Whole milliseconds, cut.
    pub fn millis(self) -> i64 {
        self.0 / 1_000
    }
}

impl SessionSpan {
    /// From the first to the last event, in whole seconds, cut.
    pub fn seconds(self) -> i64 {
        (self.end.0 - self.start.0) / 1_000_000
    }
}

impl fmt::Display for EventTime {
    /// RFC 3339 in UTC with six digits of a second: `2026-01-30T01:18:10.000000Z`, always 27 bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match chrono::DateTime::from_timestamp_micros(self.0) {
            Some(at) => write!(f, "{}", at.format("%Y-%m-%dT%H:%M:%S%.6fZ")),
            None => write!(f, "{} us", self.0),
        }
    }
}
