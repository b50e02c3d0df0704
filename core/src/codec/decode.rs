//! A record's value to a row, or the reason why it is dead.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memchr;

use super::field::FieldReader;
use super::names::Names;
use super::scan::{Member, NotJson, Shape};
use super::{fast, scan};
use crate::model::{Dead, DeadReason, Row, Value};
use crate::pipeline::Field;

/// Decodes record values of one source into rows.
#[derive(Debug)]
pub struct RecordDecoder {
    fields: Vec<FieldReader>,
    names: Names,
    max_record_bytes: usize,
}

/// What `splice` needs to know of a record that was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    pub text: &'a str,
    /// Byte index of the object's last brace.
    pub closing_brace: usize,
    /// The object has no members.
    pub empty: bool,
    /// One bit per watched name, set where the outermost object has a member of that name.
    pub watched_present: u64,
}

impl RecordDecoder {
    /// `watched` are names whose presence in the outermost object the caller wants to know, at most 64.
    pub fn new(fields: &[Field], max_record_bytes: usize, watched: &[Arc<str>]) -> RecordDecoder {
        RecordDecoder {
            fields: fields.iter().map(FieldReader::new).collect(),
            names: Names::new(fields.iter().map(|field| &field.name), watched),
            max_record_bytes,
        }
    }

    /// Decodes `value` into `row`, one value per declared field in the file's order. Text is borrowed from `value`
    /// unless its spelling there is not the canonical one. A dead record leaves `row` empty.
    ///
    /// The first reason that applies counts: NULL_VALUE, TOO_LARGE, NOT_UTF8, NOT_JSON, then field by field.
    pub fn decode<'a>(&self, value: Option<&'a [u8]>, row: &mut Row<'a>) -> Result<Decoded<'a>, Dead> {
        row.clear();
        let text = self.text_of(value)?;
        row.resize_with(self.fields.len(), || Value::Null);
        let decoded = self.locate(text, row).and_then(|decoded| {
            let mut fields = self.fields.iter().zip(row.iter_mut());
            fields.try_for_each(|(field, value)| field.read(value))?;
            Ok(decoded)
        });
        if decoded.is_err() {
            row.clear();
        }
        decoded
    }

    fn text_of<'a>(&self, value: Option<&'a [u8]>) -> Result<&'a str, Dead> {
        let Some(value) = value else {
            return Err(Dead::new(DeadReason::NullValue, "expected a value, found null"));
        };
        if value.len() > self.max_record_bytes {
            let detail =
                format!("value of {} bytes, max_record_bytes is {}", value.len(), self.max_record_bytes);
            return Err(Dead::new(DeadReason::TooLarge, detail));
        }
        simdutf8::basic::from_utf8(value).map_err(|_| not_utf8(value))
    }

    /// Puts the JSON of every declared field that is present into its place in `row`, as text.
    fn locate<'a>(&self, text: &'a str, row: &mut [Value<'a>]) -> Result<Decoded<'a>, Dead> {
        let mut watched_present = 0;
        let fast = fast::scan(text, |member| self.take(text, member, false, row, &mut watched_present));
        let Shape { closing_brace, empty } = match fast {
            Some(shape) => shape,
            None => {
                row.fill(Value::Null);
                watched_present = 0;
                scan::scan(text, |member| {
                    let escaped = memchr(b'\\', member.key.as_bytes()).is_some();
                    self.take(text, member, escaped, row, &mut watched_present);
                })
                .map_err(not_json)?
            }
        };
        Ok(Decoded { text, closing_brace, empty, watched_present })
    }

    /// A later member of the same name takes the place of an earlier one.
    #[inline]
    fn take<'a>(
        &self,
        text: &'a str,
        member: Member<'a>,
        escaped: bool,
        row: &mut [Value<'a>],
        watched: &mut u64,
    ) {
        if let Some(name) = self.names.find(member.key, escaped) {
            *watched |= name.watched;
            if let Some(field) = name.field {
                row[field] = Value::Text(Cow::Borrowed(&text[member.value]));
            }
        }
    }
}

#[cold]
fn not_utf8(value: &[u8]) -> Dead {
    let valid = std::str::from_utf8(value).map_or_else(|error| error.valid_up_to(), str::len);
    Dead::new(DeadReason::NotUtf8, format!("byte {valid}: expected UTF-8"))
}

#[cold]
fn not_json(fault: NotJson) -> Dead {
    Dead::new(DeadReason::NotJson, fault.to_string())
}
