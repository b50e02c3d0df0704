//! Timestamps and dates: their texts, `date_trunc`, `extract`, fixed lengths of time. Everything is UTC.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Timelike, Utc};

use super::EvalError;
use super::error::{invalid, quoted};
use crate::model::{DataType, Date, EventTime, Span, Value};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 0001-01-01T00:00Z.
const FIRST: i64 = -62_135_596_800 * SECOND;
/// 10000-01-01T00:00Z.
const END: i64 = 253_402_300_800 * SECOND;

/// A unit of `date_trunc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TruncUnit {
    Fixed { micros: i64, name: &'static str },
    Week,
    Months { count: u32, name: &'static str },
}

/// A field of `extract`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtractField {
    Epoch,
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Dow,
    Isodow,
    Doy,
    Hour,
    Minute,
    Second,
    Milliseconds,
    Microseconds,
}

impl TruncUnit {
    pub const NAMES: &'static str =
        "microseconds, milliseconds, second, minute, hour, day, week, month, quarter, year";

    /// In any case, singular or plural.
    pub fn named(name: &str) -> Option<TruncUnit> {
        let fixed = |micros, name| Some(TruncUnit::Fixed { micros, name });
        match singular(&name.to_ascii_lowercase()) {
            "microsecond" => fixed(1, "microsecond"),
            "millisecond" => fixed(1_000, "millisecond"),
            "second" => fixed(SECOND, "second"),
            "minute" => fixed(60 * SECOND, "minute"),
            "hour" => fixed(3_600 * SECOND, "hour"),
            "day" => fixed(DAY, "day"),
            "week" => Some(TruncUnit::Week),
            "month" => Some(TruncUnit::Months { count: 1, name: "month" }),
            "quarter" => Some(TruncUnit::Months { count: 3, name: "quarter" }),
            "year" => Some(TruncUnit::Months { count: 12, name: "year" }),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            TruncUnit::Fixed { name, .. } | TruncUnit::Months { name, .. } => name,
            TruncUnit::Week => "week",
        }
    }

    /// The last start of the unit that is not after the instant; a week starts on Monday.
    pub fn truncate(self, at: EventTime) -> Result<EventTime, EvalError> {
        // 1970-01-01 was a Thursday.
        const MONDAY: i64 = -3 * DAY;
        let start = match self {
            TruncUnit::Fixed { micros, .. } => at.0 - at.0.rem_euclid(micros),
            TruncUnit::Week => at.0 - (at.0 - MONDAY).rem_euclid(7 * DAY),
            TruncUnit::Months { count, .. } => {
                let day = calendar(at)?.date_naive();
                let first =
                    day.with_day(1).and_then(|d| d.checked_sub_months(Months::new(d.month0() % count)));
                days_since_epoch(first.ok_or_else(|| out_of_range(at))?) * DAY
            }
        };
        checked(Some(start))
    }
}

impl ExtractField {
    pub const NAMES: &'static str = "epoch, year, quarter, month, week, day, dow, isodow, doy, hour, minute, \
                                     second, milliseconds, microseconds";

    /// In any case; units also in the other number.
    pub fn named(name: &str) -> Option<ExtractField> {
        Some(match singular(&name.to_ascii_lowercase()) {
            "epoch" => ExtractField::Epoch,
            "year" => ExtractField::Year,
            "quarter" => ExtractField::Quarter,
            "month" => ExtractField::Month,
            "week" => ExtractField::Week,
            "day" => ExtractField::Day,
            "dow" => ExtractField::Dow,
            "isodow" => ExtractField::Isodow,
            "doy" => ExtractField::Doy,
            "hour" => ExtractField::Hour,
            "minute" => ExtractField::Minute,
            "second" => ExtractField::Second,
            "millisecond" => ExtractField::Milliseconds,
            "microsecond" => ExtractField::Microseconds,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            ExtractField::Epoch => "epoch",
            ExtractField::Year => "year",
            ExtractField::Quarter => "quarter",
            ExtractField::Month => "month",
            ExtractField::Week => "week",
            ExtractField::Day => "day",
            ExtractField::Dow => "dow",
            ExtractField::Isodow => "isodow",
            ExtractField::Doy => "doy",
            ExtractField::Hour => "hour",
            ExtractField::Minute => "minute",
            ExtractField::Second => "second",
            ExtractField::Milliseconds => "milliseconds",
            ExtractField::Microseconds => "microseconds",
        }
    }

    pub fn data_type(self) -> DataType {
        match self {
            ExtractField::Epoch | ExtractField::Second | ExtractField::Milliseconds => DataType::Double,
            _ => DataType::Bigint,
        }
    }

    /// Whether a date has the field too.
    pub fn of_date(self) -> bool {
        use ExtractField::*;
        !matches!(self, Hour | Minute | Second | Milliseconds | Microseconds)
    }

    pub fn extract(self, at: EventTime) -> Result<Value<'static>, EvalError> {
        let time = calendar(at)?;
        let within_minute = at.0.rem_euclid(60 * SECOND);
        Ok(Value::Bigint(match self {
            ExtractField::Epoch => return Ok(Value::Double(at.0 as f64 / 1e6)),
            ExtractField::Second => return Ok(Value::Double(within_minute as f64 / 1e6)),
            ExtractField::Milliseconds => return Ok(Value::Double(within_minute as f64 / 1e3)),
            ExtractField::Microseconds => within_minute,
            ExtractField::Year => i64::from(time.year()),
            ExtractField::Quarter => i64::from(time.month0() / 3 + 1),
            ExtractField::Month => i64::from(time.month()),
            ExtractField::Week => i64::from(time.iso_week().week()),
            ExtractField::Day => i64::from(time.day()),
            ExtractField::Dow => i64::from(time.weekday().num_days_from_sunday()),
            ExtractField::Isodow => i64::from(time.weekday().number_from_monday()),
            ExtractField::Doy => i64::from(time.ordinal()),
            ExtractField::Hour => i64::from(time.hour()),
            ExtractField::Minute => i64::from(time.minute()),
        }))
    }
}

fn singular(unit: &str) -> &str {
    unit.strip_suffix('s').unwrap_or(unit)
}

fn calendar(at: EventTime) -> Result<DateTime<Utc>, EvalError> {
    DateTime::from_timestamp_micros(at.0).ok_or_else(|| out_of_range(at))
}

fn out_of_range(at: EventTime) -> EvalError {
    EvalError(format!("timestamp out of range: {at}"))
}

/// Invariant: no timestamp leaves the years 0001 to 9999.
fn checked(micros: Option<i64>) -> Result<EventTime, EvalError> {
    match micros {
        Some(micros) if (FIRST..END).contains(&micros) => Ok(EventTime(micros)),
        Some(micros) => Err(out_of_range(EventTime(micros))),
        None => Err(EvalError("timestamp out of range".to_owned())),
    }
}

fn days_since_epoch(date: NaiveDate) -> i64 {
    date.signed_duration_since(NaiveDate::default()).num_days()
}

pub(super) fn date_of(at: EventTime) -> Date {
    let days = at.0.div_euclid(DAY);
    Date(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }))
}

pub(super) fn midnight(date: Date) -> Result<EventTime, EvalError> {
    checked(i64::from(date.0).checked_mul(DAY))
}

pub(super) fn shift(at: EventTime, by: Span, back: bool) -> Result<EventTime, EvalError> {
    checked(if back { at.0.checked_sub(by.0) } else { at.0.checked_add(by.0) })
}

/// `2026-01-30 01:18:10.5+00`: no more digits of a second than needed.
pub(super) fn timestamp_text(at: EventTime) -> String {
    let Ok(time) = calendar(at) else { return at.to_string() };
    let mut text = time.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    while text.ends_with('0') {
        text.pop();
    }
    // Whole seconds end in a point now; the six digits kept the zeros before it.
    if text.ends_with('.') {
        text.pop();
    }
    text.push_str("+00");
    text
}

/// `YYYY-MM-DD`, then perhaps `T` or blanks and `HH:MM[:SS[.f]]`, then perhaps a zone; UTC without one.
pub(super) fn parse_timestamp(text: &str) -> Result<EventTime, EvalError> {
    let parts = Parts::read(text).ok_or_else(|| invalid("timestamp", text))?;
    parts.timestamp().ok_or_else(|| EvalError(format!("timestamp out of range: {}", quoted(text))))
}

/// As a timestamp; the date is the one written, whatever the zone.
pub(super) fn parse_date(text: &str) -> Result<Date, EvalError> {
    let parts = Parts::read(text).ok_or_else(|| invalid("date", text))?;
    let valid = parts.timestamp().and(parts.date());
    let date = valid.ok_or_else(|| EvalError(format!("date out of range: {}", quoted(text))))?;
    Ok(date_of(EventTime(days_since_epoch(date) * DAY)))
}

/// A timestamp as written.
struct Parts {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    micros: i64,
    offset_minutes: i64,
}

impl Parts {
    fn read(text: &str) -> Option<Parts> {
        let mut input = Input(text.trim_ascii().as_bytes());
        let year = input.number(4, 4)?;
        input.expect(b'-')?;
        let month = input.number(1, 2)?;
        input.expect(b'-')?;
        let day = input.number(1, 2)?;
        let mut parts =
            Parts { year, month, day, hour: 0, minute: 0, second: 0, micros: 0, offset_minutes: 0 };
        let marked = input.take(b'T') || input.take(b't');
        let blanks = input.blanks();
        if marked || (blanks && input.0.first().is_some_and(u8::is_ascii_digit)) {
            parts.hour = input.number(1, 2)?;
            input.expect(b':')?;
            parts.minute = input.number(1, 2)?;
            if input.take(b':') {
                parts.second = input.number(1, 2)?;
                parts.micros = input.fraction()?;
            }
            input.blanks();
        }
        parts.offset_minutes = input.zone()?;
        input.0.is_empty().then_some(parts)
    }

    fn date(&self) -> Option<NaiveDate> {
        let year = i32::try_from(self.year).ok().filter(|year| *year > 0)?;
        NaiveDate::from_ymd_opt(year, self.month, self.day)
    }

    /// `24:00:00` is the next midnight and a second of 60 the next minute, as in PostgreSQL.
    fn timestamp(&self) -> Option<EventTime> {
        let end_of_day = self.hour == 24 && self.minute == 0 && self.second == 0 && self.micros == 0;
        let valid = (self.hour < 24 && self.minute < 60 && self.second <= 60) || end_of_day;
        let days = days_since_epoch(self.date()?);
        let seconds =
            i64::from(self.hour * 3_600 + self.minute * 60 + self.second) - self.offset_minutes * 60;
        let micros = days * DAY + seconds * SECOND + self.micros;
        checked(valid.then_some(micros)).ok()
    }
}

struct Input<'t>(&'t [u8]);

impl Input<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    fn blanks(&mut self) -> bool {
        let before = self.0.len();
        self.0 = self.0.trim_ascii_start();
        self.0.len() < before
    }

    fn digits(&mut self) -> &str {
        let end = self.0.iter().position(|b| !b.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        std::str::from_utf8(digits).unwrap_or_default()
    }

    fn number(&mut self, shortest: usize, longest: usize) -> Option<u32> {
        let digits = self.digits();
        (shortest..=longest).contains(&digits.len()).then(|| digits.parse().ok())?
    }

    /// Microseconds, rounded as PostgreSQL rounds them.
    fn fraction(&mut self) -> Option<i64> {
        if !self.take(b'.') {
            return Some(0);
        }
        let digits = format!("0.{}", self.digits());
        let seconds: f64 = digits.parse().ok()?;
        Some((seconds * 1e6).round_ties_even() as i64)
    }

    /// Minutes east of UTC: nothing, `Z`, `+hh`, `+hhmm` or `+hh:mm`, less than 16 hours.
    fn zone(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.take(b'Z') || self.take(b'z') {
            return Some(0);
        }
        let sign = if self.take(b'-') { -1 } else { self.expect(b'+').map(|()| 1)? };
        let number = self.digits().to_owned();
        let (hours, minutes) = match number.len() {
            1 | 2 if self.take(b':') => (number.parse().ok()?, self.number(2, 2)?),
            1 | 2 => (number.parse().ok()?, 0),
            4 => (number[..2].parse().ok()?, number[2..].parse().ok()?),
            _ => return None,
        };
        let (hours, minutes): (u32, u32) = (hours, minutes);
        (hours < 16 && minutes < 60).then(|| sign * i64::from(hours * 60 + minutes))
    }
}

/// A length of time of fixed units: `5 minutes`, `1 day 2 hours`, `1.5 h`, `01:30`, `-90 s`. A day is 24
/// hours, as it is in UTC; months and years have no fixed length and are refused.
pub(super) fn parse_interval(text: &str) -> Result<i64, String> {
    let mut words = text.split_ascii_whitespace();
    let mut total: i128 = 0;
    let mut empty = true;
    while let Some(word) = words.next() {
        empty = false;
        let wrong = || format!("invalid interval: {}", quoted(text));
        total += if word.contains(':') {
            clock(word).ok_or_else(wrong)?
        } else {
            let split = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
            let (number, unit) = word.split_at(split);
            let unit = if unit.is_empty() { words.next().ok_or_else(wrong)? } else { unit };
            scaled(number, unit_micros(unit)?).ok_or_else(wrong)?
        };
    }
    if empty {
        return Err("an interval needs a number and a unit, as in interval '5 minutes'".to_owned());
    }
    i64::try_from(total).map_err(|_| format!("interval out of range: {}", quoted(text)))
}

fn unit_micros(unit: &str) -> Result<i64, String> {
    Ok(match unit.to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "microsecond" | "microseconds" => 1,
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        "mon" | "mons" | "month" | "months" | "y" | "yr" | "yrs" | "year" | "years" => {
            return Err(format!("{unit:?} has no fixed length"));
        }
        _ => return Err(format!("{unit:?} is no unit of an interval")),
    })
}

/// `[-]n[.f]` of a unit, rounded to microseconds.
fn scaled(number: &str, unit: i64) -> Option<i128> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str, longest| part.len() <= longest && part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole, 12) || !digits(fraction, 9) {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let billionths: i128 = format!("{fraction:0<9}").parse().ok()?;
    let micros = whole * i128::from(unit) + (billionths * i128::from(unit) + 500_000_000) / 1_000_000_000;
    Some(if negative { -micros } else { micros })
}

/// `[-]HH:MM[:SS[.f]]`.
fn clock(word: &str) -> Option<i128> {
    let (negative, word) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let mut input = Input(word.as_bytes());
    let hours = input.number(1, 6)?;
    input.expect(b':')?;
    let minutes = input.number(1, 2)?;
    let seconds = if input.take(b':') { input.number(1, 2)? } else { 0 };
    let fraction = input.fraction()?;
    NaiveTime::from_hms_opt(0, minutes, seconds).filter(|_| input.0.is_empty())?;
    let seconds = i128::from(hours) * 3_600 + i128::from(minutes) * 60 + i128::from(seconds);
    let micros = seconds * i128::from(SECOND) + i128::from(fraction);
    Some(if negative { -micros } else { micros })
}
