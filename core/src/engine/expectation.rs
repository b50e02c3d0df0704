//! A trial's rows against those that a test of the file expects.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::Value;
use crate::pipeline::ExpectedRows;

use super::{TrialRow, TrialTable};

/// Doubles are equal within this part of the larger one: the order of a sum is not fixed.
const DOUBLE_TOLERANCE: f64 = 1e-9;

/// A row as the file writes it: some columns of it.
pub type ExpectedRow = [(Arc<str>, Value<'static>)];

/// How the rows of one table differ from what is expected.
#[derive(Debug, PartialEq)]
pub enum Difference<'a> {
    Count {
        expected: usize,
        found: usize,
    },
    Rows {
        /// Expected rows that no row was left for.
        missing: Vec<&'a ExpectedRow>,
        /// Rows that no expected row took.
        unexpected: Vec<&'a TrialRow>,
    },
}

/// Pairs every expected row with a row of its own that has the same values in the named columns, as many as possible.
/// None: all are paired, on both sides.
pub fn difference<'a>(found: &'a TrialTable, expected: &'a ExpectedRows) -> Option<Difference<'a>> {
    match expected {
        ExpectedRows::Count(expected) => {
            let (expected, found) = (*expected, found.rows.len());
            (expected != found).then_some(Difference::Count { expected, found })
        }
        ExpectedRows::Rows(expected) => {
            let taken_by = Pairing::of(found, expected).taken_by;
            let missing: Vec<_> = (0..expected.len())
                .filter(|row| !taken_by.contains(&Some(*row)))
                .map(|row| expected[row].as_slice())
                .collect();
            let unexpected: Vec<_> =
                found.rows.iter().zip(&taken_by).filter(|(_, by)| by.is_none()).map(|(row, _)| row).collect();
            (!missing.is_empty() || !unexpected.is_empty())
                .then_some(Difference::Rows { missing, unexpected })
        }
    }
}

/// A maximum matching by augmenting paths (Kuhn): an expected row that names few columns must not take the row that
/// another needs.
struct Pairing<'a> {
    found: &'a TrialTable,
    expected: &'a [Vec<(Arc<str>, Value<'static>)>],
    /// Per found row, the expected row that has it.
    taken_by: Vec<Option<usize>>,
}

impl<'a> Pairing<'a> {
    fn of(found: &'a TrialTable, expected: &'a [Vec<(Arc<str>, Value<'static>)>]) -> Pairing<'a> {
        let mut pairing = Pairing { found, expected, taken_by: vec![None; found.rows.len()] };
        for row in 0..expected.len() {
            pairing.pair(row);
        }
        pairing
    }

    /// Breadth first: `reached_from[r]` is the expected row from which found row `r` was reached.
    fn pair(&mut self, row: usize) {
        let mut reached_from: Vec<Option<usize>> = vec![None; self.taken_by.len()];
        let mut waiting = VecDeque::from([row]);
        while let Some(from) = waiting.pop_front() {
            for (candidate, values) in self.found.rows.iter().enumerate() {
                if reached_from[candidate].is_some() || !matches(self.found, values, &self.expected[from]) {
                    continue;
                }
                reached_from[candidate] = Some(from);
                match self.taken_by[candidate] {
                    Some(holder) => waiting.push_back(holder),
                    None => return self.shift(candidate, row, &reached_from),
                }
            }
        }
    }

    /// Walks the path back, every expected row on it giving its row up for the next one.
    fn shift(&mut self, mut free: usize, row: usize, reached_from: &[Option<usize>]) {
        while let Some(from) = reached_from[free] {
            let before = self.taken_by.iter().position(|by| *by == Some(from));
            self.taken_by[free] = Some(from);
            match before {
                Some(given_up) if from != row => free = given_up,
                _ => break,
            }
        }
    }
}

fn matches(found: &TrialTable, row: &TrialRow, expected: &ExpectedRow) -> bool {
    expected.iter().all(|(name, value)| {
        let at = found.columns.iter().position(|column| column.name == *name);
        at.is_some_and(|at| same(&row.values[at], value))
    })
}

fn same(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => (a - b).abs() <= DOUBLE_TOLERANCE * a.abs().max(b.abs()),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DataType;
    use crate::pipeline::Column;

    fn found(rows: &[(&'static str, i64)]) -> TrialTable {
        let column = |name: &str, data_type| Column { name: name.into(), data_type, nullable: false };
        TrialTable {
            name: "views".to_owned(),
            columns: vec![column("page", DataType::Text), column("n", DataType::Bigint)],
            rows: rows
                .iter()
                .map(|(page, n)| TrialRow {
                    values: vec![Value::Text((*page).into()), Value::Bigint(*n)],
                    is_final: false,
                })
                .collect(),
        }
    }

    fn page(page: &'static str) -> (Arc<str>, Value<'static>) {
        ("page".into(), Value::Text(page.into()))
    }

    fn n(n: i64) -> (Arc<str>, Value<'static>) {
        ("n".into(), Value::Bigint(n))
    }

    #[test]
    fn vague_row_leaves_the_row_that_a_precise_one_needs() {
        let found = found(&[("/a", 1), ("/a", 2), ("/b", 2)]);
        let expected = vec![vec![n(2)], vec![page("/a")], vec![page("/a"), n(2)]];
        assert_eq!(difference(&found, &ExpectedRows::Rows(expected)), None);
    }

    #[test]
    fn rows_left_over_on_either_side_are_told() {
        let found = found(&[("/a", 1), ("/b", 2)]);
        let expected = ExpectedRows::Rows(vec![vec![page("/a"), n(3)], vec![n(2)]]);
        match difference(&found, &expected) {
            Some(Difference::Rows { missing, unexpected }) => {
                assert_eq!(missing, [&[page("/a"), n(3)][..]]);
                assert_eq!(unexpected, [&found.rows[0]]);
            }
            other => panic!("{other:?}"),
        }
        let none = ExpectedRows::Rows(Vec::new());
        assert!(
            matches!(difference(&found, &none), Some(Difference::Rows { unexpected, .. }) if unexpected.len() == 2)
        );
    }

    #[test]
    fn number_of_rows_alone_can_be_expected() {
        let found = found(&[("/a", 1)]);
        assert_eq!(difference(&found, &ExpectedRows::Count(1)), None);
        let wrong = difference(&found, &ExpectedRows::Count(5));
        assert_eq!(wrong, Some(Difference::Count { expected: 5, found: 1 }));
    }

    #[test]
    fn doubles_are_equal_up_to_the_order_of_their_sum() {
        assert!(same(&Value::Double(0.1 + 0.2), &Value::Double(0.3)));
        assert!(!same(&Value::Double(0.3), &Value::Double(0.300001)));
        assert!(same(&Value::Null, &Value::Null) && !same(&Value::Null, &Value::Double(0.0)));
    }
}
