//! Casts between the types, and the texts of values. A text is read and written as PostgreSQL does it,
//! except that no double is read as infinite or not a number.

use std::borrow::Cow;

use super::error::{EvalError, invalid, out_of_range};
use super::time;
use crate::model::{DataType, Value, canonical_inet};

/// The characters PostgreSQL skips around a number.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];

/// Whether an expression of one type may be cast to another.
pub(super) fn exists(from: DataType, to: DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (from, to) if from == to => true,
        (Text, to) => !matches!(to, Json | Numeric),
        (from, Text) => from != Numeric,
        (Bigint, Double) | (Double, Bigint) | (Timestamp, Date) | (Date, Timestamp) => true,
        _ => false,
    }
}

/// Invariant: `exists(from, to)`, and the value is of type `from` or null.
pub(super) fn cast<'r>(value: Value<'r>, from: DataType, to: DataType) -> Result<Value<'r>, EvalError> {
    Ok(match (value, to) {
        (Value::Null, _) => Value::Null,
        (Value::Text(text), to) => return cast_text(text, from, to),
        (Value::Bigint(number), DataType::Double) => Value::Double(number as f64),
        (Value::Double(number), DataType::Bigint) => Value::Bigint(double_to_bigint(number)?),
        (Value::Timestamp(at), DataType::Date) => Value::Date(time::date_of(at)),
        (Value::Date(date), DataType::Timestamp) => Value::Timestamp(time::midnight(date)?),
        (Value::Bigint(number), DataType::Text) => Value::Text(number.to_string().into()),
        (Value::Double(number), DataType::Text) => Value::Text(double_text(number).into()),
        (Value::Boolean(value), DataType::Text) => Value::Text(if value { "true" } else { "false" }.into()),
        (Value::Timestamp(at), DataType::Text) => Value::Text(time::timestamp_text(at).into()),
        (Value::Date(date), DataType::Text) => Value::Text(date.to_string().into()),
        (value, _) => value,
    })
}

/// The value of a text that stands for one of the given type.
fn cast_text<'r>(text: Cow<'r, str>, from: DataType, to: DataType) -> Result<Value<'r>, EvalError> {
    Ok(match to {
        DataType::Text if from == DataType::Inet => Value::Text(inet_text(text)),
        to if to == from || to == DataType::Text => Value::Text(text),
        DataType::Bigint => Value::Bigint(parse_bigint(&text)?),
        DataType::Double => Value::Double(parse_double(&text)?),
        DataType::Boolean => Value::Boolean(parse_boolean(&text)?),
        DataType::Timestamp => Value::Timestamp(time::parse_timestamp(&text)?),
        DataType::Date => Value::Date(time::parse_date(&text)?),
        DataType::Uuid => Value::Text(canonical_uuid(&text).ok_or_else(|| invalid("uuid", &text))?.into()),
        DataType::Inet => Value::Text(
            canonical_inet(Cow::Borrowed(&text)).ok_or_else(|| invalid("inet", &text))?.into_owned().into(),
        ),
        DataType::Text | DataType::Json | DataType::Numeric => Value::Text(text),
    })
}

/// Decimal, hexadecimal (`0x`), octal (`0o`) or binary (`0b`) digits, with single underscores between digits.
pub(super) fn parse_bigint(text: &str) -> Result<i64, EvalError> {
    let digits = text.trim_matches(BLANKS);
    let (negative, digits) = match digits.as_bytes().first() {
        Some(b'-') => (true, &digits[1..]),
        Some(b'+') => (false, &digits[1..]),
        _ => (false, digits),
    };
    let (radix, digits, prefixed) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..], true),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..], true),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..], true),
        _ => (10, digits, false),
    };
    let mut magnitude: i128 = 0;
    // After a prefix an underscore may stand before the first digit.
    let mut after_digit = prefixed;
    for c in digits.chars() {
        match c.to_digit(radix) {
            Some(digit) => {
                // Saturates far beyond bigint: the rest of the text must still be digits.
                magnitude = (magnitude * i128::from(radix) + i128::from(digit)).min(1 << 100);
                after_digit = true;
            }
            None if c == '_' && after_digit => after_digit = false,
            None => return Err(invalid("bigint", text)),
        }
    }
    if digits.is_empty() || !after_digit {
        return Err(invalid("bigint", text));
    }
    let number = if negative { -magnitude } else { magnitude };
    i64::try_from(number).map_err(|_| out_of_range("bigint", text))
}

pub(super) fn parse_double(text: &str) -> Result<f64, EvalError> {
    let digits = text.trim_matches(BLANKS);
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    if !mantissa.bytes().any(|b| b.is_ascii_digit()) {
        return Err(invalid("double", text));
    }
    let number: f64 = digits.parse().map_err(|_| invalid("double", text))?;
    let underflow = number == 0.0 && mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if underflow || !number.is_finite() {
        return Err(out_of_range("double", text));
    }
    Ok(number)
}

/// A prefix of a word that names one boolean only, in any case.
fn parse_boolean(text: &str) -> Result<bool, EvalError> {
    let word = text.trim_matches(BLANKS).to_ascii_lowercase();
    let prefix_of = |whole: &str, shortest: usize| word.len() >= shortest && whole.starts_with(&word);
    if prefix_of("true", 1) || prefix_of("yes", 1) || prefix_of("on", 2) || word == "1" {
        Ok(true)
    } else if prefix_of("false", 1) || prefix_of("no", 1) || prefix_of("off", 2) || word == "0" {
        Ok(false)
    } else {
        Err(invalid("boolean", text))
    }
}

/// 32 hexadecimal digits, hyphens after any group of four, the whole perhaps in braces; in lower case,
/// 8-4-4-4-12.
fn canonical_uuid(text: &str) -> Option<String> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut uuid = String::with_capacity(36);
    let mut digits = 0;
    let mut hyphen_allowed = false;
    for c in inner.chars() {
        if c == '-' && hyphen_allowed {
            hyphen_allowed = false;
            continue;
        }
        if !c.is_ascii_hexdigit() || digits == 32 {
            return None;
        }
        if matches!(digits, 8 | 12 | 16 | 20) {
            uuid.push('-');
        }
        uuid.push(c.to_ascii_lowercase());
        digits += 1;
        hyphen_allowed = digits % 4 == 0 && digits < 32;
    }
    (digits == 32).then_some(uuid)
}

/// PostgreSQL always writes the prefix when it makes a text of an inet.
fn inet_text(inet: Cow<'_, str>) -> Cow<'_, str> {
    match (inet.contains('/'), inet.contains(':')) {
        (true, _) => inet,
        (false, true) => format!("{inet}/128").into(),
        (false, false) => format!("{inet}/32").into(),
    }
}

/// To the nearest integer, halves to the even one.
fn double_to_bigint(number: f64) -> Result<i64, EvalError> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    let rounded = number.round_ties_even();
    if (-END..END).contains(&rounded) {
        Ok(rounded as i64)
    } else {
        Err(out_of_range("bigint", &double_text(number)))
    }
}

/// The shortest text that reads back as the same number; from 1e+15 and below 1e-04 with an exponent of at
/// least two digits.
pub(super) fn double_text(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..15).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}
