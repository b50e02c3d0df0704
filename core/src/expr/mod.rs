//! Typed SQL expressions over one row.
//!
//! Owns the subset of SQL that a pipeline file may use, its typing and its evaluation. Must never consult a clock
//! or anything outside the row. Text comes in from `pipeline/check`, an `Expr` goes into the plan, the engine
//! evaluates it. Where the design is silent an expression means what PostgreSQL 16 means by it.

use std::sync::Arc;

use crate::model::{DataType, Row, Value};

/// A field an expression may name: position in the row, type, and whether it can be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldType {
    pub name: Arc<str>,
    pub data_type: DataType,
    pub nullable: bool,
}

/// A checked expression: it can be evaluated on any row of the source it was typed against.
#[derive(Clone, Debug)]
pub struct Expr {}

/// Why an expression raised; makes the record `EXPRESSION_ERROR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

impl Expr {
    /// The static type of the result.
    pub fn data_type(&self) -> DataType {
        unimplemented!()
    }

    /// Whether the result can be null, by type.
    pub fn nullable(&self) -> bool {
        unimplemented!()
    }

    /// The value for one row; text borrows from the row (or the expression) where it can.
    pub fn eval<'r>(&'r self, _row: &'r Row<'_>) -> Result<Value<'r>, EvalError> {
        unimplemented!()
    }

    /// For conditions: true only if the value is true (null is not).
    pub fn is_true(&self, _row: &Row<'_>) -> Result<bool, EvalError> {
        unimplemented!()
    }
}
