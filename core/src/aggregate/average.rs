//! The correctly rounded quotient of two integers.

/// The double nearest to `sum / count`, ties to even. `count` must be positive.
///
/// Both operands may exceed 2^53, so dividing their conversions would round three times. Instead the quotient is
/// taken with 55 significant bits or more, and a sticky bit stands for the remainder; converting that integer
/// rounds once.
pub fn nearest_quotient(sum: i128, count: i64) -> f64 {
    assert!(count > 0, "an average needs a value");
    let (numerator, denominator) = (sum.unsigned_abs(), u128::from(count.unsigned_abs()));
    let spare = numerator.leading_zeros();
    // Sums stay below 2^126 (2^63 values of 2^63), so one bit at least is spare.
    let wanted = 64 + denominator.ilog2();
    let have = 128 - spare;
    let shift = wanted.saturating_sub(have).min(spare);
    let scaled = numerator << shift;
    let quotient = scaled / denominator;
    let sticky = u128::from(!scaled.is_multiple_of(denominator));
    let magnitude = ((quotient | sticky) as f64) * 2f64.powi(-(shift as i32));
    if sum < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::nearest_quotient;

    #[test]
    fn small_quotients_are_those_of_doubles() {
        for (sum, count) in [(1, 3), (-7, 2), (0, 5), (10, 10), (22, 7), (-1, 9)] {
            assert_eq!(nearest_quotient(sum, count), sum as f64 / count as f64, "{sum} / {count}");
        }
    }

    #[test]
    fn large_operands_round_once() {
        // 2^53 + 1 is no double: halves of it and neighbours show a double rounding.
        let odd = (1i128 << 53) + 1;
        assert_eq!(nearest_quotient(odd, 1), 9_007_199_254_740_992.0);
        assert_eq!(nearest_quotient(odd * 3, 3), 9_007_199_254_740_992.0);
        assert_eq!(nearest_quotient((odd + 1) * 7, 7), 9_007_199_254_740_994.0);
        assert_eq!(nearest_quotient(i128::from(i64::MAX) * 5, 5), i64::MAX as f64);
        assert_eq!(nearest_quotient(i128::from(i64::MIN) * 1_000_001, 1_000_001), i64::MIN as f64);
    }
}
