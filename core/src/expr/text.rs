//! Text functions. Case changes only ASCII letters, as under collation C; places are counted in characters.

use std::borrow::Cow;
use std::ops::Range;

use super::EvalError;

pub(super) fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return text;
    }
    let mut text = text.into_owned();
    text.make_ascii_lowercase();
    Cow::Owned(text)
}

pub(super) fn upper(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        return text;
    }
    let mut text = text.into_owned();
    text.make_ascii_uppercase();
    Cow::Owned(text)
}

pub(super) fn length(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

/// The bytes of characters `start` to `start + count - 1`, counted from 1; places before the text count, too.
pub(super) fn substring(text: &str, start: i64, count: Option<i64>) -> Result<Range<usize>, EvalError> {
    let end = match count {
        Some(count) if count < 0 => {
            return Err(EvalError(format!("negative substring length: {count}")));
        }
        Some(count) => start.saturating_add(count),
        None => i64::MAX,
    };
    let first = start.max(1);
    let from = byte_of(text, first);
    Ok(if end <= first { from..from } else { from..from + byte_of(&text[from..], end - first + 1) })
}

/// The byte at which the character with this number, from 1, begins; the end of a shorter text.
fn byte_of(text: &str, number: i64) -> usize {
    let skip = usize::try_from(number - 1).unwrap_or(usize::MAX);
    if skip >= text.len() {
        return text.len();
    }
    text.char_indices().nth(skip).map_or(text.len(), |(at, _)| at)
}

/// The bytes of the n-th field from 1, of the last from -1; an empty range where there is none.
pub(super) fn split_part(text: &str, delimiter: &str, n: i64) -> Result<Range<usize>, EvalError> {
    if n == 0 {
        return Err(EvalError("field position of split_part must not be zero".to_owned()));
    }
    if delimiter.is_empty() {
        return Ok(if n == 1 || n == -1 { 0..text.len() } else { 0..0 });
    }
    let number = match u64::try_from(n) {
        Ok(number) => number,
        // Fields are always found from the left; the last is the one after the last delimiter found so.
        Err(_) => {
            let fields = text.matches(delimiter).count() as u64 + 1;
            match (fields + 1).checked_sub(n.unsigned_abs()) {
                Some(number) if number > 0 => number,
                _ => return Ok(0..0),
            }
        }
    };
    let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
    let mut start = 0;
    for (field, part) in text.split(delimiter).enumerate() {
        if field == index {
            return Ok(start..start + part.len());
        }
        start += part.len() + delimiter.len();
    }
    Ok(0..0)
}

/// A part of a text, borrowed where the whole is.
pub(super) fn slice<'r>(text: Cow<'r, str>, range: Range<usize>) -> Cow<'r, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
        Cow::Owned(text) => Cow::Owned(text[range].to_owned()),
    }
}
