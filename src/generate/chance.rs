//! Random numbers that a seed fixes for ever.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
///
/// Why: a library's generator may change with its version, and with it the bytes of a seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of one stream of a seed; other streams of it are independent.
    pub fn new(seed: u64, stream: u64) -> Chance {
        Chance(mix(seed ^ mix(stream.wrapping_add(GOLDEN))))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// From 0 to below `bound`, each as likely as the others within 2^-32.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from((self.next() >> 32) as u32) * u64::from(bound)) >> 32) as u32
    }

    /// The index of one of `weights`, which are in per cent and sum to 100.
    pub fn weighted(&mut self, weights: &[u32]) -> u8 {
        let mut draw = self.below(100);
        for (index, weight) in weights.iter().enumerate() {
            match draw.checked_sub(*weight) {
                Some(rest) => draw = rest,
                None => return index as u8,
            }
        }
        panic!("weights {weights:?} do not sum to 100")
    }
}

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the reference implementation (Vigna, splitmix64.c) for the state 1234567.
    #[test]
    fn numbers_are_those_of_the_reference() {
        let mut chance = Chance(1_234_567);
        let numbers = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(numbers.map(|_| chance.next()), numbers);
    }

    #[test]
    fn streams_and_seeds_differ() {
        let first = |seed, stream| Chance::new(seed, stream).next();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(2, 1));
        assert_ne!(first(1, 2), first(1, 3));
    }

    #[test]
    fn below_and_weighted_stay_in_their_range() {
        let mut chance = Chance::new(7, 0);
        let mut seen = [0_u32; 4];
        for _ in 0..10_000 {
            assert!(chance.below(3) < 3);
            seen[usize::from(chance.weighted(&[70, 26, 2, 2]))] += 1;
        }
        assert!((6_800..7_200).contains(&seen[0]) && (2_450..2_750).contains(&seen[1]), "{seen:?}");
        assert!(seen[2] > 100 && seen[3] > 100, "{seen:?}");
    }
}
