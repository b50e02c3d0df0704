//! The escapes of JSON strings. Takes only what a scanner has accepted: escapes are well formed here.

use std::borrow::Cow;

use memchr::memchr;

/// What the escapes of some JSON amount to beyond ordinary characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Escapes {
    /// An escape of half a surrogate pair: no Unicode text has it.
    pub(super) lone_surrogate: bool,
    /// An escape of U+0000.
    pub(super) nul: bool,
}

/// The escapes of all strings in `json`, which may be the inside of a string or a whole value.
pub(super) fn escapes_in(json: &str) -> Escapes {
    let mut found = Escapes::default();
    let mut rest = json.as_bytes();
    while let Some(at) = memchr(b'\\', rest) {
        let (char, after) = unescape_one(&rest[at + 1..]);
        found.lone_surrogate |= char.is_none();
        found.nul |= char == Some('\0');
        rest = after;
    }
    found
}

/// The text that `inner`, the inside of a JSON string, stands for; `None` where it holds a lone surrogate.
pub(super) fn unescape(inner: &str) -> Option<Cow<'_, str>> {
    let Some(first) = memchr(b'\\', inner.as_bytes()) else {
        return Some(Cow::Borrowed(inner));
    };
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    let mut next = Some(first);
    while let Some(at) = next {
        text.push_str(&rest[..at]);
        let (char, after) = unescape_one(&rest.as_bytes()[at + 1..]);
        text.push(char?);
        rest = &rest[rest.len() - after.len()..];
        next = memchr(b'\\', rest.as_bytes());
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// The character of the escape whose backslash stands before `bytes`, and what follows the escape.
fn unescape_one(bytes: &[u8]) -> (Option<char>, &[u8]) {
    let Some((&letter, rest)) = bytes.split_first() else {
        return (None, bytes);
    };
    match letter {
        b'b' => (Some('\u{8}'), rest),
        b'f' => (Some('\u{c}'), rest),
        b'n' => (Some('\n'), rest),
        b'r' => (Some('\r'), rest),
        b't' => (Some('\t'), rest),
        b'u' => unescape_hex(rest),
        other => (Some(char::from(other)), rest),
    }
}

fn unescape_hex(bytes: &[u8]) -> (Option<char>, &[u8]) {
    let Some((unit, rest)) = hex_unit(bytes) else {
        return (None, bytes);
    };
    if let [b'\\', b'u', low @ ..] = rest
        && (0xd800..0xdc00).contains(&unit)
        && let Some((low, after)) = hex_unit(low)
        && (0xdc00..0xe000).contains(&low)
    {
        return (char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)), after);
    }
    (char::from_u32(unit), rest)
}

fn hex_unit(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_first_chunk::<4>()?;
    let unit = digits.iter().try_fold(0, |unit, &b| Some(unit * 16 + char::from(b).to_digit(16)?))?;
    Some((unit, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_their_characters() {
        let cases = [
            ("", Some("")),
            ("plain \u{e9}", Some("plain \u{e9}")),
            (r#"\"\\\/\b\f\n\r\t"#, Some("\"\\/\u{8}\u{c}\n\r\t")),
            (r"a\u0041\u00e9\u20acz", Some("aA\u{e9}\u{20ac}z")),
            (r"\uD83D\uDE00!", Some("\u{1f600}!")),
            (r"\u0000", Some("\0")),
            (r"\\u0000", Some(r"\u0000")),
            (r"\ud83d", None),
            (r"\ude00", None),
            (r"\ude00\ud83d", None),
            (r"\ud83d\ud83d\ude00", None),
            (r"\ud83d\n", None),
            (r"\ud83dx\ude00", None),
        ];
        for (inner, text) in cases {
            assert_eq!(unescape(inner).as_deref(), text, "{inner}");
            assert_eq!(escapes_in(inner).lone_surrogate, text.is_none(), "{inner}");
            assert_eq!(escapes_in(inner).nul, text.is_some_and(|t| t.contains('\0')), "{inner}");
        }
        assert!(matches!(unescape("no escape"), Some(Cow::Borrowed("no escape"))));
    }

    #[test]
    fn escapes_are_found_at_any_depth() {
        let found = escapes_in(r#"{"a":[{"\u0000":1},"\udfff"]}"#);
        assert_eq!(found, Escapes { lone_surrogate: true, nul: true });
        assert_eq!(escapes_in(r#"{"a":["\\u0000","\ud83d\ude00"]}"#), Escapes::default());
    }
}
