//! Scalars of an expected type: text, whole numbers, durations, sizes, words, times.
//!
//! Plain scalars have the types of YAML 1.2's core schema (`yes` and `on` are text); quoted ones are text. Nothing
//! is converted silently: a number where text is expected is a problem that says so.

use chrono::{DateTime, NaiveDateTime};

use super::names::Name;
use super::problem::Problems;
use super::raw::{Item, Kind, Node, Scalar, Style};
use crate::model::{EventTime, Span};

/// The type of a scalar, with its text where that says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain<'t> {
    Null,
    Boolean(bool),
    /// Decimal, octal `0o` or hexadecimal `0x`, as typed.
    Integer(&'t str),
    /// As typed; may be `.inf` or `.nan`.
    Float(&'t str),
    Text(&'t str),
}

impl Scalar {
    pub fn resolve(&self) -> Plain<'_> {
        match self.style {
            Style::Plain => core_schema(&self.text),
            _ => Plain::Text(&self.text),
        }
    }
}

impl Node {
    /// What stands there, for a message. A variable's value is not shown: it may be a secret.
    pub fn found(&self) -> String {
        let scalar = match &self.kind {
            Kind::List(_) => return "a list".to_owned(),
            Kind::Map(_) => return "a map".to_owned(),
            Kind::Scalar(scalar) => scalar,
        };
        if let Some(typed) = &scalar.typed {
            return format!("the value of `{}`", cut(typed));
        }
        match scalar.resolve() {
            Plain::Null => "nothing".to_owned(),
            Plain::Boolean(v) => format!("the boolean {v}"),
            Plain::Integer(v) | Plain::Float(v) => format!("the number {}", cut(v)),
            Plain::Text(v) => format!("the text `{}`", cut(v)),
        }
    }
}

/// Enough of a text to recognise it, on one line.
pub(super) fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Any text.
pub(super) fn text<'t>(item: &Item<'t>, problems: &mut Problems<'_>) -> Option<&'t str> {
    let scalar = item.scalar();
    match scalar.map(|s| (s, s.resolve())) {
        Some((_, Plain::Text(text))) => Some(text),
        Some((scalar, _)) if scalar.is_variable() => Some(&scalar.text),
        Some((_, Plain::Null)) | None => {
            expected(item, "text", problems);
            None
        }
        Some((scalar, _)) => {
            let hint = format!("quote it: \"{}\"", cut(&scalar.text));
            problems
                .add(item.node.at, &item.path, format!("expected text, found {}", item.node.found()))
                .hint(hint);
            None
        }
    }
}

/// Text that is a name of this kind.
pub(super) fn name<'t>(item: &Item<'t>, kind: Name, problems: &mut Problems<'_>) -> Option<&'t str> {
    let text = text(item, problems)?;
    if !kind.allows(text) {
        let message = format!("not a valid name: {}", item.node.found());
        problems.add(item.node.at, &item.path, message).hint(format!("allowed: {}", kind.rule()));
        return None;
    }
    Some(text)
}

/// One of `words`.
pub(super) fn word<'t>(item: &Item<'t>, words: &[&str], problems: &mut Problems<'_>) -> Option<&'t str> {
    let text = text(item, problems)?;
    if !words.contains(&text) {
        let message = format!("expected {}, found {}", words.join(" or "), item.node.found());
        problems.add(item.node.at, &item.path, message).suggest(text, words.iter().copied());
        return None;
    }
    Some(text)
}

/// A whole number within bounds.
pub(super) fn integer(item: &Item<'_>, bounds: (i64, i64), problems: &mut Problems<'_>) -> Option<i64> {
    let value = item.scalar().and_then(|scalar| match scalar.resolve() {
        Plain::Integer(text) => whole(text),
        Plain::Text(text) if scalar.is_variable() => whole(text),
        _ => None,
    });
    match value.and_then(|v| i64::try_from(v).ok()).filter(|v| (bounds.0..=bounds.1).contains(v)) {
        Some(value) => Some(value),
        None if bounds.0 == bounds.1 => {
            expected(item, &bounds.0.to_string(), problems);
            None
        }
        None => {
            let what = format!("a whole number from {} to {}", bounds.0, bounds.1);
            expected(item, &what, problems);
            None
        }
    }
}

/// A span of time within bounds, both inclusive.
pub(super) fn duration(item: &Item<'_>, bounds: (Span, Span), problems: &mut Problems<'_>) -> Option<Span> {
    const UNITS: [(&str, i64); 5] =
        [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];
    let Some(micros) = measure(item, &UNITS) else {
        expected(item, "a duration", problems)
            .hint("a duration is a whole number and one of ms, s, m, h, d, like 90s or 1h");
        return None;
    };
    let (least, most) = bounds;
    if !(least.0..=most.0).contains(&micros) {
        let message = format!("out of range: {}", item.node.found());
        problems.add(item.node.at, &item.path, message).hint(format!(
            "allowed: {} to {}",
            show_span(least),
            show_span(most)
        ));
        return None;
    }
    Some(Span(micros))
}

/// A number of bytes within bounds, both inclusive.
pub(super) fn size(item: &Item<'_>, bounds: (usize, usize), problems: &mut Problems<'_>) -> Option<usize> {
    const UNITS: [(&str, i64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    let Some(bytes) = measure(item, &UNITS) else {
        expected(item, "a size", problems)
            .hint("a size is a whole number and one of B, KiB, MiB, GiB, like 512KiB or 1MiB");
        return None;
    };
    let bytes = usize::try_from(bytes).ok().filter(|b| (bounds.0..=bounds.1).contains(b));
    if bytes.is_none() {
        let message = format!("out of range: {}", item.node.found());
        problems.add(item.node.at, &item.path, message).hint(format!(
            "allowed: {}B to {}MiB",
            bounds.0,
            bounds.1 >> 20
        ));
    }
    bytes
}

/// The problem that something else stands there.
pub(super) fn expected<'p>(
    item: &Item<'_>,
    what: &str,
    problems: &'p mut Problems<'_>,
) -> &'p mut super::Problem {
    problems.add(item.node.at, &item.path, format!("expected {what}, found {}", item.node.found()))
}

/// An instant: RFC 3339 with `T` or a space, or without a zone, which is UTC.
pub(super) fn timestamp(text: &str) -> Option<EventTime> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || !matches!(bytes[10], b'T' | b' ') || &bytes[17..19] == b"60" {
        return None;
    }
    let text = text.replacen(' ', "T", 1);
    let micros = match DateTime::parse_from_rfc3339(&text) {
        Ok(at) => at.timestamp_micros(),
        Err(_) => {
            NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc().timestamp_micros()
        }
    };
    Some(EventTime(micros)).filter(|at| (EventTime::MIN..EventTime::END).contains(at))
}

/// A whole number of any notation of the core schema.
pub(super) fn whole(text: &str) -> Option<i128> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i128::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i128::from_str_radix(digits, 8).ok();
    }
    text.parse().ok()
}

/// A count of the smallest unit.
fn measure(item: &Item<'_>, units: &[(&str, i64)]) -> Option<i64> {
    let Plain::Text(text) = item.scalar()?.resolve() else { return None };
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = text.split_at(text.len() - digits.len());
    let scale = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<i64>().ok()?.checked_mul(scale)
}

/// The largest unit that divides it.
pub(super) fn show_span(span: Span) -> String {
    for (unit, micros) in [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)] {
        if span.0 != 0 && span.0 % micros == 0 {
            return format!("{}{unit}", span.0 / micros);
        }
    }
    if span == Span::ZERO { "0s".to_owned() } else { format!("{}ms", span.millis()) }
}

/// The core schema of YAML 1.2.
fn core_schema(text: &str) -> Plain<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Boolean(true),
        "false" | "False" | "FALSE" => return Plain::Boolean(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(text),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let all =
        |digits: &str, valid: fn(&char) -> bool| !digits.is_empty() && digits.chars().all(|c| valid(&c));
    let decimal = all(unsigned, char::is_ascii_digit);
    let octal = text.strip_prefix("0o").is_some_and(|d| all(d, |c| ('0'..='7').contains(c)));
    let hexadecimal = text.strip_prefix("0x").is_some_and(|d| all(d, char::is_ascii_hexdigit));
    if decimal || octal || hexadecimal {
        return Plain::Integer(text);
    }
    let infinite = matches!(unsigned, ".inf" | ".Inf" | ".INF");
    let starts = unsigned.strip_prefix('.').unwrap_or(unsigned).starts_with(|c: char| c.is_ascii_digit());
    if infinite || starts && unsigned.parse::<f64>().is_ok() { Plain::Float(text) } else { Plain::Text(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_the_types_of_the_core_schema() {
        for (text, found) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("True", Plain::Boolean(true)),
            ("yes", Plain::Text("yes")),
            ("-12", Plain::Integer("-12")),
            ("0x1F", Plain::Integer("0x1F")),
            ("0o17", Plain::Integer("0o17")),
            ("1.5", Plain::Float("1.5")),
            (".5", Plain::Float(".5")),
            ("1e3", Plain::Float("1e3")),
            ("-.inf", Plain::Float("-.inf")),
            ("infinity", Plain::Text("infinity")),
            ("1_000", Plain::Text("1_000")),
            ("2026-01-30", Plain::Text("2026-01-30")),
            ("90s", Plain::Text("90s")),
        ] {
            assert_eq!(core_schema(text), found, "{text:?}");
        }
    }

    #[test]
    fn timestamps_are_those_of_records() {
        let at = Some(EventTime(1_769_735_890_000_000));
        for text in ["2026-01-30T01:18:10Z", "2026-01-30 01:18:10", "2026-01-30T02:18:10.000+01:00"] {
            assert_eq!(timestamp(text), at, "{text}");
        }
        for text in
            ["2026-01-30", "2026-01-30T24:00:00Z", "2016-12-31T23:59:60Z", "1969-12-31T23:59:59Z", "now"]
        {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_shown_in_the_largest_unit() {
        for (span, shown) in
            [(Span::ZERO, "0s"), (Span::from_millis(10), "10ms"), (Span::from_secs(5_400), "90m")]
        {
            assert_eq!(show_span(span), shown);
        }
    }
}
