//! Fields added to a record without touching the bytes around them.

use std::sync::Arc;

use super::decode::Decoded;
use super::escape::unescape;
use super::scan::scan;

/// The names of the fields that one output adds to its records, prepared once.
#[derive(Debug)]
pub struct SpliceNames {
    names: Vec<SpliceName>,
    /// The watched bits of all names.
    watched: u64,
}

#[derive(Debug)]
struct SpliceName {
    text: Arc<str>,
    /// `,"name":`
    introduction: Vec<u8>,
    watched: u64,
}

impl SpliceNames {
    /// `watched` is what the decoder of these records was told to watch; all of `names` are among it.
    pub fn new(names: &[Arc<str>], watched: &[Arc<str>]) -> SpliceNames {
        let prepare = |text: &Arc<str>| {
            let bit = watched.iter().position(|name| name == text);
            let bit = bit.unwrap_or_else(|| panic!("the decoder does not watch {text}"));
            let introduction = format!(",{}:", serde_json::Value::from(&**text)).into_bytes();
            SpliceName { text: text.clone(), introduction, watched: 1 << bit }
        };
        let names: Vec<SpliceName> = names.iter().map(prepare).collect();
        let watched = names.iter().fold(0, |bits, name| bits | name.watched);
        SpliceNames { names, watched }
    }
}

/// Appends the enriched record to `out`: the input's bytes up to the closing brace, the fields it does not have yet
/// in the order of `names`, then the brace and whatever follows it. A field it has already gets its value replaced in
/// place, at every occurrence in the outermost object.
///
/// `value` gives the JSON of a field by its index in `names`; `written` is told, for every place a value goes to, the
/// index and the position in `out`.
pub fn splice<'v>(
    decoded: &Decoded<'_>,
    names: &SpliceNames,
    value: impl Fn(usize) -> &'v [u8],
    out: &mut Vec<u8>,
    mut written: impl FnMut(usize, usize),
) {
    let bytes = decoded.text.as_bytes();
    let mut put = |field: usize, out: &mut Vec<u8>| {
        written(field, out.len());
        out.extend_from_slice(value(field));
    };
    let mut copied = 0;
    if decoded.watched_present & names.watched != 0 {
        let scanned = scan(decoded.text, |member| {
            if let Some(field) = names.position(member.key) {
                out.extend_from_slice(&bytes[copied..member.value.start]);
                put(field, out);
                copied = member.value.end;
            }
        });
        assert!(scanned.is_ok(), "a decoded record is JSON");
    }
    out.extend_from_slice(&bytes[copied..decoded.closing_brace]);
    let mut comma = !decoded.empty;
    for (field, name) in names.names.iter().enumerate() {
        if decoded.watched_present & name.watched == 0 {
            out.extend_from_slice(&name.introduction[usize::from(!comma)..]);
            put(field, out);
            comma = true;
        }
    }
    out.extend_from_slice(&bytes[decoded.closing_brace..]);
}

impl SpliceNames {
    /// `key` as it stands between its quotes.
    fn position(&self, key: &str) -> Option<usize> {
        let key = unescape(key)?;
        self.names.iter().position(|name| *name.text == *key)
    }
}
