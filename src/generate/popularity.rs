//! Which of many things is picked, where some are more popular than others.

use super::chance::Chance;

/// Things numbered from 0; the n-th most popular has the weight 1/n^skew (Zipf). A skew of 0 makes all alike.
///
/// Method: Vose, A linear algorithm for generating random numbers with a given distribution, 1991: one draw and one
/// look into a table, whatever the number of things.
#[derive(Clone, Debug)]
pub struct Popularity {
    count: u32,
    /// Empty where all are alike.
    columns: Vec<Column>,
}

/// Below `threshold` the column's own number is picked, else the other.
#[derive(Clone, Copy, Debug)]
struct Column {
    threshold: u32,
    other: u32,
}

/// One, as a threshold.
const WHOLE: f64 = 4_294_967_296.0;

impl Popularity {
    pub fn new(count: u32, skew: f64) -> Popularity {
        assert!(count > 0, "nothing can be picked from nothing");
        if skew == 0.0 {
            return Popularity { count, columns: Vec::new() };
        }
        let mut weights: Vec<f64> = (1..=count).map(|rank| f64::from(rank).powf(-skew)).collect();
        let mean = weights.iter().sum::<f64>() / f64::from(count);
        weights.iter_mut().for_each(|weight| *weight /= mean);
        Popularity { count, columns: columns(weights) }
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn pick(&self, chance: &mut Chance) -> u32 {
        let Some(last) = self.columns.len().checked_sub(1) else { return chance.below(self.count) };
        let draw = chance.next();
        let index = (((draw >> 32) * u64::from(self.count)) >> 32) as u32;
        let column = self.columns[(index as usize).min(last)];
        if (draw as u32) < column.threshold { index } else { column.other }
    }
}

/// `weights` have a mean of 1: each column is filled with its own weight and topped up with one other's.
fn columns(mut weights: Vec<f64>) -> Vec<Column> {
    let mut columns: Vec<Column> =
        (0..weights.len()).map(|own| Column { threshold: u32::MAX, other: own as u32 }).collect();
    let (mut small, mut large): (Vec<u32>, Vec<u32>) =
        (0..weights.len() as u32).partition(|index| weights[*index as usize] < 1.0);
    while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
        let weight = weights[poor as usize];
        columns[poor as usize] = Column { threshold: (weight * WHOLE) as u32, other: rich };
        weights[rich as usize] -= 1.0 - weight;
        if weights[rich as usize] < 1.0 {
            large.pop();
            small.push(rich);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(popularity: &Popularity, picks: u32) -> Vec<u32> {
        let mut chance = Chance::new(1, 0);
        let mut counts = vec![0; popularity.count as usize];
        (0..picks).for_each(|_| counts[popularity.pick(&mut chance) as usize] += 1);
        counts
    }

    #[test]
    fn picks_follow_zipf() {
        for skew in [0.5, 0.9, 1.2, 2.0] {
            let total: f64 = (1..=50).map(|rank| f64::from(rank).powf(-skew)).sum();
            for (index, count) in counts(&Popularity::new(50, skew), 200_000).into_iter().enumerate() {
                let expect = 200_000.0 * (index as f64 + 1.0).powf(-skew) / total;
                let spread = 5.0 * expect.sqrt().max(1.0);
                assert!((f64::from(count) - expect).abs() < spread, "{skew} {index}: {count} {expect}");
            }
        }
    }

    #[test]
    fn without_skew_all_are_alike() {
        assert!(counts(&Popularity::new(10, 0.0), 100_000).iter().all(|n| (9_500..10_500).contains(n)));
        assert_eq!(counts(&Popularity::new(1, 3.0), 10), [10]);
    }
}
