//! The strict JSON scanner: accepts exactly RFC 8259, with one object outermost and bounded nesting.

use std::ops::Range;

/// The outermost object is level 1.
pub(super) const MAX_NESTING: usize = 127;

/// One name and value of the outermost object, as they stand in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// Between the quotes.
    pub(super) key: &'a str,
    /// Byte range of the value, without blanks around it.
    pub(super) value: Range<usize>,
}

/// What there is to know of the outermost object besides its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Byte index of its last brace.
    pub(super) closing_brace: usize,
    /// It has no members.
    pub(super) empty: bool,
}

/// Where a text stops being one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {expected}")]
pub(super) struct NotJson {
    pub(super) at: usize,
    pub(super) expected: &'static str,
}

/// Checks the whole of `text` and calls `on_member` for every member of the outermost object in order, members
/// before the fault included.
pub(super) fn scan<'a>(text: &'a str, mut on_member: impl FnMut(Member<'a>)) -> Result<Shape, NotJson> {
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0 };
    scanner.blanks();
    if scanner.peek() != Some(b'{') {
        return Err(scanner.fault("expected an object"));
    }
    let mut empty = true;
    scanner.object(1, &mut |member| {
        empty = false;
        on_member(member);
    })?;
    let closing_brace = scanner.at - 1;
    scanner.blanks();
    if scanner.peek().is_some() {
        return Err(scanner.fault("expected nothing after the object"));
    }
    Ok(Shape { closing_brace, empty })
}

/// Index after the number that begins at `at`, or the index at which it stops being one.
pub(super) fn number(bytes: &[u8], at: usize) -> Result<usize, usize> {
    let digits = |from: usize| {
        let end = from + bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        if end > from { Ok(end) } else { Err(from) }
    };
    let start = if bytes.get(at) == Some(&b'-') { at + 1 } else { at };
    let mut end = if bytes.get(start) == Some(&b'0') { start + 1 } else { digits(start)? };
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        end = digits(if signed { end + 2 } else { end + 1 })?;
    }
    Ok(end)
}

/// Index of the next quote, backslash or control character from `at` on, or the length where there is none.
#[inline]
pub(super) fn next_special(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        at += 1;
    }
    at
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

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault(&self, expected: &'static str) -> NotJson {
        NotJson { at: self.at, expected }
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), NotJson> {
        if self.peek() != Some(byte) {
            return Err(self.fault(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// `level` is that of the object or array this value may be. Recursion ends at `MAX_NESTING`.
    fn value(&mut self, level: usize) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(level, &mut |_| ()),
            Some(b'[') => self.array(level),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.fault("expected a value")),
        }
    }

    fn object(&mut self, level: usize, on_member: &mut dyn FnMut(Member<'a>)) -> Result<(), NotJson> {
        self.enter(level)?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.at;
            self.string()?;
            let key = &self.text[key + 1..self.at - 1];
            self.blanks();
            self.take(b':', "expected ':' after a name")?;
            self.blanks();
            let start = self.at;
            self.value(level + 1)?;
            on_member(Member { key, value: start..self.at });
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fault("expected ',' or '}' after a member")),
            }
            self.blanks();
        }
    }

    fn array(&mut self, level: usize) -> Result<(), NotJson> {
        self.enter(level)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(level + 1)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fault("expected ',' or ']' after an element")),
            }
            self.blanks();
        }
    }

    /// Past an opening bracket and the blanks after it.
    fn enter(&mut self, level: usize) -> Result<(), NotJson> {
        if level > MAX_NESTING {
            return Err(self.fault("expected at most 127 levels of nesting"));
        }
        self.at += 1;
        self.blanks();
        Ok(())
    }

    fn string(&mut self) -> Result<(), NotJson> {
        self.take(b'"', "expected '\"'")?;
        loop {
            self.at = next_special(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.fault("expected control characters to be escaped")),
                None => return Err(self.fault("expected the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return Err(self.fault("expected four hex digits"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.fault("expected an escape of JSON")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        match number(self.bytes, self.at) {
            Ok(end) => {
                self.at = end;
                Ok(())
            }
            Err(at) => Err(NotJson { at, expected: "expected a digit" }),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), NotJson> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fault("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for plain in [b' ', b'a', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                for length in 0..20 {
                    let mut bytes = vec![plain; length];
                    assert_eq!(next_special(&bytes, 0), length);
                    bytes.push(special);
                    bytes.extend([plain, special, b'"', plain, plain, plain, plain, plain, plain]);
                    assert_eq!(next_special(&bytes, 0), length, "{special} after {length} times {plain}");
                }
            }
        }
    }
}
