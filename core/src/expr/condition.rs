//! The truth of a condition on a row, in three-valued logic: `None` is null.

use std::cmp::Ordering;

use super::node::{Comparison, LikePattern, Node};
use super::{EvalError, Expr, like};
use crate::model::{Row, Value};

type Truth = Result<Option<bool>, EvalError>;

impl Expr {
    pub(super) fn truth(&self, row: &Row<'_>) -> Truth {
        match &self.node {
            Node::And(terms) => all(terms, row),
            Node::Or(terms) => any(terms, row),
            Node::Not(of) => Ok(of.truth(row)?.map(|value| !value)),
            Node::IsNull { of, negated } => Ok(Some(is_null(of, row)? != *negated)),
            Node::IsBoolean { of, value, negated } => Ok(Some((of.truth(row)? == Some(*value)) != *negated)),
            Node::Compare { op, left, right } => compare(*op, left, right, row),
            Node::Between { of, low, high, negated } => {
                Ok(between(of, low, high, row)?.map(|v| v != *negated))
            }
            Node::In { of, list, negated } => Ok(contained(of, list, row)?.map(|value| value != *negated)),
            Node::Like { of, pattern, negated } => {
                Ok(matches(of, pattern, row)?.map(|value| value != *negated))
            }
            _ => match self.evaluate(row)? {
                Value::Boolean(value) => Ok(Some(value)),
                _ => Ok(None),
            },
        }
    }
}

pub(super) fn boolean(truth: Option<bool>) -> Value<'static> {
    truth.map_or(Value::Null, Value::Boolean)
}

/// Texts compare by their bytes, false is less than true.
pub(super) fn compare_values(op: Comparison, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    let ordering = match (left, right) {
        (Value::Text(a), Value::Text(b)) if matches!(op, Comparison::Equal | Comparison::NotEqual) => {
            return Some((a == b) == (op == Comparison::Equal));
        }
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bigint(a), Value::Bigint(b)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b)?,
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Numeric(a), Value::Numeric(b)) => a.cmp(b),
        _ => return None,
    };
    Some(match op {
        Comparison::Equal => ordering == Ordering::Equal,
        Comparison::NotEqual => ordering != Ordering::Equal,
        Comparison::Less => ordering == Ordering::Less,
        Comparison::LessOrEqual => ordering != Ordering::Greater,
        Comparison::Greater => ordering == Ordering::Greater,
        Comparison::GreaterOrEqual => ordering != Ordering::Less,
    })
}

/// Order: from left to right; nothing is evaluated after the first false.
fn all(terms: &[Expr], row: &Row<'_>) -> Truth {
    let mut result = Some(true);
    for term in terms {
        match term.truth(row)? {
            Some(false) => return Ok(Some(false)),
            Some(true) => {}
            None => result = None,
        }
    }
    Ok(result)
}

/// Order: from left to right; nothing is evaluated after the first true.
fn any(terms: &[Expr], row: &Row<'_>) -> Truth {
    let mut result = Some(false);
    for term in terms {
        match term.truth(row)? {
            Some(true) => return Ok(Some(true)),
            Some(false) => {}
            None => result = None,
        }
    }
    Ok(result)
}

fn is_null(of: &Expr, row: &Row<'_>) -> Result<bool, EvalError> {
    match of.in_place(row) {
        Some(value) => Ok(value.is_null()),
        None => Ok(of.evaluate(row)?.is_null()),
    }
}

/// Why: values in place are compared there. `field = 'literal'` is the commonest condition.
fn compare(op: Comparison, left: &Expr, right: &Expr, row: &Row<'_>) -> Truth {
    if let (Some(left), Some(right)) = (left.in_place(row), right.in_place(row)) {
        return Ok(compare_values(op, left, right));
    }
    let (left, right) = (left.evaluate(row)?, right.evaluate(row)?);
    Ok(compare_values(op, &left, &right))
}

/// `of >= low and of <= high`.
fn between(of: &Expr, low: &Expr, high: &Expr, row: &Row<'_>) -> Truth {
    let value = of.evaluate(row)?;
    let above = compare_values(Comparison::GreaterOrEqual, &value, &low.evaluate(row)?);
    if above == Some(false) {
        return Ok(above);
    }
    match compare_values(Comparison::LessOrEqual, &value, &high.evaluate(row)?) {
        Some(true) => Ok(above),
        below => Ok(below),
    }
}

/// `of = first or of = second or ...`.
fn contained(of: &Expr, list: &[Expr], row: &Row<'_>) -> Truth {
    let value = of.evaluate(row)?;
    let mut result = Some(false);
    for item in list {
        let equal = match item.in_place(row) {
            Some(item) => compare_values(Comparison::Equal, &value, item),
            None => compare_values(Comparison::Equal, &value, &item.evaluate(row)?),
        };
        match equal {
            Some(true) => return Ok(Some(true)),
            Some(false) => {}
            None => result = None,
        }
    }
    Ok(result)
}

fn matches(of: &Expr, pattern: &LikePattern, row: &Row<'_>) -> Truth {
    let value = of.evaluate(row)?;
    match pattern {
        LikePattern::Constant(pattern) => match value {
            Value::Text(text) => pattern.matches(&text).map(Some),
            _ => Ok(None),
        },
        LikePattern::Computed { pattern, fold } => match (value, pattern.evaluate(row)?) {
            (Value::Text(text), Value::Text(pattern)) => like::matches(&text, &pattern, *fold).map(Some),
            _ => Ok(None),
        },
    }
}
