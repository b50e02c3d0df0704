//! The value of an expression on a row. What a condition is, is in `condition`.

use std::borrow::Cow;

use regex::Regex;

use super::cast::{cast, double_text};
use super::condition::{boolean, compare_values};
use super::node::{Arithmetic, Comparison, Node};
use super::{EvalError, Expr, time};
use crate::model::{EventTime, Row, Value};

pub(super) type Evaluated<'r> = Result<Value<'r>, EvalError>;

impl Expr {
    pub(super) fn evaluate<'r>(&'r self, row: &'r Row<'_>) -> Evaluated<'r> {
        match &self.node {
            Node::Field { index, .. } => Ok(borrowed(&row[*index])),
            Node::Literal(value) => Ok(borrowed(value)),
            Node::And(_) | Node::Or(_) | Node::Not(_) | Node::IsNull { .. } | Node::IsBoolean { .. } => {
                Ok(boolean(self.truth(row)?))
            }
            Node::Compare { .. } | Node::Between { .. } | Node::In { .. } | Node::Like { .. } => {
                Ok(boolean(self.truth(row)?))
            }
            Node::Arithmetic { op, left, right } => {
                let (left, right) = (left.evaluate(row)?, right.evaluate(row)?);
                arithmetic(*op, &left, &right)
            }
            Node::Negate(of) => negate(of.evaluate(row)?),
            Node::Shift { of, by, back } => {
                on_timestamp(of.evaluate(row)?, |at| time::shift(at, *by, *back).map(Value::Timestamp))
            }
            Node::Concat(parts) => concat(parts, row),
            Node::Case { operand, arms, otherwise } => {
                case(operand.as_deref(), arms, otherwise.as_deref(), row)
            }
            Node::Cast(of) => cast(of.evaluate(row)?, of.data_type, self.data_type),
            Node::Coalesce(list) => coalesce(list, row),
            Node::NullIf(left, right) => null_if(left.evaluate(row)?, &right.evaluate(row)?),
            Node::RegexpMatch { of, regex } => Ok(regexp_match(of.evaluate(row)?, regex)),
            Node::DateTrunc { unit, of } => {
                on_timestamp(of.evaluate(row)?, |at| unit.truncate(at).map(Value::Timestamp))
            }
            Node::Extract { field, of } => on_timestamp(of.evaluate(row)?, |at| field.extract(at)),
            Node::Call { function, arguments } => function.call(arguments, row),
        }
    }

    /// The value in place, if it can be had without evaluating anything.
    pub(super) fn in_place<'r>(&'r self, row: &'r Row<'_>) -> Option<&'r Value<'r>> {
        match &self.node {
            Node::Field { index, .. } => Some(&row[*index]),
            Node::Literal(value) => Some(value),
            _ => None,
        }
    }
}

pub(super) fn text_of<'r>(value: Value<'r>) -> Option<Cow<'r, str>> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

pub(super) fn bigint_of(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Bigint(number) => Some(*number),
        _ => None,
    }
}

fn borrowed<'r>(value: &'r Value<'_>) -> Value<'r> {
    match value {
        Value::Null => Value::Null,
        Value::Boolean(value) => Value::Boolean(*value),
        Value::Bigint(number) => Value::Bigint(*number),
        Value::Double(number) => Value::Double(*number),
        Value::Timestamp(at) => Value::Timestamp(*at),
        Value::Date(date) => Value::Date(*date),
        Value::Text(text) => Value::Text(Cow::Borrowed(text)),
        Value::Numeric(number) => Value::Numeric(*number),
    }
}

fn arithmetic<'r>(op: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Evaluated<'r> {
    match (left, right) {
        (Value::Bigint(a), Value::Bigint(b)) => bigint(op, *a, *b).map(Value::Bigint),
        (Value::Double(a), Value::Double(b)) => double(op, *a, *b).map(Value::Double),
        _ => Ok(Value::Null),
    }
}

/// Division truncates toward zero; the remainder has the sign of the dividend.
fn bigint(op: Arithmetic, a: i64, b: i64) -> Result<i64, EvalError> {
    let result = match op {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide | Arithmetic::Remainder if b == 0 => return Err(division_by_zero(&a)),
        Arithmetic::Divide => a.checked_div(b),
        Arithmetic::Remainder => Some(a.wrapping_rem(b)),
    };
    result.ok_or_else(|| EvalError(format!("bigint out of range: {a} {op} {b}")))
}

/// Invariant: the result is finite. A product or quotient that only vanishes because it is too small
/// raises, too.
fn double(op: Arithmetic, a: f64, b: f64) -> Result<f64, EvalError> {
    let result = match op {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide | Arithmetic::Remainder if b == 0.0 => {
            return Err(division_by_zero(&double_text(a)));
        }
        Arithmetic::Divide => a / b,
        Arithmetic::Remainder => a % b,
    };
    let underflow = result == 0.0
        && match op {
            Arithmetic::Multiply => a != 0.0 && b != 0.0,
            Arithmetic::Divide => a != 0.0,
            _ => false,
        };
    if underflow || !result.is_finite() {
        let (a, b) = (double_text(a), double_text(b));
        return Err(EvalError(format!("double value out of range: {a} {op} {b}")));
    }
    Ok(result)
}

fn division_by_zero(dividend: &dyn std::fmt::Display) -> EvalError {
    EvalError(format!("division by zero: {dividend}"))
}

fn negate<'r>(value: Value<'r>) -> Evaluated<'r> {
    match value {
        Value::Bigint(number) => number
            .checked_neg()
            .map(Value::Bigint)
            .ok_or_else(|| EvalError(format!("bigint out of range: -({number})"))),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => Ok(other),
    }
}

fn on_timestamp<'r>(value: Value<'r>, f: impl FnOnce(EventTime) -> Evaluated<'r>) -> Evaluated<'r> {
    match value {
        Value::Timestamp(at) => f(at),
        _ => Ok(Value::Null),
    }
}

/// Null if any part is; every part is evaluated.
fn concat<'r>(parts: &'r [Expr], row: &'r Row<'_>) -> Evaluated<'r> {
    let mut whole = String::new();
    let mut null = false;
    for part in parts {
        match part.evaluate(row)? {
            Value::Text(text) => whole.push_str(&text),
            _ => null = true,
        }
    }
    Ok(if null { Value::Null } else { Value::Text(Cow::Owned(whole)) })
}

/// Only what is needed is evaluated: conditions up to the first that is true, and its result.
fn case<'r>(
    operand: Option<&'r Expr>,
    arms: &'r [(Expr, Expr)],
    otherwise: Option<&'r Expr>,
    row: &'r Row<'_>,
) -> Evaluated<'r> {
    let operand = operand.map(|operand| operand.evaluate(row)).transpose()?;
    for (when, then) in arms {
        let chosen = match &operand {
            Some(operand) => compare_values(Comparison::Equal, operand, &when.evaluate(row)?),
            None => when.truth(row)?,
        };
        if chosen == Some(true) {
            return then.evaluate(row);
        }
    }
    otherwise.map_or(Ok(Value::Null), |otherwise| otherwise.evaluate(row))
}

fn coalesce<'r>(list: &'r [Expr], row: &'r Row<'_>) -> Evaluated<'r> {
    for item in list {
        let value = item.evaluate(row)?;
        if !value.is_null() {
            return Ok(value);
        }
    }
    Ok(Value::Null)
}

fn null_if<'r>(value: Value<'r>, other: &Value<'_>) -> Evaluated<'r> {
    let equal = compare_values(Comparison::Equal, &value, other) == Some(true);
    Ok(if equal { Value::Null } else { value })
}

/// The first capture group, or the whole match of a pattern without one.
fn regexp_match<'r>(value: Value<'r>, regex: &Regex) -> Value<'r> {
    let Some(text) = text_of(value) else { return Value::Null };
    let range = if regex.captures_len() == 1 {
        regex.find(&text).map(|found| found.range())
    } else {
        regex.captures(&text).and_then(|groups| groups.get(1)).map(|group| group.range())
    };
    match range {
        Some(range) => Value::Text(super::text::slice(text, range)),
        None => Value::Null,
    }
}
