//! The scanner for what most records look like: a flat object whose strings have no escapes.

use super::scan::{Member, Shape, number};

/// As `scan::scan`, but gives up on any escape, nesting or fault: `None` says nothing about the text, and what
/// `on_member` was told until then is void.
#[inline]
pub(super) fn scan<'a>(text: &'a str, mut on_member: impl FnMut(Member<'a>)) -> Option<Shape> {
    let bytes = text.as_bytes();
    let mut at = take(bytes, blanks(bytes, 0), b'{')?;
    at = blanks(bytes, at);
    let empty = bytes.get(at) == Some(&b'}');
    while !empty {
        let key = take(bytes, at, b'"')?;
        let key_end = string_end(bytes, key)?;
        let start = blanks(bytes, take(bytes, blanks(bytes, key_end + 1), b':')?);
        let end = value_end(bytes, start)?;
        on_member(Member { key: &text[key..key_end], value: start..end });
        at = blanks(bytes, end);
        match bytes.get(at)? {
            b',' => at = blanks(bytes, at + 1),
            b'}' => break,
            _ => return None,
        }
    }
    let nothing_after = blanks(bytes, at + 1) == bytes.len();
    nothing_after.then_some(Shape { closing_brace: at, empty })
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
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            let at = at + special.trailing_zeros() as usize / 8;
            return (bytes[at] == b'"').then_some(at);
        }
        at += 8;
    }
    let special = bytes.get(at..)?.iter().position(|&b| matches!(b, b'"' | b'\\' | 0..0x20))?;
    (bytes[at + special] == b'"').then_some(at + special)
}

/// The top bit of each byte that is a quote, a backslash or a control character; bits above the lowest one set may
/// be wrong (Mycroft's zero-in-word test).
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES * 0x80;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (equal(b'"') | equal(b'\\') | below(word, 0x20)) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for plain in [b' ', b'a', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xff] {
                for length in 0..20 {
                    let mut bytes = vec![plain; length];
                    bytes.push(special);
                    bytes.extend([plain, special, b'"', plain, plain, plain, plain, plain, plain]);
                    let expected = (special == b'"').then_some(length);
                    assert_eq!(string_end(&bytes, 0), expected, "{special} after {length} times {plain}");
                }
            }
        }
    }

    #[test]
    fn a_string_without_end_has_none() {
        assert_eq!(string_end(b"", 0), None);
        assert_eq!(string_end(b"abc", 3), None);
        assert_eq!(string_end(b"abcdefghijk", 0), None);
    }
}
