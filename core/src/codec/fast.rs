//! The scanner for what most records look like: a flat object whose strings have no escapes.

use super::scan::{Member, Shape, next_special, number};

/// As `scan::scan`, but gives up on any escape, nesting or fault: `None` says nothing about the text, and what
/// `on_member` was told until then is void.
#[inline]
pub(super) fn scan<'a>(text: &'a str, mut on_member: impl FnMut(Member<'a>)) -> Option<Shape> {
    let bytes = text.as_bytes();
    let mut at = take(bytes, blanks(bytes, 0), b'{')?;
    at = blanks(bytes, at);
    if bytes.get(at) == Some(&b'}') {
        return end_of_text(bytes, at, true);
    }
    loop {
        let key = take(bytes, at, b'"')?;
        let key_end = string_end(bytes, key)?;
        let start = blanks(bytes, take(bytes, blanks(bytes, key_end + 1), b':')?);
        let end = value_end(bytes, start)?;
        on_member(Member { key: &text[key..key_end], value: start..end });
        at = blanks(bytes, end);
        match bytes.get(at)? {
            b',' => at = blanks(bytes, at + 1),
            b'}' => return end_of_text(bytes, at, false),
            _ => return None,
        }
    }
}

fn end_of_text(bytes: &[u8], closing_brace: usize, empty: bool) -> Option<Shape> {
    (blanks(bytes, closing_brace + 1) == bytes.len()).then_some(Shape { closing_brace, empty })
}

#[inline]
fn take(bytes: &[u8], at: usize, byte: u8) -> Option<usize> {
    (bytes.get(at) == Some(&byte)).then_some(at + 1)
}

#[inline]
fn blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

#[inline]
fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    let word = |word: &[u8]| bytes[at..].starts_with(word).then_some(at + word.len());
    match bytes.get(at)? {
        b'"' => Some(string_end(bytes, at + 1)? + 1),
        b'-' | b'0'..=b'9' => number(bytes, at).ok(),
        b't' => word(b"true"),
        b'f' => word(b"false"),
        b'n' => word(b"null"),
        _ => None,
    }
}

/// Index of the quote that ends the string whose inside begins at `at`.
#[inline]
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let end = next_special(bytes, at);
    (bytes.get(end) == Some(&b'"')).then_some(end)
}
