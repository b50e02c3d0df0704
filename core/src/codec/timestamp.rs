//! The text form of `timestamp`.

use crate::model::EventTime;

/// Why a text is no timestamp of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    #[error("not a timestamp like 2026-01-30T01:18:10.5Z")]
    Malformed,
    #[error("not in [1970-01-01, 2200-01-01)")]
    OutOfRange,
}

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Reads `YYYY-MM-DD`, `T` or one space, `HH:MM:SS`, optionally a dot and 1 to 9 digits (finer ones than
/// microseconds are cut), then `Z`, `+hh:mm`, `-hh:mm` (up to 23:59) or nothing, which is UTC.
pub fn parse_timestamp(text: &str) -> Result<EventTime, TimestampError> {
    let (seconds, rest) = date_and_time(text.as_bytes()).ok_or(TimestampError::Malformed)?;
    let (micros, rest) = fraction(rest).ok_or(TimestampError::Malformed)?;
    let offset = offset_seconds(rest).ok_or(TimestampError::Malformed)?;
    in_range((seconds - offset) * MICROS_PER_SECOND + micros)
}

/// `ms` since 1970.
pub(super) fn from_millis(ms: i64) -> Result<EventTime, TimestampError> {
    in_range(ms.checked_mul(1_000).ok_or(TimestampError::OutOfRange)?)
}

/// `s` since 1970.
pub(super) fn from_seconds(s: i64) -> Result<EventTime, TimestampError> {
    in_range(s.checked_mul(MICROS_PER_SECOND).ok_or(TimestampError::OutOfRange)?)
}

fn in_range(micros: i64) -> Result<EventTime, TimestampError> {
    let at = EventTime(micros);
    if EventTime::MIN <= at && at < EventTime::END { Ok(at) } else { Err(TimestampError::OutOfRange) }
}

/// Seconds since 1970 of the first 19 bytes, and what follows them.
fn date_and_time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<19>()?;
    let [y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0, b'T' | b' ', h1, h0, b':', n1, n0, b':', s1, s0] = *head
    else {
        return None;
    };
    let year = two(y3, y2)? * 100 + two(y1, y0)?;
    let month = two(m1, m0)?;
    let day = two(d1, d0)?;
    let (hour, minute, second) = (two(h1, h0)?, two(n1, n0)?, two(s1, s0)?);
    let real = year >= 1 && (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    if !real || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = hour * 3_600 + minute * 60 + second;
    Some((days_since_1970(year, month, day) * 86_400 + seconds, rest))
}

/// Microseconds of `.d{1,9}`, or 0 where there is no dot.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', rest @ ..] = bytes else {
        return Some((0, bytes));
    };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&digits) {
        return None;
    }
    let micros = (0..6).fold(0, |sum, i| {
        let digit = if i < digits { i64::from(rest[i] - b'0') } else { 0 };
        sum * 10 + digit
    });
    Some((micros, &rest[digits..]))
}

fn offset_seconds(bytes: &[u8]) -> Option<i64> {
    match *bytes {
        [] | [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h0, b':', m1, m0] => {
            let (hours, minutes) = (two(h1, h0)?, two(m1, m0)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3_600 + minutes * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i64::from(tens) * 10 + i64::from(ones))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar, years counted from March (Hinnant, "days_from_civil"); year >= 1.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_in_every_spelling() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01 00:00:00", 0),
            ("1970-01-01T00:00:00-00:00", 0),
            ("1969-12-31T23:59:59-01:00", 3_599_000_000),
            ("2026-01-30T01:18:10Z", 1_769_735_890_000_000),
            ("2026-01-30T01:18:10.5Z", 1_769_735_890_500_000),
            ("2026-01-30T01:18:10.123456", 1_769_735_890_123_456),
            ("2026-01-30T01:18:10.123456789Z", 1_769_735_890_123_456),
            ("2026-01-30 01:18:10.000000999+00:00", 1_769_735_890_000_000),
            ("2026-01-30T02:48:10+01:30", 1_769_735_890_000_000),
            ("2026-01-29T01:19:10-23:59", 1_769_735_890_000_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2199-12-31T23:59:59.999999999Z", 7_258_118_399_999_999),
            ("2200-01-01T00:30:00+00:31", 7_258_118_340_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(parse_timestamp(text), Ok(EventTime(micros)), "{text}");
        }
    }

    #[test]
    fn timestamps_outside_the_range_are_told_from_malformed_ones() {
        use TimestampError::{Malformed, OutOfRange};
        let cases = [
            ("1969-12-31T23:59:59.999999Z", OutOfRange),
            ("1970-01-01T00:00:00+00:01", OutOfRange),
            ("2200-01-01T00:00:00Z", OutOfRange),
            ("2199-12-31T23:59:59-00:01", OutOfRange),
            ("0001-01-01T00:00:00+23:59", OutOfRange),
            ("9999-12-31T23:59:59-23:59", OutOfRange),
            ("", Malformed),
            ("2026", Malformed),
            ("2026-01-30", Malformed),
            ("2026-01-30T01:18", Malformed),
            ("0000-01-01T00:00:00Z", Malformed),
            ("300000-01-01T00:00:00Z", Malformed),
            ("+2026-01-01T00:00:00Z", Malformed),
            ("2026-00-10T00:00:00Z", Malformed),
            ("2026-13-10T00:00:00Z", Malformed),
            ("2026-01-00T00:00:00Z", Malformed),
            ("2026-02-30T00:00:00Z", Malformed),
            ("2026-02-29T00:00:00Z", Malformed),
            ("1900-02-29T00:00:00Z", Malformed),
            ("2026-04-31T00:00:00Z", Malformed),
            ("2026-01-30T24:00:00Z", Malformed),
            ("2026-01-30T23:60:00Z", Malformed),
            ("2026-01-30T23:59:60Z", Malformed),
            ("2026-01-30t01:18:10Z", Malformed),
            ("2026-01-30T01:18:10z", Malformed),
            ("2026-01-30  01:18:10Z", Malformed),
            ("2026-01-30\t01:18:10Z", Malformed),
            ("2026-01-30T01:18:10 Z", Malformed),
            ("2026-01-30T01:18:10.Z", Malformed),
            ("2026-01-30T01:18:10,5Z", Malformed),
            ("2026-01-30T01:18:10.1234567890Z", Malformed),
            ("2026-01-30T01:18:10+1:30", Malformed),
            ("2026-01-30T01:18:10+0130", Malformed),
            ("2026-01-30T01:18:10+01", Malformed),
            ("2026-01-30T01:18:10+24:00", Malformed),
            ("2026-01-30T01:18:10+01:60", Malformed),
            ("2026-01-30T01:18:10Z ", Malformed),
            (" 2026-01-30T01:18:10Z", Malformed),
            ("2026-01-30T01:18:10Z\0", Malformed),
            ("2026/01/30T01:18:10Z", Malformed),
            ("20\u{e9}6-01-30T01:18:10Z", Malformed),
            ("\u{ff12}026-01-30T01:18:10Z", Malformed),
        ];
        for (text, error) in cases {
            assert_eq!(parse_timestamp(text), Err(error), "{text}");
        }
    }

    #[test]
    fn integer_times_never_overflow() {
        assert_eq!(from_millis(1), Ok(EventTime(1_000)));
        assert_eq!(from_seconds(7_258_118_399), Ok(EventTime(7_258_118_399_000_000)));
        for out in [i64::MIN, -1, 7_258_118_400_000, i64::MAX] {
            assert_eq!(from_millis(out), Err(TimestampError::OutOfRange), "{out}");
            assert_eq!(from_seconds(out), Err(TimestampError::OutOfRange), "{out}");
        }
    }

    proptest! {
        #[test]
        fn what_an_event_time_prints_reads_back(micros in 0..EventTime::END.0) {
            let at = EventTime(micros);
            prop_assert_eq!(parse_timestamp(&at.to_string()), Ok(at));
        }

        #[test]
        fn no_text_panics(text in "[0-9+:.TZ -]{0,40}|\\PC{0,30}") {
            let _ = parse_timestamp(&text);
        }
    }
}
