//! About which value stands at a rank: a DDSketch of 1 % relative accuracy.
//!
//! C. Masson, J. E. Rim, H. K. Lee, DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees,
//! VLDB 2019, with the linearly interpolated mapping (section 2.2 of its Java library's mappings): every power of two is cut
//! into 64 equal bins, so a bin is at most 1/64 wide, and its harmonic middle is off by 0.78 % at most. The bin of a double
//! is its exponent and six bits of its fraction: no logarithm, and the same on every machine. Bins are never collapsed.
//!
//! Why not a crate: `sketches-ddsketch` takes logarithms of the platform and collapses bins.

use std::collections::BTreeMap;

use super::AccumulatorError;

/// What is left of a double's bits is its bin: 11 of the exponent and 6 of the fraction.
const SHIFT: u32 = 52 - 6;
const BINS_PER_OCTAVE: i32 = 64;
/// Doubles below 2^-1022 lose bits; they count as 0.
const LEAST_BIN: i32 = BINS_PER_OCTAVE;
const MOST_BIN: i32 = 2_047 * BINS_PER_OCTAVE - 1;
/// Before every bin.
const BEFORE_FIRST: i32 = -(1 << 17);
/// More than any topic holds, and far enough from overflow.
const MOST_COUNT: u64 = 1 << 52;

/// How many values fell into each bin. Bins are numbered as their values are ordered: positive ones from above, 0 for
/// zero, negative ones mirrored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    bins: BTreeMap<i32, i64>,
}

impl Quantiles {
    /// Adds a finite value.
    pub fn add(&mut self, value: f64) {
        let bin = (value.abs().to_bits() >> SHIFT) as i32;
        let bin = if bin < LEAST_BIN { 0 } else { bin };
        *self.bins.entry(if value < 0.0 { -bin } else { bin }).or_default() += 1;
    }

    /// Adds what another one holds: commutative and associative, not idempotent.
    pub fn merge(&mut self, other: &Quantiles) {
        for (bin, count) in &other.bins {
            *self.bins.entry(*bin).or_default() += count;
        }
    }

    /// The value of rank `floor(q * (n - 1))`, from 0, of the n values in order; none without a value.
    pub fn value_at(&self, q: f64) -> Option<f64> {
        let count: i128 = self.bins.values().map(|n| i128::from(*n)).sum();
        let rank = (q * (count - 1) as f64).floor() as i128;
        let mut below = 0;
        for (bin, count) in &self.bins {
            below += i128::from(*count);
            if below > rank {
                return Some(middle(*bin));
            }
        }
        None
    }

    pub fn heap_bytes(&self) -> usize {
        // Leaves of the tree are about three quarters full.
        self.bins.len() * (size_of::<(i32, i64)>() + 8)
    }

    /// Version 1, then per bin in order: how far it is from the one before (at first from -2^17) and how many values it has,
    /// both as LEB128.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 3 * self.bins.len());
        bytes.push(1);
        let mut before = BEFORE_FIRST;
        for (bin, count) in &self.bins {
            write_number(u64::from(bin.abs_diff(before)), &mut bytes);
            write_number(count.cast_unsigned(), &mut bytes);
            before = *bin;
        }
        bytes
    }

    /// # Errors
    /// For bytes that `to_bytes` did not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Quantiles, AccumulatorError> {
        let Some((1, mut rest)) = bytes.split_first() else {
            return Err(AccumulatorError("not a quantile sketch"));
        };
        let (mut bins, mut before) = (BTreeMap::new(), i64::from(BEFORE_FIRST));
        while !rest.is_empty() {
            let step = i64::try_from(read_number(&mut rest)?).unwrap_or(i64::MAX);
            let count = read_number(&mut rest)?;
            let bin = before.saturating_add(step);
            let known = bin == 0 || (i64::from(LEAST_BIN)..=i64::from(MOST_BIN)).contains(&bin.abs());
            if !known || step == 0 || !(1..=MOST_COUNT).contains(&count) {
                return Err(AccumulatorError("a bin that no value has"));
            }
            bins.insert(bin as i32, count.cast_signed());
            before = bin;
        }
        Ok(Quantiles { bins })
    }
}

/// The value whose relative distance to both ends of a bin is the same: `2lu / (l + u)` for its ends l and u.
fn middle(bin: i32) -> f64 {
    if bin == 0 {
        return 0.0;
    }
    let low = f64::from_bits(u64::from(bin.unsigned_abs()) << SHIFT);
    let part = f64::from(bin.abs() % BINS_PER_OCTAVE + BINS_PER_OCTAVE);
    let value = low * (2.0 * (part + 1.0) / (2.0 * part + 1.0));
    if bin < 0 { -value } else { value }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> Result<u64, AccumulatorError> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(AccumulatorError("cut off"))?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(AccumulatorError("a number of more than 63 bits"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Quantiles {
        let mut quantiles = Quantiles::default();
        values.iter().for_each(|value| quantiles.add(*value));
        quantiles
    }

    /// By sorting.
    fn exact(values: &[f64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[(q * (sorted.len() - 1) as f64).floor() as usize]
    }

    fn value() -> impl Strategy<Value = f64> {
        let finite = any::<f64>()
            .prop_filter("finite", |v| v.is_finite() && (*v == 0.0 || v.abs() >= f64::MIN_POSITIVE));
        prop_oneof![finite, (-1_000i32..100_000).prop_map(|v| f64::from(v) / 7.0), Just(0.0), Just(-0.0)]
    }

    #[test]
    fn the_ends_of_the_range_have_their_bins() {
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -f64::MIN_POSITIVE, 1.0, -3.5, 0.0] {
            let found = of(&[value]).value_at(0.5).expect("a value");
            assert!((found - value).abs() <= 0.01 * value.abs(), "{value}: {found}");
        }
        assert_eq!(of(&[f64::MIN_POSITIVE / 2.0, -5e-324]).value_at(1.0), Some(0.0));
        assert_eq!(Quantiles::default().value_at(0.5), None);
    }

    #[test]
    fn the_format_is_kept() {
        let quantiles = of(&[-2.0, 0.0, 0.0, 1.0, 1.0, 1.02]);
        let hex: String = quantiles.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "01 80800401 80800402 c0ff0302 0101".replace(' ', ""));
        for bytes in
            [&b""[..], &[2], &[1, 0x80], &[1, 0, 1], &[1, 1, 1], &[1, 0x80, 0x80, 0xfc, 0xff, 0x07, 0]]
        {
            assert!(Quantiles::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_rank_is_within_one_percent(values in prop::collection::vec(value(), 1..60), q in 0.0f64..=1.0) {
            let quantiles = of(&values);
            for q in [q, 0.0, 0.5, 1.0] {
                let (found, wanted) = (quantiles.value_at(q).expect("a value"), exact(&values, q));
                prop_assert!((found - wanted).abs() <= 0.01 * wanted.abs(), "{} for {}", found, wanted);
            }
            prop_assert_eq!(Quantiles::from_bytes(&quantiles.to_bytes()), Ok(quantiles));
        }

        #[test]
        fn no_split_and_no_order_changes_a_merge(
            values in prop::collection::vec(value(), 0..60),
            cuts in prop::collection::vec(0usize..60, 2),
        ) {
            let (a, b) = (cuts[0].min(cuts[1]).min(values.len()), cuts[0].max(cuts[1]).min(values.len()));
            let parts = [of(&values[..a]), of(&values[a..b]), of(&values[b..])];
            for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
                let mut merged = Quantiles::default();
                order.iter().for_each(|i| merged.merge(&parts[*i]));
                prop_assert_eq!(&merged, &of(&values));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let _ = Quantiles::from_bytes(&bytes).map(|q| q.value_at(0.5));
            let _ = Quantiles::from_bytes(&[&[1], bytes.as_slice()].concat()).map(|q| q.value_at(0.5));
        }
    }
}
