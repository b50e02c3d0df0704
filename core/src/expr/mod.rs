//! Typed SQL expressions over one row.
//!
//! Owns the subset of SQL that a pipeline file may use, its typing and its evaluation. Must never consult a
//! clock or anything outside the row, and never panic on a text or a value. Text comes in from
//! `pipeline/check`: `parse` makes its syntax tree, `check` and `calls` type it against the source's
//! fields, an `Expr` goes into the plan, the engine evaluates it (`eval`, `condition`). Where the design is
//! silent an expression means what PostgreSQL 16 means by it (UTF8, collation C, time zone UTC). Tested in
//! `tests.rs` and `function_tests.rs` by tables of expressions, in `random_tests.rs` by random texts.
//!
//! Where it differs from PostgreSQL, on purpose:
//! - Integers are bigint; decimals, and integers beyond bigint, are double. `extract` gives double for
//!   `epoch`, `second` and `milliseconds`, bigint for the rest, where PostgreSQL gives numeric.
//! - A double is finite and a timestamp has a year from 0001 to 9999: what would leave that range raises,
//!   and a text such as `NaN` is no double.
//! - `timestamp` is PostgreSQL's `timestamptz`. A text is read as a timestamp only in ISO form.
//! - `regexp_match(text, pattern)` gives the text of the first capture group (of the whole match where the
//!   pattern has none), not an array. The pattern is a constant in the syntax of the `regex` crate, `.`
//!   also matches a line break, and of several alternatives the first that fits wins.
//! - `url_host`, `url_path` and `utm` are our own; they split a text as RFC 3986 does.

use std::sync::Arc;

use crate::model::{DataType, Row, Value};

mod calls;
mod canonical;
mod cast;
mod check;
mod condition;
mod error;
mod eval;
mod functions;
mod like;
mod node;
mod operators;
mod parse;
mod text;
mod time;
mod types;
mod url;

#[cfg(test)]
mod function_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

pub use error::EvalError;
pub use parse::{is_commit_time, parse, parse_aggregate, parse_condition};

use node::Node;

/// The text by which records are spread over partitions: what a cast to text gives, with one zero.
///
/// # Errors
/// Where the cast raises, which no value of a declared field makes it do.
pub fn spreading_text<'r>(value: &Value<'r>, from: DataType) -> Result<std::borrow::Cow<'r, str>, EvalError> {
    let value = match value {
        Value::Double(v) => Value::Double(v + 0.0),
        other => other.clone(),
    };
    match cast::cast(value, from, DataType::Text)? {
        Value::Text(text) => Ok(text),
        other => Err(EvalError(format!("{other:?} has no text"))),
    }
}

/// A field an expression may name: position in the row, type, and whether it can be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldType {
    pub name: Arc<str>,
    pub data_type: DataType,
    pub nullable: bool,
}

/// A checked expression: it can be evaluated on any row of the source it was typed against.
#[derive(Clone, Debug)]
pub struct Expr {
    data_type: DataType,
    nullable: bool,
    node: Node,
}

/// A problem in an expression: where in its text, what is wrong, and what may have been meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprProblem {
    /// From 1; 0 where it is not known.
    pub line: usize,
    /// In characters, from 1; 0 where it is not known.
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
}

/// An aggregate call of `select`: `count(*)`, `sum(x)`, with an optional `filter (where ...)`.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// In lower case; whether there is such an aggregate is for the caller to say.
    pub function: String,
    pub distinct: bool,
    pub arguments: Vec<Expr>,
    pub star: bool,
    pub filter: Option<Expr>,
}

impl Expr {
    /// The static type of the result.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// Whether the result can be null, by type.
    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// The value for one row; text borrows from the row (or the expression) where it can.
    pub fn eval<'r>(&'r self, row: &'r Row<'_>) -> Result<Value<'r>, EvalError> {
        self.evaluate(row)
    }

    /// For conditions: true only if the value is true (null is not).
    pub fn is_true(&self, row: &Row<'_>) -> Result<bool, EvalError> {
        Ok(self.truth(row)? == Some(true))
    }

    /// The text of the checked expression, the same for every spelling of it that was typed alike. It
    /// enters the plan hash, so it must not change between versions.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write_canonical(&mut out);
        out
    }

    /// The index of the field this expression is, if it is nothing but a field.
    pub fn as_field(&self) -> Option<usize> {
        match &self.node {
            Node::Field { index, .. } => Some(*index),
            _ => None,
        }
    }

    /// The indexes of the fields it reads, ascending, each once.
    pub fn fields_used(&self) -> Vec<usize> {
        let mut used = Vec::new();
        self.collect_fields(&mut used);
        used.sort_unstable();
        used.dedup();
        used
    }
}
