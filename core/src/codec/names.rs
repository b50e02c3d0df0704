//! Names of the outermost object that somebody wants to know of.

use std::sync::Arc;

use super::escape::unescape;

/// Longer names share one bucket.
const LENGTHS: usize = 64;

/// Looks names up, by length first: most names of a record are nobody's and have no namesake of their length.
#[derive(Debug)]
pub(super) struct Names {
    /// In order of length.
    entries: Vec<Name>,
    /// Where in `entries` the names of each length begin; one more for the end.
    starts: [usize; LENGTHS + 1],
}

/// A name and who wants it.
#[derive(Debug)]
pub(super) struct Name {
    text: Arc<str>,
    /// Index of the declared field of this name.
    pub(super) field: Option<usize>,
    /// One bit per watched name: all those spelled so.
    pub(super) watched: u64,
}

impl Names {
    pub(super) fn new<'n>(fields: impl Iterator<Item = &'n Arc<str>>, watched: &[Arc<str>]) -> Names {
        assert!(watched.len() <= 64, "{} names are watched, a u64 has 64 bits", watched.len());
        let mut entries: Vec<Name> = Vec::new();
        for (field, text) in fields.enumerate() {
            entries.push(Name { text: text.clone(), field: Some(field), watched: 0 });
        }
        for (bit, text) in watched.iter().enumerate() {
            let bit = 1 << bit;
            match entries.iter_mut().find(|name| name.text == *text) {
                Some(name) => name.watched |= bit,
                None => entries.push(Name { text: text.clone(), field: None, watched: bit }),
            }
        }
        entries.sort_by_key(|name| bucket(name.text.len()));
        let mut starts = [0; LENGTHS + 1];
        for (length, start) in starts.iter_mut().enumerate() {
            *start = entries.partition_point(|name| bucket(name.text.len()) < length);
        }
        Names { entries, starts }
    }

    /// `key` as it stands between its quotes, possibly with escapes.
    #[inline]
    pub(super) fn find(&self, key: &str, escaped: bool) -> Option<&Name> {
        if escaped {
            return self.find_plain(&unescape(key)?);
        }
        self.find_plain(key)
    }

    #[inline]
    fn find_plain(&self, key: &str) -> Option<&Name> {
        let bucket = bucket(key.len());
        self.entries[self.starts[bucket]..self.starts[bucket + 1]].iter().find(|name| same(&name.text, key))
    }
}

/// Why: the call behind `==` costs as much as the rest of a lookup; names are short.
#[inline]
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a_last), Some(b_last)) => {
            let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
            a_last == b_last && a_words.iter().zip(b_words).all(|(a, b)| a == b)
        }
        _ => a.iter().zip(b).all(|(a, b)| a == b),
    }
}

#[inline]
fn bucket(length: usize) -> usize {
    length.min(LENGTHS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_their_text_whatever_its_spelling() {
        let long = "x".repeat(100);
        let arcs = |names: &[&str]| names.iter().map(|&n| n.into()).collect::<Vec<Arc<str>>>();
        let names =
            Names::new(arcs(&["user", "page", "", &long, "\u{e9}"]).iter(), &arcs(&["at", "page", "at"]));
        let find = |key: &str| names.find(key, key.contains('\\')).map(|name| (name.field, name.watched));
        let cases = [
            ("user", Some((Some(0), 0))),
            (r"\u0075s\u0065r", Some((Some(0), 0))),
            ("page", Some((Some(1), 0b010))),
            ("", Some((Some(2), 0))),
            (&long, Some((Some(3), 0))),
            ("\u{e9}", Some((Some(4), 0))),
            (r"\u00e9", Some((Some(4), 0))),
            ("at", Some((None, 0b101))),
            ("User", None),
            ("users", None),
            (r"\ud800", None),
            (r"user\ud800", None),
        ];
        for (key, expected) in cases {
            assert_eq!(find(key), expected, "{key}");
        }
        assert_eq!(find(&"x".repeat(99)), None);
    }

    #[test]
    fn sameness_is_that_of_every_byte() {
        for length in 0..40 {
            let name = "n".repeat(length);
            assert!(same(&name, &name.clone()));
            assert!(!same(&name, &"n".repeat(length + 1)));
            for at in 0..length {
                let other = format!("{}x{}", &name[..at], &name[at + 1..]);
                assert!(!same(&name, &other), "{other}");
            }
        }
    }
}
