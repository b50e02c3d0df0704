//! Types while an expression is checked: literals that have none yet, the common type of several
//! expressions, and the names of types in SQL.

use sqlparser::ast::{DataType as SqlType, ExactNumberInfo, TimezoneInfo};

use super::node::Node;
use super::{EvalError, Expr, ExprProblem, cast};
use crate::model::{DataType, Value};

/// Where a part of an expression begins; 0 and 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct At {
    pub line: usize,
    pub column: usize,
}

/// An expression being checked.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub expr: Expr,
    /// A text literal or null that takes the type its surroundings need.
    pub untyped: bool,
    pub at: At,
    /// Levels of the tree, this one included.
    pub height: usize,
}

impl At {
    pub fn problem(self, message: impl Into<String>, hint: Option<String>) -> ExprProblem {
        ExprProblem { line: self.line, column: self.column, message: message.into(), hint }
    }
}

impl Draft {
    pub fn leaf(expr: Expr, at: At) -> Draft {
        Draft { expr, untyped: false, at, height: 1 }
    }

    pub fn untyped(value: Value<'static>, at: At) -> Draft {
        Draft { expr: Expr::literal(value, DataType::Text), untyped: true, at, height: 1 }
    }

    /// One level above what was made of `below`.
    pub fn above(expr: Expr, at: At, below: usize) -> Draft {
        Draft { expr: expr.folded(), untyped: false, at, height: below + 1 }
    }

    /// The type, if it is settled.
    pub fn settled(&self) -> Option<DataType> {
        (!self.untyped).then_some(self.expr.data_type)
    }

    /// What the type is called in a message.
    pub fn type_name(&self) -> String {
        match self.expr.as_literal() {
            Some(Value::Null) if self.untyped => "null".to_owned(),
            _ => self.expr.data_type.to_string(),
        }
    }

    /// The same expression with the given type: an untyped literal is read as one, a bigint widens to
    /// double and a date to timestamp. `Err(None)` where the types do not fit, `Err(Some)` where the
    /// literal cannot be read.
    pub fn coerced(self, to: DataType) -> Result<Draft, Option<ExprProblem>> {
        let from = self.expr.data_type;
        let at = self.at;
        if self.untyped {
            return self.literal_as(to).map_err(|problem| Some(at.problem(problem.0, None)));
        }
        if from == to {
            return Ok(self);
        }
        match (from, to) {
            (DataType::Bigint, DataType::Double) | (DataType::Date, DataType::Timestamp) => {
                let height = self.height;
                let nullable = self.expr.nullable;
                let cast = Expr::new(Node::Cast(Box::new(self.expr)), to, nullable);
                Ok(Draft::above(cast, at, height))
            }
            _ => Err(None),
        }
    }

    /// Reads an untyped literal as one of the given type.
    fn literal_as(self, to: DataType) -> Result<Draft, EvalError> {
        let value = match self.expr.node {
            Node::Literal(Value::Text(_)) if !cast::exists(DataType::Text, to) => {
                return Err(EvalError(format!("a text literal cannot be read as {to}")));
            }
            Node::Literal(value) => cast::cast(value, DataType::Text, to)?,
            _ => Value::Null,
        };
        Ok(Draft::leaf(Expr::literal(value.into_owned(), to), self.at))
    }
}

/// The type that all can be coerced to, text if none is settled; else the two types that do not go together.
pub(super) fn common_type<'d>(
    drafts: impl IntoIterator<Item = &'d Draft>,
) -> Result<DataType, [DataType; 2]> {
    use DataType::{Bigint, Date, Double, Timestamp};
    let mut common = None;
    for next in drafts.into_iter().filter_map(Draft::settled) {
        common = Some(match (common, next) {
            (None, next) => next,
            (Some(a), b) if a == b => a,
            (Some(Bigint), Double) | (Some(Double), Bigint) => Double,
            (Some(Date), Timestamp) | (Some(Timestamp), Date) => Timestamp,
            (Some(a), b) => return Err([a, b]),
        });
    }
    Ok(common.unwrap_or(DataType::Text))
}

/// Json has no equality.
pub(super) fn equatable(data_type: DataType) -> bool {
    data_type != DataType::Json
}

/// Inets are only equal or not.
pub(super) fn orderable(data_type: DataType) -> bool {
    !matches!(data_type, DataType::Json | DataType::Inet)
}

/// The type that a type name of SQL stands for, or a hint at what to write.
pub(super) fn named(name: &SqlType) -> Result<DataType, Option<&'static str>> {
    match name {
        SqlType::Text => Ok(DataType::Text),
        SqlType::BigInt(None) | SqlType::Int8(None) => Ok(DataType::Bigint),
        SqlType::DoublePrecision | SqlType::Float8 => Ok(DataType::Double),
        SqlType::Double(ExactNumberInfo::None) | SqlType::Float(ExactNumberInfo::None) => {
            Ok(DataType::Double)
        }
        SqlType::Boolean | SqlType::Bool => Ok(DataType::Boolean),
        SqlType::Timestamp(None, zone) if *zone != TimezoneInfo::WithoutTimeZone => Ok(DataType::Timestamp),
        SqlType::Date => Ok(DataType::Date),
        SqlType::Uuid => Ok(DataType::Uuid),
        SqlType::JSON => Ok(DataType::Json),
        SqlType::Custom(name, modifiers) if modifiers.is_empty() => {
            if name.to_string().eq_ignore_ascii_case("inet") { Ok(DataType::Inet) } else { Err(None) }
        }
        SqlType::Int(_)
        | SqlType::Integer(_)
        | SqlType::Int4(_)
        | SqlType::Int2(_)
        | SqlType::SmallInt(_) => Err(Some("write bigint")),
        SqlType::Varchar(_) | SqlType::CharacterVarying(_) | SqlType::Char(_) | SqlType::Character(_) => {
            Err(Some("write text"))
        }
        SqlType::Numeric(_) | SqlType::Decimal(_) | SqlType::Real | SqlType::Float4 => {
            Err(Some("write double"))
        }
        SqlType::Timestamp(..) => Err(Some("write timestamp: all timestamps are UTC")),
        _ => Err(None),
    }
}
