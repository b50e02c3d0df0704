//! One accumulator and its encoding.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_128;

use crate::model::{DataType, Date, EventTime, Value};
use crate::pipeline::{Function, Selected};

use super::{Quantiles, Sketch, nearest_quotient};

/// What one aggregate function keeps. SQL null rules: nulls are skipped; without a value all but counts are null.
#[derive(Clone, Debug, PartialEq)]
pub enum Accumulator {
    Count(i64),
    /// `sum` and `avg` of bigint; exact.
    Integer {
        sum: i128,
        count: i64,
    },
    /// `sum` and `avg` of double.
    Double {
        sum: f64,
        count: i64,
    },
    Min(Value<'static>),
    Max(Value<'static>),
    /// `approx_distinct`; nothing before the first value.
    Distinct(Option<Box<Sketch>>),
    /// `late_rows()`: how many records were late for the windows that start before these times, in their order.
    Late(Vec<(EventTime, i64)>),
    /// `count(distinct)`: the values, each by the xxh3-128 of its encoding. Of windows, those of an epoch only.
    Values(BTreeSet<u128>),
    /// `approx_percentile`. Of windows, those of an epoch only.
    Quantiles(Quantiles),
}

/// Bytes that no accumulator wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an accumulator: {0}")]
pub struct AccumulatorError(pub &'static str);

impl Accumulator {
    /// The empty accumulator of a selected column.
    pub fn empty(selected: &Selected) -> Accumulator {
        let argument = selected.argument.as_ref().map(|a| a.data_type());
        match (selected.function, argument) {
            (Function::Count, _) => Accumulator::Count(0),
            (Function::Sum | Function::Avg, Some(DataType::Double)) => {
                Accumulator::Double { sum: 0.0, count: 0 }
            }
            (Function::Sum | Function::Avg, _) => Accumulator::Integer { sum: 0, count: 0 },
            (Function::Min, _) => Accumulator::Min(Value::Null),
            (Function::Max, _) => Accumulator::Max(Value::Null),
            (Function::ApproxDistinct, _) => Accumulator::Distinct(None),
            (Function::LateRows, _) => Accumulator::Late(Vec::new()),
            (Function::CountDistinct, _) => Accumulator::Values(BTreeSet::new()),
            (Function::ApproxPercentile(_), _) => Accumulator::Quantiles(Quantiles::default()),
        }
    }

    /// Whether the database keeps what a row has seen, and local state nothing: an epoch adds what it has of its own.
    pub fn is_of_epochs(&self) -> bool {
        matches!(self, Accumulator::Values(_) | Accumulator::Quantiles(_))
    }

    /// Adds one argument; `count(*)` and `late_rows()` pass any value that is not null. The record is late for the
    /// windows that start before `late_before`.
    pub fn add(&mut self, value: &Value<'_>, late_before: Option<EventTime>) {
        match (self, value) {
            (_, Value::Null) => {}
            (Accumulator::Late(counts), _) => {
                late_before.into_iter().for_each(|before| add_late(counts, before, 1));
            }
            (Accumulator::Distinct(sketch), v) => sketch.get_or_insert_default().add(v),
            (Accumulator::Values(values), v) => {
                values.insert(identity(v));
            }
            (Accumulator::Quantiles(quantiles), Value::Bigint(v)) => quantiles.add(*v as f64),
            (Accumulator::Quantiles(quantiles), Value::Double(v)) => quantiles.add(*v),
            (Accumulator::Count(n), _) => *n += 1,
            (Accumulator::Integer { sum, count }, Value::Bigint(v)) => {
                *sum += i128::from(*v);
                *count += 1;
            }
            (Accumulator::Double { sum, count }, Value::Double(v)) => {
                *sum += v;
                *count += 1;
            }
            (Accumulator::Min(kept), v) => keep(kept, v, Ordering::Less),
            (Accumulator::Max(kept), v) => keep(kept, v, Ordering::Greater),
            (kept, v) => unreachable!("typed at load: {kept:?} takes no {v:?}"),
        }
    }

    /// Adds what another accumulator of the same column holds.
    pub fn merge(&mut self, other: &Accumulator) {
        match (self, other) {
            (Accumulator::Count(n), Accumulator::Count(m)) => *n += m,
            (Accumulator::Integer { sum, count }, Accumulator::Integer { sum: s, count: c }) => {
                *sum += s;
                *count += c;
            }
            (Accumulator::Double { sum, count }, Accumulator::Double { sum: s, count: c }) => {
                *sum += s;
                *count += c;
            }
            (Accumulator::Min(kept), Accumulator::Min(v)) => keep(kept, v, Ordering::Less),
            (Accumulator::Max(kept), Accumulator::Max(v)) => keep(kept, v, Ordering::Greater),
            (Accumulator::Distinct(_), Accumulator::Distinct(None)) => {}
            (Accumulator::Distinct(kept), Accumulator::Distinct(Some(sketch))) => match kept {
                Some(kept) => kept.merge(sketch),
                None => *kept = Some(sketch.clone()),
            },
            (Accumulator::Late(kept), Accumulator::Late(counts)) => {
                counts.iter().for_each(|(late_before, n)| add_late(kept, *late_before, *n));
            }
            (Accumulator::Values(kept), Accumulator::Values(values)) => kept.extend(values),
            (Accumulator::Quantiles(kept), Accumulator::Quantiles(quantiles)) => kept.merge(quantiles),
            (kept, other) => unreachable!("one column, one kind: {kept:?} and {other:?}"),
        }
    }

    /// The value of the column.
    pub fn finish(&self, function: Function) -> Value<'static> {
        match self {
            Accumulator::Count(n) => Value::Bigint(*n),
            Accumulator::Integer { count: 0, .. } | Accumulator::Double { count: 0, .. } => Value::Null,
            Accumulator::Integer { sum, count } if function == Function::Avg => {
                Value::Double(nearest_quotient(*sum, *count))
            }
            Accumulator::Double { sum, count } if function == Function::Avg => {
                Value::Double(sum / *count as f64)
            }
            Accumulator::Integer { sum, .. } => Value::Numeric(*sum),
            Accumulator::Double { sum, .. } => Value::Double(*sum),
            Accumulator::Min(v) | Accumulator::Max(v) => v.clone(),
            Accumulator::Distinct(sketch) => Value::Bigint(sketch.as_ref().map_or(0, |s| s.estimate())),
            Accumulator::Late(_) => unreachable!("counted per window first"),
            Accumulator::Values(values) => Value::Bigint(values.len() as i64),
            Accumulator::Quantiles(quantiles) => match function {
                Function::ApproxPercentile(q) => {
                    quantiles.value_at(q.get()).map_or(Value::Null, Value::Double)
                }
                other => unreachable!("one function, one kind: {other:?}"),
            },
        }
    }

    /// What a slice adds to the window that starts at `start`: lateness is counted per window.
    pub fn in_window(&self, start: EventTime) -> Accumulator {
        match self {
            Accumulator::Late(counts) => {
                Accumulator::Count(counts.iter().filter(|(before, _)| start < *before).map(|(_, n)| n).sum())
            }
            other => other.clone(),
        }
    }

    /// Bytes outside the accumulator itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Accumulator::Min(Value::Text(text)) | Accumulator::Max(Value::Text(text)) => text.len(),
            Accumulator::Distinct(Some(sketch)) => sketch.heap_bytes(),
            Accumulator::Late(counts) => counts.len() * size_of::<(EventTime, i64)>(),
            Accumulator::Values(values) => values.len() * 2 * size_of::<u128>(),
            Accumulator::Quantiles(quantiles) => quantiles.heap_bytes(),
            _ => 0,
        }
    }

    /// Appends the encoding: a kind byte, then fixed little-endian fields or a value.
    ///
    /// | kind | accumulator | fields |
    /// |---|---|---|
    /// | 1 | count | i64 |
    /// | 2 | integer | i128 sum, i64 count |
    /// | 3 | double | f64 sum, i64 count |
    /// | 4, 5 | min, max | value |
    /// | 6 | distinct | u32 length, the sketch as DataSketches writes it; length 0: no value yet |
    /// | 7 | late | u32 length, so many pairs of i64 microseconds, i64 |
    /// | 8 | values | u32 length, so many u128 in order |
    /// | 9 | quantiles | u32 length, the sketch (`quantiles.rs`) |
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Accumulator::Count(n) => {
                out.push(1);
                out.extend_from_slice(&n.to_le_bytes());
            }
            Accumulator::Integer { sum, count } => {
                out.push(2);
                out.extend_from_slice(&sum.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
            Accumulator::Double { sum, count } => {
                out.push(3);
                out.extend_from_slice(&sum.to_bits().to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
            Accumulator::Min(v) => {
                out.push(4);
                encode_value(v, out);
            }
            Accumulator::Max(v) => {
                out.push(5);
                encode_value(v, out);
            }
            Accumulator::Distinct(sketch) => {
                let bytes = sketch.as_ref().map(|s| s.to_bytes()).unwrap_or_default();
                out.push(6);
                encode_length(bytes.len(), out);
                out.extend_from_slice(&bytes);
            }
            Accumulator::Late(counts) => {
                out.push(7);
                encode_length(counts.len(), out);
                for (late_before, n) in counts {
                    out.extend_from_slice(&late_before.0.to_le_bytes());
                    out.extend_from_slice(&n.to_le_bytes());
                }
            }
            Accumulator::Values(values) => {
                out.push(8);
                encode_length(values.len(), out);
                values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            }
            Accumulator::Quantiles(quantiles) => {
                let bytes = quantiles.to_bytes();
                out.push(9);
                encode_length(bytes.len(), out);
                out.extend_from_slice(&bytes);
            }
        }
    }

    /// Takes one accumulator off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Accumulator, AccumulatorError> {
        Ok(match take::<1>(bytes)?[0] {
            1 => Accumulator::Count(i64::from_le_bytes(take(bytes)?)),
            2 => Accumulator::Integer {
                sum: i128::from_le_bytes(take(bytes)?),
                count: i64::from_le_bytes(take(bytes)?),
            },
            3 => Accumulator::Double {
                sum: f64::from_bits(u64::from_le_bytes(take(bytes)?)),
                count: i64::from_le_bytes(take(bytes)?),
            },
            4 => Accumulator::Min(decode_value(bytes)?),
            5 => Accumulator::Max(decode_value(bytes)?),
            6 => Accumulator::Distinct(match take_sized(bytes)? {
                [] => None,
                sketch => Some(Box::new(Sketch::from_bytes(sketch)?)),
            }),
            7 => {
                let mut counts = Vec::new();
                for _ in 0..u32::from_le_bytes(take(bytes)?) {
                    counts.push((
                        EventTime(i64::from_le_bytes(take(bytes)?)),
                        i64::from_le_bytes(take(bytes)?),
                    ));
                }
                Accumulator::Late(counts)
            }
            8 => {
                let mut values = BTreeSet::new();
                for _ in 0..u32::from_le_bytes(take(bytes)?) {
                    values.insert(u128::from_le_bytes(take(bytes)?));
                }
                Accumulator::Values(values)
            }
            9 => Accumulator::Quantiles(Quantiles::from_bytes(take_sized(bytes)?)?),
            _ => return Err(AccumulatorError("unknown kind")),
        })
    }
}

/// What stands for a value among the distinct ones of its column. Of a billion, two are taken for one with a chance of
/// 10^-21.
fn identity(value: &Value<'_>) -> u128 {
    let mut bytes = Vec::with_capacity(32);
    match value {
        // -0 and 0 are one value.
        Value::Double(v) if *v == 0.0 => encode_value(&Value::Double(0.0), &mut bytes),
        value => encode_value(value, &mut bytes),
    }
    xxh3_128(&bytes)
}

/// Few: a slice belongs to so many windows, and the watermark passes their ends one after the other.
fn add_late(counts: &mut Vec<(EventTime, i64)>, late_before: EventTime, n: i64) {
    match counts.binary_search_by_key(&late_before, |(before, _)| *before) {
        Ok(at) => counts[at].1 += n,
        Err(at) => counts.insert(at, (late_before, n)),
    }
}

fn keep(kept: &mut Value<'static>, candidate: &Value<'_>, wanted: Ordering) {
    if candidate.is_null() {
        return;
    }
    if kept.is_null() || compare(candidate, kept) == wanted {
        *kept = candidate.clone().into_owned();
    }
}

/// Order of two values of one type that are not null; text by bytes (collation C).
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Bigint(a), Value::Bigint(b)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Numeric(a), Value::Numeric(b)) => a.cmp(b),
        (a, b) => unreachable!("typed at load: {a:?} against {b:?}"),
    }
}

/// Appends a value: a kind byte, then fixed little-endian bytes, or a u32 length and text.
pub(crate) fn encode_value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0),
        Value::Boolean(v) => out.extend_from_slice(&[1, u8::from(*v)]),
        Value::Bigint(v) => {
            out.push(2);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Value::Double(v) => {
            out.push(3);
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
        Value::Timestamp(v) => {
            out.push(4);
            out.extend_from_slice(&v.0.to_le_bytes());
        }
        Value::Date(v) => {
            out.push(5);
            out.extend_from_slice(&v.0.to_le_bytes());
        }
        Value::Text(v) => {
            out.push(6);
            encode_length(v.len(), out);
            out.extend_from_slice(v.as_bytes());
        }
        Value::Numeric(v) => {
            out.push(7);
            out.extend_from_slice(&v.to_le_bytes());
        }
    }
}

/// Takes one value off the front of `bytes`.
pub(crate) fn decode_value(bytes: &mut &[u8]) -> Result<Value<'static>, AccumulatorError> {
    Ok(match take::<1>(bytes)?[0] {
        0 => Value::Null,
        1 => Value::Boolean(take::<1>(bytes)?[0] != 0),
        2 => Value::Bigint(i64::from_le_bytes(take(bytes)?)),
        3 => Value::Double(f64::from_bits(u64::from_le_bytes(take(bytes)?))),
        4 => Value::Timestamp(EventTime(i64::from_le_bytes(take(bytes)?))),
        5 => Value::Date(Date(i32::from_le_bytes(take(bytes)?))),
        6 => {
            let text = take_sized(bytes)?;
            let text = std::str::from_utf8(text).map_err(|_| AccumulatorError("text is not UTF-8"))?;
            Value::Text(Cow::Owned(text.to_owned()))
        }
        7 => Value::Numeric(i128::from_le_bytes(take(bytes)?)),
        _ => return Err(AccumulatorError("unknown value kind")),
    })
}

fn encode_length(length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).expect("a record is far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

fn take_sized<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], AccumulatorError> {
    let length = u32::from_le_bytes(take(bytes)?) as usize;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(AccumulatorError("cut off"))?;
    *bytes = rest;
    Ok(taken)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], AccumulatorError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(AccumulatorError("cut off"))?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(accumulator: &Accumulator) -> String {
        let mut bytes = Vec::new();
        accumulator.encode(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_format_is_kept() {
        let mut sketch = Sketch::default();
        sketch.add(&Value::Bigint(7));
        let mut quantiles = Quantiles::default();
        quantiles.add(0.0);
        for (accumulator, bytes) in [
            (Accumulator::Count(3), "010300000000000000"),
            (
                Accumulator::Integer { sum: -1, count: 2 },
                "02ffffffffffffffffffffffffffffffff0200000000000000",
            ),
            (Accumulator::Double { sum: 1.5, count: 1 }, "03000000000000f83f0100000000000000"),
            (Accumulator::Min(Value::Text("a".into())), "04060100000061"),
            (Accumulator::Max(Value::Null), "0500"),
            (Accumulator::Distinct(None), "0600000000"),
            (Accumulator::Distinct(Some(Box::new(sketch))), "060c0000000201070c03080108c1e91705"),
            (Accumulator::Late(vec![(EventTime(5), 2)]), "070100000005000000000000000200000000000000"),
            (Accumulator::Values(BTreeSet::from([1 << 64])), "080100000000000000000000000100000000000000"),
            (Accumulator::Quantiles(quantiles), "09050000000180800801"),
        ] {
            assert_eq!(hex(&accumulator), bytes);
            let bytes: Vec<u8> = (0..bytes.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&bytes[at..at + 2], 16).expect("hex"))
                .collect();
            let mut rest = bytes.as_slice();
            assert_eq!(Accumulator::decode(&mut rest), Ok(accumulator));
            assert!(rest.is_empty());
            let mut cut = &bytes[..bytes.len() - 1];
            assert!(Accumulator::decode(&mut cut).is_err());
        }
    }

    #[test]
    fn lateness_is_counted_for_each_window() {
        let at = |second: i64| EventTime(second * 1_000_000);
        let mut late = Accumulator::Late(Vec::new());
        for before in [None, Some(at(20)), Some(at(10)), Some(at(20))] {
            late.add(&Value::Boolean(true), before);
            late.add(&Value::Null, before);
        }
        let mut twice = late.clone();
        twice.merge(&late);
        for (start, count) in [(0, 3), (9, 3), (10, 2), (19, 2), (20, 0)] {
            assert_eq!(late.in_window(at(start)), Accumulator::Count(count));
            assert_eq!(twice.in_window(at(start)), Accumulator::Count(2 * count));
        }
    }
}
