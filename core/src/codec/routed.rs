//! The values of an internal topic: a record of a repartitioned source behind a prefix, or a tick.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version 1 |
//! | 1 | flags: 1 Kafka timestamp, 2 watermark, 4 key, 8 tick, 16 idle (of a tick) |
//! | 4, 4 | the source's partition, and how many partitions the source is known to have |
//! | 8 | of a record its offset in the source, of a tick the next offset that its router reads |
//! | 8 | if 1: the source record's Kafka timestamp in milliseconds |
//! | 8 | if 2: of a record its partition's watermark before it, of a tick the watermark, in microseconds |
//! | 4, n | if 4: length and bytes of the source record's key |
//! | rest | the source record's value; nothing of a tick |
//!
//! Numbers are little endian. The message's key is the text of the field that spreads the records, its headers are the source
//! record's; a tick has neither.

use std::ops::Range;

use super::state::StateCodecError;
use crate::model::{EventTime, Offset, Partition};

const VERSION: u8 = 1;
const TIMESTAMP: u8 = 1;
const WATERMARK: u8 = 2;
const KEY: u8 = 4;
const TICK: u8 = 8;
const IDLE: u8 = 16;

/// Where a value of an internal topic comes from, and how far its source had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutedHead {
    pub partition: Partition,
    /// How many partitions the source has at least: more may have come since they were counted.
    pub partitions: i32,
    pub offset: Offset,
    pub watermark: Option<EventTime>,
}

/// One value of an internal topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed<'a> {
    Record {
        head: RoutedHead,
        timestamp_ms: Option<i64>,
        key: Option<&'a [u8]>,
        value: &'a [u8],
    },
    /// The source's watermark has come this far, or its partition has fallen idle.
    Tick {
        head: RoutedHead,
        idle: bool,
    },
}

impl<'a> Routed<'a> {
    /// Where the number of partitions stands. Everything else in a copy is a function of the source's log: the same
    /// whenever it is written.
    pub const PARTITIONS: Range<usize> = 6..10;

    /// Appends the value's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (head, timestamp_ms, key, value, kind) = match *self {
            Routed::Record { head, timestamp_ms, key, value } => (head, timestamp_ms, key, value, 0),
            Routed::Tick { head, idle } => (head, None, None, &[][..], TICK | if idle { IDLE } else { 0 }),
        };
        let flag = |there: bool, flag: u8| if there { flag } else { 0 };
        let flags = flag(timestamp_ms.is_some(), TIMESTAMP)
            | flag(head.watermark.is_some(), WATERMARK)
            | flag(key.is_some(), KEY);
        out.extend_from_slice(&[VERSION, kind | flags]);
        out.extend_from_slice(&head.partition.0.to_le_bytes());
        out.extend_from_slice(&head.partitions.to_le_bytes());
        out.extend_from_slice(&head.offset.0.to_le_bytes());
        out.extend(timestamp_ms.iter().flat_map(|ms| ms.to_le_bytes()));
        out.extend(head.watermark.iter().flat_map(|at| at.0.to_le_bytes()));
        if let Some(key) = key {
            let length = u32::try_from(key.len()).expect("Kafka's keys are shorter than 2 GiB");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(key);
        }
        out.extend_from_slice(value);
    }

    /// # Errors
    /// For any bytes that `encode` of this version did not write.
    pub fn decode(bytes: &'a [u8]) -> Result<Routed<'a>, StateCodecError> {
        let mut rest = bytes;
        let [version, flags] = take(&mut rest)?;
        if version != VERSION || flags & !(TIMESTAMP | WATERMARK | KEY | TICK | IDLE) != 0 {
            return Err(StateCodecError::UnknownFormat { kind: flags, version });
        }
        let partition = Partition(i32::from_le_bytes(take(&mut rest)?));
        let partitions = i32::from_le_bytes(take(&mut rest)?);
        let offset = Offset(i64::from_le_bytes(take(&mut rest)?));
        if !(0..partitions).contains(&partition.0) || offset.0 < 0 {
            return Err(malformed(&format!("offset {offset} of partition {partition} of {partitions}")));
        }
        let mut number = |flag: u8| match flags & flag {
            0 => Ok(None),
            _ => take(&mut rest).map(|bytes| Some(i64::from_le_bytes(bytes))),
        };
        let timestamp_ms = number(TIMESTAMP)?;
        let watermark = number(WATERMARK)?.map(EventTime);
        let head = RoutedHead { partition, partitions, offset, watermark };
        if flags & TICK != 0 {
            let plain = flags & (TIMESTAMP | KEY) == 0 && rest.is_empty();
            return match plain {
                true => Ok(Routed::Tick { head, idle: flags & IDLE != 0 }),
                false => Err(malformed("a tick with a record")),
            };
        }
        if flags & IDLE != 0 {
            return Err(malformed("an idle record"));
        }
        let key = match flags & KEY {
            0 => None,
            _ => {
                let length = u32::from_le_bytes(take(&mut rest)?) as usize;
                let (key, left) = rest.split_at_checked(length).ok_or_else(|| malformed("a key cut off"))?;
                rest = left;
                Some(key)
            }
        };
        Ok(Routed::Record { head, timestamp_ms, key, value: rest })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], StateCodecError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| malformed("cut off"))?;
    *bytes = rest;
    Ok(*head)
}

fn malformed(what: &str) -> StateCodecError {
    StateCodecError::Malformed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(watermark: Option<i64>) -> RoutedHead {
        let watermark = watermark.map(EventTime);
        RoutedHead { partition: Partition(2), partitions: 3, offset: Offset(7), watermark }
    }

    fn encoded(routed: &Routed<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        routed.encode(&mut bytes);
        bytes
    }

    #[test]
    fn the_format_is_kept() {
        let hex = |routed| encoded(routed).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let full =
            Routed::Record { head: head(Some(-2)), timestamp_ms: Some(5), key: Some(b"k"), value: b"{}" };
        let place = "0200000003000000".to_owned() + "0700000000000000";
        let numbers = "0500000000000000".to_owned() + "feffffffffffffff";
        assert_eq!(hex(&full), format!("0107{place}{numbers}010000006b7b7d"));
        let bare = Routed::Record { head: head(None), timestamp_ms: None, key: None, value: b"{}" };
        assert_eq!(hex(&bare), format!("0100{place}7b7d"));
        assert_eq!(hex(&Routed::Tick { head: head(None), idle: true }), format!("0118{place}"));
        let newer = [&[2], &encoded(&bare)[1..]].concat();
        assert_eq!(Routed::decode(&newer), Err(StateCodecError::UnknownFormat { kind: 0, version: 2 }));
    }

    #[test]
    fn what_no_router_writes_is_no_value() {
        let tick = encoded(&Routed::Tick { head: head(Some(1)), idle: false });
        assert!(Routed::decode(&tick).is_ok());
        assert!(Routed::decode(&[&tick[..], b"{}"].concat()).is_err(), "a tick with a value");
        let elsewhere = RoutedHead { partition: Partition(3), ..head(None) };
        assert!(Routed::decode(&encoded(&Routed::Tick { head: elsewhere, idle: false })).is_err());
        assert!(Routed::decode(b"{\"at\":0}").is_err());
    }

    proptest! {
        #[test]
        fn records_and_ticks_read_back(
            (number, of) in (1i32..100).prop_flat_map(|of| (0..of, Just(of))), offset in 0i64..,
            watermark: Option<i64>, timestamp_ms: Option<i64>, key: Option<Vec<u8>>, value: Vec<u8>, idle: bool,
        ) {
            let (partition, watermark) = (Partition(number), watermark.map(EventTime));
            let head = RoutedHead { partition, partitions: of, offset: Offset(offset), watermark };
            let record = Routed::Record { head, timestamp_ms, key: key.as_deref(), value: &value };
            let bytes = encoded(&record);
            prop_assert_eq!(Routed::decode(&bytes), Ok(record));
            let tick = Routed::Tick { head, idle };
            let bytes = encoded(&tick);
            prop_assert_eq!(Routed::decode(&bytes), Ok(tick));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>, flags in 0u8..32) {
            let _ = Routed::decode(&bytes);
            let _ = Routed::decode(&[&[1, flags], bytes.as_slice()].concat());
        }
    }
}
