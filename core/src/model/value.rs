//! The types and values of a row.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::EventTime;

/// A type of the pipeline file. `timestamp_ms` and `timestamp_s` are encodings of `Timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    Text,
    Bigint,
    Double,
    Boolean,
    Timestamp,
    Date,
    Uuid,
    Inet,
    Json,
    /// Exact decimal; only the result of `sum(bigint)`.
    Numeric,
}

/// Days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Date(pub i32);

/// One value. Which variant stands in a column follows from its `DataType`; text, uuid, inet and json share
/// `Text`, in their canonical spelling.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Boolean(bool),
    Bigint(i64),
    Double(f64),
    Timestamp(EventTime),
    Date(Date),
    Text(Cow<'a, str>),
    /// An exact integer wider than i64: the result of `sum(bigint)`.
    Numeric(i128),
}

/// The declared fields of one record, in the file's order.
pub type Row<'a> = Vec<Value<'a>>;

impl Value<'_> {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The same value, owning its text.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Boolean(v) => Value::Boolean(v),
            Value::Bigint(v) => Value::Bigint(v),
            Value::Double(v) => Value::Double(v),
            Value::Timestamp(v) => Value::Timestamp(v),
            Value::Date(v) => Value::Date(v),
            Value::Text(v) => Value::Text(Cow::Owned(v.into_owned())),
            Value::Numeric(v) => Value::Numeric(v),
        }
    }
}

impl DataType {
    /// The column type in PostgreSQL.
    pub fn sql(self) -> &'static str {
        match self {
            DataType::Text => "text",
            DataType::Bigint => "bigint",
            DataType::Double => "double precision",
            DataType::Boolean => "boolean",
            DataType::Timestamp => "timestamptz",
            DataType::Date => "date",
            DataType::Uuid => "uuid",
            DataType::Inet => "inet",
            DataType::Json => "json",
            DataType::Numeric => "numeric",
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataType::Double => "double",
            DataType::Timestamp => "timestamp",
            other => other.sql(),
        })
    }
}

impl fmt::Display for Date {
    /// `2026-01-30`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = i64::from(self.0) * 86_400;
        match chrono::DateTime::from_timestamp(days, 0) {
            Some(at) => write!(f, "{}", at.format("%Y-%m-%d")),
            None => write!(f, "{} days", self.0),
        }
    }
}
