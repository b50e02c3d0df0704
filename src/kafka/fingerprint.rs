//! The fingerprint of a record: what tells it from another record at the same offset of a recreated topic.

use millstream_core::model::{Fingerprint, Offset};
use xxhash_rust::xxh3::Xxh3;

/// Length of a key or a value that is null.
const NULL_LENGTH: i32 = -1;

/// xxh3-64 over: length of the key (i32, little-endian, -1 where null), key, length of the value, value.
pub fn fingerprint(
    offset: Offset,
    timestamp_ms: Option<i64>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Fingerprint {
    let mut hash = Xxh3::new();
    for part in [key, value] {
        let length = part.map_or(NULL_LENGTH, |bytes| bytes.len() as i32);
        hash.update(&length.to_le_bytes());
        hash.update(part.unwrap_or_default());
    }
    Fingerprint { offset, timestamp_ms: timestamp_ms.unwrap_or(-1), hash: hash.digest() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
        fingerprint(Offset(3), Some(1), key, value).hash
    }

    #[test]
    fn null_differs_from_empty() {
        assert_ne!(hash(None, Some(b"v")), hash(Some(b""), Some(b"v")));
        assert_ne!(hash(Some(b"k"), None), hash(Some(b"k"), Some(b"")));
    }

    #[test]
    fn bytes_do_not_move_between_key_and_value() {
        assert_ne!(hash(Some(b"ab"), Some(b"c")), hash(Some(b"a"), Some(b"bc")));
    }

    /// The hash is stored in progress rows: it may not change.
    #[test]
    fn fingerprint_is_fixed() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&1i32.to_le_bytes());
        bytes.extend_from_slice(b"k");
        bytes.extend_from_slice(&(-1i32).to_le_bytes());
        let print = fingerprint(Offset(3), None, Some(b"k"), None);
        assert_eq!(print.hash, xxhash_rust::xxh3::xxh3_64(&bytes));
        assert_eq!((print.offset, print.timestamp_ms), (Offset(3), -1));
    }
}
