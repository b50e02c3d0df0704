//! The parts of a URL reference, split as RFC 3986 (section 3 and appendix B) splits them, without
//! validation.

use std::borrow::Cow;
use std::ops::Range;

/// Byte ranges of a reference's components.
struct Parts {
    authority: Option<Range<usize>>,
    path: Range<usize>,
    query: Option<Range<usize>>,
}

/// Where the host stands, without userinfo and port; `None` without an authority or where its host is
/// empty. The brackets of an IPv6 address belong to it.
pub(super) fn host(url: &str) -> Option<Range<usize>> {
    let authority = split(url).authority?;
    let text = &url[authority.clone()];
    let from = text.rfind('@').map_or(0, |at| at + 1);
    let host = &text[from..];
    let length = match host.starts_with('[').then(|| host.find(']')).flatten() {
        Some(end) => end + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let start = authority.start + from;
    (length > 0).then_some(start..start + length)
}

/// The path without query and fragment; `/` where it is empty after an authority.
pub(super) fn path(url: Cow<'_, str>) -> Cow<'_, str> {
    let parts = split(&url);
    if parts.path.is_empty() && parts.authority.is_some() {
        return Cow::Borrowed("/");
    }
    super::text::slice(url, parts.path)
}

/// The value of the first query parameter `utm_<name>`: percent-decoded, `+` as a space; empty without `=`.
/// `None` where it is absent or no text (not UTF-8, or with the character U+0000).
pub(super) fn utm(url: &str, name: &str) -> Option<String> {
    let query = &url[split(url).query?];
    query
        .split('&')
        .find_map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (key.strip_prefix("utm_")? == name).then_some(value)
        })
        .and_then(decoded)
}

fn split(url: &str) -> Parts {
    let bytes = url.as_bytes();
    let fragment = url.find('#').unwrap_or(url.len());
    let question = url[..fragment].find('?');
    let query = question.map(|at| at + 1..fragment);
    let hierarchy = question.unwrap_or(fragment);
    let after_scheme = scheme_length(&bytes[..hierarchy]);
    if !url[after_scheme..hierarchy].starts_with("//") {
        return Parts { authority: None, path: after_scheme..hierarchy, query };
    }
    let start = after_scheme + 2;
    let end = url[start..hierarchy].find('/').map_or(hierarchy, |at| start + at);
    Parts { authority: Some(start..end), path: end..hierarchy, query }
}

/// The bytes of `scheme:`, 0 if there is none.
fn scheme_length(text: &[u8]) -> usize {
    match text.iter().position(|b| !(b.is_ascii_alphanumeric() || b"+-.".contains(b))) {
        Some(end) if text[end] == b':' && text[0].is_ascii_alphabetic() => end + 1,
        _ => 0,
    }
}

fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match after {
            [high, low, ..] if first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = &after[2..];
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
