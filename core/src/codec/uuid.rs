//! The text form of `uuid`.

use std::borrow::Cow;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Lower case of a text of 8-4-4-4-12 hex digits in any case; `None` for anything else.
pub(super) fn canonical(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let bytes: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let well_formed = bytes
        .iter()
        .enumerate()
        .all(|(i, &byte)| if HYPHENS.contains(&i) { byte == b'-' } else { byte.is_ascii_hexdigit() });
    if !well_formed {
        return None;
    }
    if bytes.iter().any(u8::is_ascii_uppercase) {
        return Some(Cow::Owned(text.to_ascii_lowercase()));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_in_any_case_is_kept_in_lower_case() {
        let lower = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        assert!(matches!(canonical(lower.into()), Some(Cow::Borrowed(text)) if text == lower));
        assert_eq!(canonical(lower.to_uppercase().into()).as_deref(), Some(lower));
        let malformed = [
            "",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
            "a0eebc9-99c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1\u{e9}",
            " 0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ];
        for text in malformed {
            assert_eq!(canonical(text.into()), None, "{text}");
        }
    }
}
