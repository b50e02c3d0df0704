//! The formats of local state.
//!
//! | family | key | value |
//! |---|---|---|
//! | meta | `task` | kind 1, version 1, `TaskMeta` by bincode 2 (standard configuration) |
//! | meta | `sources`, of an internal topic's task | kind 5, version 1, the least watermark, then of each source partition its watermark and whether it is idle, by bincode 2 |
//! | sessions | kind 2, version 1, xxh3-64 of the aggregate's name, group key | the key's sessions by their start: each its first and last event time (i64 little endian, microseconds) and the accumulators of the selected columns |
//! | sessions | kind 3, version 1, xxh3-64 of the aggregate's name, slot (as a window start), group key | nothing; one entry for each of kind 2: its last session is over in this slot, which is as long as the gap |
//! | windows | kind 1, version 1, xxh3-64 of the aggregate's name (big endian), window start in microseconds (big endian, sign flipped), group key | the accumulators of the selected columns, one after the other (`aggregate`) |
//! | windows | kind 6, version 1, hash of the aggregate's name, source partition (u32, big endian), window start, group key: of an internal topic's task | as kind 1 |
//! | dedup | kind 4, version 1, generation (u64, big endian), id (xxh3-128 of the key's encoding, big endian) | bucket of event time (i64, little endian) |
//!
//! A group key is the `by` values one after the other, each a tag and an order-preserving, self-delimiting encoding:
//!
//! | tag | type | bytes |
//! |---|---|---|
//! | 1 | boolean | one byte |
//! | 2 | bigint | 8, big endian, sign flipped |
//! | 3 | double | 8, big endian; sign bit flipped if positive, all bits if negative; -0 as 0 |
//! | 4 | timestamp | as bigint, microseconds |
//! | 5 | date | 4, big endian, sign flipped, days |
//! | 6 | text | UTF-8 with 00 as 00 FF, ended by 00 01 |

use std::borrow::Cow;

use bincode::{Decode, Encode};
use xxhash_rust::xxh3::xxh3_64;

use crate::model::{Date, EventTime, Fingerprint, Offset, OwnerEpoch, Partition, RollingHash, Value};

/// The key of the meta family that every task has.
pub const META_KEY: &[u8] = b"task";
/// Where a task of an internal topic keeps how far its sources have come, in the meta family.
pub const SOURCES_KEY: &[u8] = b"sources";

const META_KIND: u8 = 1;
const META_VERSION: u8 = 1;
const WINDOW_KIND: u8 = 1;
const WINDOW_VERSION: u8 = 1;
const SESSION_KIND: u8 = 2;
const SESSION_VERSION: u8 = 1;
const SESSION_SLOT_KIND: u8 = 3;
const SESSION_SLOT_VERSION: u8 = 1;
const DEDUP_KIND: u8 = 4;
const DEDUP_VERSION: u8 = 1;
const SOURCES_KIND: u8 = 5;
const SOURCES_VERSION: u8 = 1;
const SOURCE_WINDOW_KIND: u8 = 6;
const SOURCE_WINDOW_VERSION: u8 = 1;
/// The head of every key of the dedup family.
pub const DEDUP_HEAD: [u8; 2] = [DEDUP_KIND, DEDUP_VERSION];

/// What local state knows of its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskMeta {
    pub application: String,
    pub cluster_id: String,
    pub topic: String,
    pub topic_id: String,
    pub partition: Partition,
    /// R
    pub next: Offset,
    pub hash: RollingHash,
    pub max_event_time: Option<EventTime>,
    pub owner_epoch: OwnerEpoch,
    /// Of the record before `next`; none before the first.
    pub fingerprint: Option<Fingerprint>,
    pub plan_hash: u64,
}

/// Bytes that this version did not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateCodecError {
    #[error("kind {kind} version {version} is not known here")]
    UnknownFormat { kind: u8, version: u8 },
    #[error("malformed: {0}")]
    Malformed(String),
}

#[derive(Encode, Decode)]
struct MetaV1 {
    application: String,
    cluster_id: String,
    topic: String,
    topic_id: String,
    partition: i32,
    next: i64,
    hash: u64,
    max_event_time: Option<i64>,
    owner_epoch: i64,
    fingerprint: Option<(i64, i64, u64)>,
    plan_hash: u64,
}

pub fn encode_meta(meta: &TaskMeta) -> Vec<u8> {
    let row = MetaV1 {
        application: meta.application.clone(),
        cluster_id: meta.cluster_id.clone(),
        topic: meta.topic.clone(),
        topic_id: meta.topic_id.clone(),
        partition: meta.partition.0,
        next: meta.next.0,
        hash: meta.hash.0,
        max_event_time: meta.max_event_time.map(|t| t.0),
        owner_epoch: meta.owner_epoch.0,
        fingerprint: meta.fingerprint.map(|f| (f.offset.0, f.timestamp_ms, f.hash)),
        plan_hash: meta.plan_hash,
    };
    let mut out = vec![META_KIND, META_VERSION];
    bincode::encode_into_std_write(&row, &mut out, bincode::config::standard())
        .expect("a vector takes every write");
    out
}

/// # Errors
/// For any bytes that `encode_meta` of this version did not write.
pub fn decode_meta(bytes: &[u8]) -> Result<TaskMeta, StateCodecError> {
    let malformed = |what: &str| StateCodecError::Malformed(what.to_owned());
    let [kind, version, rest @ ..] = bytes else { return Err(malformed("cut off")) };
    if (*kind, *version) != (META_KIND, META_VERSION) {
        return Err(StateCodecError::UnknownFormat { kind: *kind, version: *version });
    }
    let config = bincode::config::standard().with_limit::<65_536>();
    let (row, read): (MetaV1, usize) =
        bincode::decode_from_slice(rest, config).map_err(|e| malformed(&e.to_string()))?;
    if read != rest.len() {
        return Err(malformed("bytes left over"));
    }
    Ok(TaskMeta {
        application: row.application,
        cluster_id: row.cluster_id,
        topic: row.topic,
        topic_id: row.topic_id,
        partition: Partition(row.partition),
        next: Offset(row.next),
        hash: RollingHash(row.hash),
        max_event_time: row.max_event_time.map(EventTime),
        owner_epoch: OwnerEpoch(row.owner_epoch),
        fingerprint: row.fingerprint.map(|(offset, timestamp_ms, hash)| Fingerprint {
            offset: Offset(offset),
            timestamp_ms,
            hash,
        }),
        plan_hash: row.plan_hash,
    })
}

/// How far the sources of an internal topic's task have come: the least watermark, then each one's with whether it is idle.
pub fn encode_sources(least: Option<EventTime>, marks: &[(Option<EventTime>, bool)]) -> Vec<u8> {
    let marks: Vec<(Option<i64>, bool)> = marks.iter().map(|(at, idle)| (at.map(|t| t.0), *idle)).collect();
    let mut out = vec![SOURCES_KIND, SOURCES_VERSION];
    let config = bincode::config::standard();
    bincode::encode_into_std_write((least.map(|t| t.0), marks), &mut out, config)
        .expect("a vector takes every write");
    out
}

/// The least watermark, and the marks.
pub type SourceMarks = (Option<EventTime>, Vec<(Option<EventTime>, bool)>);

/// # Errors
/// For any bytes that `encode_sources` of this version did not write.
pub fn decode_sources(bytes: &[u8]) -> Result<SourceMarks, StateCodecError> {
    let malformed = |what: &str| StateCodecError::Malformed(what.to_owned());
    let [kind, version, rest @ ..] = bytes else { return Err(malformed("cut off")) };
    if (*kind, *version) != (SOURCES_KIND, SOURCES_VERSION) {
        return Err(StateCodecError::UnknownFormat { kind: *kind, version: *version });
    }
    let config = bincode::config::standard().with_limit::<4_194_304>();
    type Stored = (Option<i64>, Vec<(Option<i64>, bool)>);
    let ((least, marks), read): (Stored, usize) =
        bincode::decode_from_slice(rest, config).map_err(|e| malformed(&e.to_string()))?;
    if read != rest.len() {
        return Err(malformed("bytes left over"));
    }
    let marks = marks.into_iter().map(|(at, idle)| (at.map(EventTime), idle)).collect();
    Ok((least.map(EventTime), marks))
}

/// The common head of all keys of one window; heads of one aggregate, and source partition if there is one, sort by time.
pub fn window_prefix(aggregate: &str, source: Option<Partition>, start: EventTime) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    match source {
        None => key.extend_from_slice(&[WINDOW_KIND, WINDOW_VERSION]),
        Some(_) => key.extend_from_slice(&[SOURCE_WINDOW_KIND, SOURCE_WINDOW_VERSION]),
    }
    key.extend_from_slice(&xxh3_64(aggregate.as_bytes()).to_be_bytes());
    key.extend(source.iter().flat_map(|source| source.0.cast_unsigned().to_be_bytes()));
    key.extend_from_slice(&ordered(start.0).to_be_bytes());
    key
}

/// The common head of all keys with sessions of one aggregate.
pub fn session_prefix(aggregate: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(40);
    key.extend_from_slice(&[SESSION_KIND, SESSION_VERSION]);
    key.extend_from_slice(&xxh3_64(aggregate.as_bytes()).to_be_bytes());
    key
}

/// The common head of all keys whose last session is over in a slot; heads of one aggregate sort by slot.
pub fn session_slot_prefix(aggregate: &str, slot: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    key.extend_from_slice(&[SESSION_SLOT_KIND, SESSION_SLOT_VERSION]);
    key.extend_from_slice(&xxh3_64(aggregate.as_bytes()).to_be_bytes());
    key.extend_from_slice(&ordered(slot).to_be_bytes());
    key
}

/// A head with a group key behind it.
pub fn window_key(prefix: &[u8], group_key: &[u8]) -> Vec<u8> {
    [prefix, group_key].concat()
}

/// The common head of all ids of one generation; heads sort by its number.
pub fn dedup_prefix(generation: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(26);
    key.extend_from_slice(&DEDUP_HEAD);
    key.extend_from_slice(&generation.to_be_bytes());
    key
}

/// Where an id stands in a generation.
pub fn dedup_key(generation: u64, id: u128) -> Vec<u8> {
    let mut key = dedup_prefix(generation);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// Generation and id of a key.
///
/// # Errors
/// For any bytes that `dedup_key` did not write.
pub fn decode_dedup_key(key: &[u8]) -> Result<(u64, u128), StateCodecError> {
    let malformed = || StateCodecError::Malformed(format!("an id's key of {} bytes", key.len()));
    let mut rest = key.strip_prefix(&DEDUP_HEAD).ok_or_else(malformed)?;
    let found = (u64::from_be_bytes(take(&mut rest)?), u128::from_be_bytes(take(&mut rest)?));
    if rest.is_empty() { Ok(found) } else { Err(malformed()) }
}

/// The bucket of event time in which an id was seen.
///
/// # Errors
/// For anything but eight bytes.
pub fn decode_dedup_value(value: &[u8]) -> Result<i64, StateCodecError> {
    let malformed = |_| StateCodecError::Malformed(format!("an id's bucket of {} bytes", value.len()));
    value.try_into().map(i64::from_le_bytes).map_err(malformed)
}

/// Appends `by` values, none of them null.
pub fn encode_group_key(values: &[Value<'_>], out: &mut Vec<u8>) {
    for value in values {
        match value {
            Value::Boolean(v) => out.extend_from_slice(&[1, u8::from(*v)]),
            Value::Bigint(v) => {
                out.push(2);
                out.extend_from_slice(&ordered(*v).to_be_bytes());
            }
            Value::Double(v) => {
                out.push(3);
                out.extend_from_slice(&ordered_double(*v).to_be_bytes());
            }
            Value::Timestamp(v) => {
                out.push(4);
                out.extend_from_slice(&ordered(v.0).to_be_bytes());
            }
            Value::Date(v) => {
                out.push(5);
                out.extend_from_slice(&(v.0.cast_unsigned() ^ (1 << 31)).to_be_bytes());
            }
            Value::Text(v) => {
                out.push(6);
                for piece in v.as_bytes().split_inclusive(|b| *b == 0) {
                    out.extend_from_slice(piece);
                    if piece.ends_with(&[0]) {
                        out.push(0xff);
                    }
                }
                out.extend_from_slice(&[0, 1]);
            }
            Value::Null | Value::Numeric(_) => unreachable!("typed at load: no key is {value:?}"),
        }
    }
}

/// # Errors
/// For any bytes that `encode_group_key` did not write.
pub fn decode_group_key(mut bytes: &[u8]) -> Result<Vec<Value<'static>>, StateCodecError> {
    let mut values = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        values.push(match tag {
            1 => Value::Boolean(take::<1>(&mut bytes)?[0] != 0),
            2 => Value::Bigint(unordered(u64::from_be_bytes(take(&mut bytes)?))),
            3 => Value::Double(unordered_double(u64::from_be_bytes(take(&mut bytes)?))),
            4 => Value::Timestamp(EventTime(unordered(u64::from_be_bytes(take(&mut bytes)?)))),
            5 => Value::Date(Date((u32::from_be_bytes(take(&mut bytes)?) ^ (1 << 31)).cast_signed())),
            6 => Value::Text(Cow::Owned(take_text(&mut bytes)?)),
            _ => return Err(StateCodecError::Malformed(format!("key tag {tag}"))),
        });
    }
    Ok(values)
}

fn take_text(bytes: &mut &[u8]) -> Result<String, StateCodecError> {
    let mut text = Vec::new();
    loop {
        let [byte] = take(bytes)?;
        if byte != 0 {
            text.push(byte);
            continue;
        }
        match take(bytes)? {
            [0xff] => text.push(0),
            [1] => break,
            [other] => return Err(StateCodecError::Malformed(format!("escape {other} in a text key"))),
        }
    }
    String::from_utf8(text).map_err(|e| StateCodecError::Malformed(e.to_string()))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], StateCodecError> {
    let (head, rest) =
        bytes.split_first_chunk::<N>().ok_or_else(|| StateCodecError::Malformed("cut off".into()))?;
    *bytes = rest;
    Ok(*head)
}

fn ordered(v: i64) -> u64 {
    v.cast_unsigned() ^ (1 << 63)
}

fn unordered(v: u64) -> i64 {
    (v ^ (1 << 63)).cast_signed()
}

fn ordered_double(v: f64) -> u64 {
    let bits = if v == 0.0 { 0 } else { v.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

fn unordered_double(v: u64) -> f64 {
    f64::from_bits(if v >> 63 == 1 { v & !(1 << 63) } else { !v })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn meta() -> TaskMeta {
        TaskMeta {
            application: "app".into(),
            cluster_id: "c".into(),
            topic: "t".into(),
            topic_id: "i".into(),
            partition: Partition(3),
            next: Offset(1_000),
            hash: RollingHash(7),
            max_event_time: Some(EventTime(5)),
            owner_epoch: OwnerEpoch(2),
            fingerprint: Some(Fingerprint { offset: Offset(999), timestamp_ms: -1, hash: 9 }),
            plan_hash: 11,
        }
    }

    #[test]
    fn the_meta_format_is_kept() {
        let bytes = encode_meta(&meta());
        assert_eq!(hex(&bytes), "01010361707001630174016906fbd00707010a0401fbce0701090b");
        assert_eq!(decode_meta(&bytes), Ok(meta()));
        assert_eq!(decode_meta(&[1, 2]), Err(StateCodecError::UnknownFormat { kind: 1, version: 2 }));
    }

    #[test]
    fn the_window_key_format_is_kept() {
        let (name, start) = (xxh3_64(b"views"), EventTime(60_000_000));
        assert_eq!(hex(&window_prefix("views", None, start)), format!("0101{name:016x}8000000003938700"));
        let of_source = window_prefix("views", Some(Partition(3)), start);
        assert_eq!(hex(&of_source), format!("0601{name:016x}000000038000000003938700"));
        let mut key = Vec::new();
        encode_group_key(&[Value::Text("/a\0".into()), Value::Bigint(-1), Value::Boolean(true)], &mut key);
        assert_eq!(hex(&key), "062f6100ff0001027fffffffffffffff0101");
    }

    #[test]
    fn the_format_of_sources_is_kept() {
        let marks = (Some(EventTime(-2)), vec![(Some(EventTime(5)), false), (None, true)]);
        let bytes = encode_sources(marks.0, &marks.1);
        assert_eq!(hex(&bytes), "0501010302010a000001");
        assert_eq!(decode_sources(&bytes), Ok(marks));
        assert_eq!(decode_sources(&[5, 2]), Err(StateCodecError::UnknownFormat { kind: 5, version: 2 }));
    }

    #[test]
    fn the_session_key_formats_are_kept() {
        let name = xxh3_64(b"visits");
        assert_eq!(hex(&session_prefix("visits")), format!("0201{name:016x}"));
        assert_eq!(hex(&session_slot_prefix("visits", 7)), format!("0301{name:016x}8000000000000007"));
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Bigint),
            any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(|v| Value::Double(v + 0.0)),
            any::<i64>().prop_map(|v| Value::Timestamp(EventTime(v))),
            any::<i32>().prop_map(|v| Value::Date(Date(v))),
            any::<String>().prop_map(|v| Value::Text(v.into())),
        ]
    }

    proptest! {
        #[test]
        fn group_keys_read_back(values in prop::collection::vec(value(), 0..5)) {
            let mut key = Vec::new();
            encode_group_key(&values, &mut key);
            prop_assert_eq!(decode_group_key(&key), Ok(values));
        }

        #[test]
        fn group_keys_sort_as_their_values(a: i64, b: i64, s in "[a\0b]{0,4}", t in "[a\0b]{0,4}") {
            let key = |v: Value<'_>| { let mut k = Vec::new(); encode_group_key(&[v], &mut k); k };
            prop_assert_eq!(key(Value::Bigint(a)).cmp(&key(Value::Bigint(b))), a.cmp(&b));
            let (x, y) = (key(Value::Text(s.as_str().into())), key(Value::Text(t.as_str().into())));
            prop_assert_eq!(x.cmp(&y), s.as_bytes().cmp(t.as_bytes()));
            let (x, y) = (a as f64 / 3.0, b as f64 / 7.0);
            prop_assert_eq!(key(Value::Double(x)).cmp(&key(Value::Double(y))), x.total_cmp(&y));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
            let _ = decode_group_key(&bytes);
            let _ = decode_meta(&bytes);
            let _ = decode_sources(&bytes);
            let _ = decode_sources(&[&[5, 1], bytes.as_slice()].concat());
            let _ = decode_meta(&[&[1, 1], bytes.as_slice()].concat());
        }
    }
}
