//! What one JSON value means as a declared field.

use std::borrow::Cow;
use std::sync::Arc;

use super::escape::{escapes_in, unescape};
use super::timestamp::{TimestampError, from_millis, from_seconds, parse_timestamp};
use super::uuid;
use crate::model::{DataType, Dead, DeadReason, EventTime, Value, canonical_inet};
use crate::pipeline::{Encoding, Field};

const LONGEST_NAME: usize = 50;
const LONGEST_FOUND: usize = 50;

/// Reads the values of one declared field.
#[derive(Debug)]
pub(super) struct FieldReader {
    name: Arc<str>,
    kind: Kind,
    required: bool,
}

/// Type and encoding in one.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Bigint,
    Double,
    Boolean,
    Timestamp,
    TimestampMillis,
    TimestampSeconds,
    Uuid,
    Inet,
    Json,
}

/// The reason a value is refused, and what should have stood there.
struct Refusal(DeadReason, &'static str);

impl FieldReader {
    pub(super) fn new(field: &Field) -> FieldReader {
        let kind = match (field.data_type, field.encoding) {
            (DataType::Text, _) => Kind::Text,
            (DataType::Bigint, _) => Kind::Bigint,
            (DataType::Double, _) => Kind::Double,
            (DataType::Boolean, _) => Kind::Boolean,
            (DataType::Timestamp, Encoding::Plain) => Kind::Timestamp,
            (DataType::Timestamp, Encoding::Millis) => Kind::TimestampMillis,
            (DataType::Timestamp, Encoding::Seconds) => Kind::TimestampSeconds,
            (DataType::Uuid, _) => Kind::Uuid,
            (DataType::Inet, _) => Kind::Inet,
            (DataType::Json, _) => Kind::Json,
            (DataType::Date | DataType::Numeric, _) => {
                unreachable!(
                    "field {} is declared as {}, which is no type of a field",
                    field.name, field.data_type
                )
            }
        };
        FieldReader { name: field.name.clone(), kind, required: field.required }
    }

    /// Replaces `value`, which is the JSON text of the field in a record that was scanned or null where the field is
    /// absent, by what it means.
    ///
    /// Why: in place, because handing values back costs more than reading them.
    #[inline]
    pub(super) fn read(&self, value: &mut Value<'_>) -> Result<(), Dead> {
        let json = match value {
            Value::Text(Cow::Borrowed(json)) => Some(*json),
            _ => None,
        };
        match json {
            None | Some("null") if self.required => return Err(self.missing(json.is_some())),
            None | Some("null") => *value = Value::Null,
            Some(json) => {
                read_present(self.kind, json, value).map_err(|refusal| self.dead(refusal, json))?;
            }
        }
        Ok(())
    }

    #[cold]
    fn missing(&self, null: bool) -> Dead {
        let found = if null { "null" } else { "nothing" };
        let name = excerpt(&self.name, LONGEST_NAME);
        Dead::new(DeadReason::MissingField, format!("field \"{name}\": expected a value, found {found}"))
    }

    #[cold]
    fn dead(&self, Refusal(reason, expected): Refusal, json: &str) -> Dead {
        let name = excerpt(&self.name, LONGEST_NAME);
        let found = match json.as_bytes().first() {
            Some(b'{') => Cow::Borrowed("an object"),
            Some(b'[') => Cow::Borrowed("an array"),
            _ => excerpt(json, LONGEST_FOUND),
        };
        Dead::new(reason, format!("field \"{name}\": expected {expected}, found {found}"))
    }
}

#[inline]
fn read_present<'a>(kind: Kind, json: &'a str, value: &mut Value<'a>) -> Result<(), Refusal> {
    match kind {
        Kind::Text => *value = Value::Text(text(json)?),
        Kind::Timestamp => *value = Value::Timestamp(timestamp(json)?),
        Kind::Bigint => *value = Value::Bigint(integer(json, "an integer")?),
        Kind::Double => *value = Value::Double(double(json)?),
        Kind::Boolean => *value = Value::Boolean(boolean(json)?),
        Kind::TimestampMillis => {
            let ms = integer(json, "an integer of milliseconds")?;
            *value = Value::Timestamp(from_millis(ms).map_err(refused_time)?);
        }
        Kind::TimestampSeconds => {
            let s = integer(json, "an integer of seconds")?;
            *value = Value::Timestamp(from_seconds(s).map_err(refused_time)?);
        }
        Kind::Uuid => *value = Value::Text(canonical(json, uuid::canonical, "a uuid")?),
        Kind::Inet => *value = Value::Text(canonical(json, canonical_inet, "an address or address/prefix")?),
        Kind::Json => *value = Value::Text(Cow::Borrowed(verbatim(json)?)),
    }
    Ok(())
}

fn wrong_type(expected: &'static str) -> Refusal {
    Refusal(DeadReason::WrongType, expected)
}

/// The text of a JSON string.
#[inline]
fn string<'a>(json: &'a str, expected: &'static str) -> Result<Cow<'a, str>, Refusal> {
    let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(wrong_type(expected))?;
    unescape(inner).ok_or(wrong_type("text without half a surrogate pair"))
}

#[inline]
fn text(json: &str) -> Result<Cow<'_, str>, Refusal> {
    let text = string(json, "text")?;
    match &text {
        Cow::Owned(unescaped) if unescaped.contains('\0') => {
            Err(Refusal(DeadReason::NulCharacter, "text without U+0000"))
        }
        _ => Ok(text),
    }
}

#[inline]
fn timestamp(json: &str) -> Result<EventTime, Refusal> {
    let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(wrong_type("a timestamp as text"));
    };
    // Why: half a surrogate pair is text, only never that of a timestamp.
    let text = unescape(inner).ok_or(refused_time(TimestampError::Malformed))?;
    parse_timestamp(&text).map_err(refused_time)
}

fn refused_time(error: TimestampError) -> Refusal {
    match error {
        TimestampError::Malformed => {
            Refusal(DeadReason::BadTimestamp, "a timestamp like 2026-01-30T01:18:10.5Z")
        }
        TimestampError::OutOfRange => Refusal(DeadReason::OutOfRange, "a time in [1970-01-01, 2200-01-01)"),
    }
}

fn integer(json: &str, expected: &'static str) -> Result<i64, Refusal> {
    let digits = json.strip_prefix('-').unwrap_or(json);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong_type(expected));
    }
    json.parse().map_err(|_| Refusal(DeadReason::OutOfRange, "an integer of 64 bits"))
}

fn boolean(json: &str) -> Result<bool, Refusal> {
    match json {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong_type("true or false")),
    }
}

fn double(json: &str) -> Result<f64, Refusal> {
    if !json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Err(wrong_type("a number"));
    }
    match json.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err(Refusal(DeadReason::OutOfRange, "a number of 64 bits")),
        Err(_) => Err(wrong_type("a number")),
    }
}

fn canonical<'a>(
    json: &'a str,
    canonical: impl FnOnce(Cow<'a, str>) -> Option<Cow<'a, str>>,
    expected: &'static str,
) -> Result<Cow<'a, str>, Refusal> {
    canonical(string(json, expected)?).ok_or(wrong_type(expected))
}

fn verbatim(json: &str) -> Result<&str, Refusal> {
    let escapes = escapes_in(json);
    if escapes.lone_surrogate {
        return Err(wrong_type("json without half a surrogate pair"));
    }
    if escapes.nul {
        return Err(Refusal(DeadReason::NulCharacter, "json without U+0000"));
    }
    Ok(json)
}

/// At most `most` characters of `text`.
fn excerpt(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((cut, _)) => Cow::Owned(format!("{}...", &text[..cut])),
        None => Cow::Borrowed(text),
    }
}
