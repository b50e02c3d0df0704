//! How many distinct values there were, about: an Apache DataSketches HLL (lgK 12, HLL_8, seed 9001).
//!
//! Up to 8 distinct values are a list and up to 384 a hash set of 32-bit coupons, more are 4,096 registers: 0.03 to 4
//! KiB. The estimate is always the composite one, which depends on the values alone and not on their order: counts and
//! registers are those of a set, and the sums behind the estimate are of powers of two that a double holds exactly.
//! P. Flajolet et al., HyperLogLog, 2007; E. Cohen / D. Ting's estimator (HIP), which depends on order, is never read.

use datasketches::hash::value::raw_bytes;
use datasketches::hll::{HllSketch, HllType, HllUnion};

use crate::model::Value;

use super::AccumulatorError;

const LG_K: u8 = 12;
/// What stands for the empty text: other implementations skip a value of no bytes.
const EMPTY_TEXT: [u8; 1] = [0xff];
/// Serialised, where the registers begin if there are any.
const PREAMBLE_BYTES: usize = 40;
const REGISTERS: usize = 1 << LG_K;

/// A set of values, of which only the size can be asked.
#[derive(Clone, Debug)]
pub struct Sketch(HllUnion);

impl Default for Sketch {
    fn default() -> Sketch {
        Sketch(HllUnion::new(LG_K).expect("12 is a valid size"))
    }
}

impl Sketch {
    /// Adds a value that is not null.
    pub fn add(&mut self, value: &Value<'_>) {
        match value {
            Value::Null => {}
            Value::Text(text) if text.is_empty() => self.add_bytes(&EMPTY_TEXT),
            Value::Text(text) => self.add_bytes(text.as_bytes()),
            Value::Bigint(v) => self.add_bytes(&v.to_le_bytes()),
            Value::Timestamp(v) => self.add_bytes(&v.0.to_le_bytes()),
            Value::Double(v) => self.add_bytes(&(if *v == 0.0 { 0.0 } else { *v }).to_le_bytes()),
            Value::Boolean(v) => self.add_bytes(if *v { b"true" } else { b"false" }),
            Value::Date(v) => self.add_bytes(v.to_string().as_bytes()),
            Value::Numeric(v) => self.add_bytes(v.to_string().as_bytes()),
        }
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        self.0.update_value(raw_bytes::from_slice(bytes));
    }

    /// Adds what another one holds: commutative, associative and idempotent.
    pub fn merge(&mut self, other: &Sketch) {
        self.0.update(&other.0.to_sketch(HllType::Hll8));
    }

    /// The number of distinct values, rounded half up.
    pub fn estimate(&self) -> i64 {
        (self.0.composite_estimate() + 0.5).floor() as i64
    }

    /// The estimate for all of them together; 0 for none.
    pub fn estimate_of_all<'s>(sketches: impl IntoIterator<Item = &'s Sketch>) -> i64 {
        let mut all = Sketch::default();
        sketches.into_iter().for_each(|sketch| all.merge(sketch));
        all.estimate()
    }

    /// As every DataSketches library reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_sketch(HllType::Hll8).serialize()
    }

    /// # Errors
    /// For bytes that are no such sketch.
    pub fn from_bytes(bytes: &[u8]) -> Result<Sketch, AccumulatorError> {
        let sketch = HllSketch::deserialize(bytes).map_err(|_| AccumulatorError("not an HLL sketch"))?;
        if sketch.lg_config_k() != LG_K || sketch.target_type() != HllType::Hll8 {
            return Err(AccumulatorError("an HLL sketch of another size"));
        }
        let mut union = Sketch::default();
        union.0.update(&sketch);
        Ok(union)
    }

    pub fn heap_bytes(&self) -> usize {
        size_of::<Sketch>() + self.0.estimated_size()
    }
}

/// The same values: the order in which they came, and what only it decides, does not count.
impl PartialEq for Sketch {
    fn eq(&self, other: &Sketch) -> bool {
        let (a, b) = (self.0.to_sketch(HllType::Hll8), other.0.to_sketch(HllType::Hll8));
        let (x, y) = (a.serialize(), b.serialize());
        match x.len() == PREAMBLE_BYTES + REGISTERS && y.len() == x.len() {
            true => x[PREAMBLE_BYTES..] == y[PREAMBLE_BYTES..],
            false => a == b,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Date, EventTime};

    /// Written by DataSketches' C++ library through its Python package 5.2.0, of the texts `user0`, `user1` and so on:
    /// a list, a hash set, and the registers of a union.
    const LIST_OF_5: &[u8] = include_bytes!("fixtures/hll-5.bin");
    const SET_OF_100: &[u8] = include_bytes!("fixtures/hll-100.bin");
    const REGISTERS_OF_1000: &[u8] = include_bytes!("fixtures/hll-1000.bin");
    /// What that library estimates for so many of these texts, compositely, rounded half up.
    const ESTIMATES: [(u32, i64); 12] = [
        (1, 1),
        (5, 5),
        (9, 9),
        (100, 100),
        (199, 199),
        (384, 384),
        (385, 387),
        (1_000, 1_010),
        (5_000, 4_984),
        (20_000, 20_338),
        (100_000, 100_087),
        (1_000_000, 988_148),
    ];

    fn users(numbers: impl Iterator<Item = u32>) -> Sketch {
        let mut sketch = Sketch::default();
        numbers.for_each(|n| sketch.add(&Value::Text(format!("user{n}").into())));
        sketch
    }

    fn of(value: Value<'_>) -> String {
        let mut sketch = Sketch::default();
        sketch.add(&value);
        sketch.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn estimates_are_those_of_the_original() {
        for (n, expected) in ESTIMATES {
            assert_eq!(users(0..n).estimate(), expected, "{n} values");
        }
        assert_eq!(Sketch::default().estimate(), 0);
    }

    #[test]
    fn bytes_are_those_of_the_original() {
        for (n, bytes) in [(5, LIST_OF_5), (100, SET_OF_100), (1_000, REGISTERS_OF_1000)] {
            let theirs = Sketch::from_bytes(bytes).expect("a sketch");
            assert_eq!(theirs, users(0..n), "{n} values");
            assert_eq!(theirs.to_bytes().len(), bytes.len(), "{n} values");
            let mut both = theirs;
            both.merge(&users(0..n + 10));
            assert_eq!(both, users(0..n + 10), "{n} values");
        }
        assert_eq!(users(0..5).to_bytes(), LIST_OF_5);
    }

    #[test]
    fn values_are_fed_as_the_original_is() {
        // `hll_sketch.update` of "user0", 7, -1, 1.5, 0.0 in Python.
        assert_eq!(of(Value::Text("user0".into())), "0201070c03080108e0266805");
        assert_eq!(of(Value::Bigint(7)), "0201070c03080108c1e91705");
        assert_eq!(of(Value::Timestamp(EventTime(7))), of(Value::Bigint(7)));
        assert_eq!(of(Value::Bigint(-1)), "0201070c03080108d964e70b");
        assert_eq!(of(Value::Double(1.5)), "0201070c0308010822822a14");
        assert_eq!(of(Value::Double(-0.0)), "0201070c03080108cbd7c204");
        assert_eq!(of(Value::Double(0.0)), of(Value::Double(-0.0)));
        assert_eq!(of(Value::Boolean(true)), of(Value::Text("true".into())));
        assert_eq!(of(Value::Date(Date(0))), of(Value::Text("1970-01-01".into())));
        assert_ne!(of(Value::Text("".into())), of(Value::Null), "the empty text is a value");
    }

    #[test]
    fn other_bytes_are_no_sketch() {
        let mut smaller = SET_OF_100.to_vec();
        smaller[3] = 11;
        for bytes in [&[][..], b"sketch", &REGISTERS_OF_1000[..4_000], &smaller] {
            assert!(Sketch::from_bytes(bytes).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Around the borders between list, set and registers, too: 8 and 384 values.
        #[test]
        fn no_split_and_no_order_changes_a_union(
            n in prop_oneof![0u32..20, 300u32..500, 2_000u32..3_000],
            parts in 1usize..6,
            order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle(),
            salt in any::<u32>(),
        ) {
            let of_part = |n: u32| n.wrapping_mul(2_654_435_761).wrapping_add(salt) as usize % parts;
            // Every seventh value is in all parts.
            let sketches: Vec<Sketch> = (0..parts)
                .map(|part| users((0..n).filter(|v| v % 7 == 0 || of_part(*v) == part)))
                .collect();
            let mut union = Sketch::default();
            order.iter().filter_map(|i| sketches.get(*i)).for_each(|sketch| union.merge(sketch));
            let whole = users((0..n).rev());
            prop_assert_eq!(&union, &whole);
            prop_assert_eq!(union.estimate(), whole.estimate());
            prop_assert_eq!(Sketch::estimate_of_all(&sketches), whole.estimate());
            let read = Sketch::from_bytes(&union.to_bytes()).expect("our bytes");
            prop_assert_eq!(read.estimate(), whole.estimate());
            prop_assert_eq!(&read, &whole);
        }

        #[test]
        fn no_bytes_make_it_panic(
            cut in 0usize..4_136,
            at in 0usize..60,
            byte: u8,
            which in 0usize..3,
        ) {
            let mut bytes = [LIST_OF_5, SET_OF_100, REGISTERS_OF_1000][which].to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            if let Ok(sketch) = Sketch::from_bytes(&bytes) {
                let _ = sketch.estimate();
            }
        }
    }
}
