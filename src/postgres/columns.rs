//! Values as binary parameters: one array per column.

use bytes::BytesMut;
use millstream_core::aggregate::Accumulator;
use millstream_core::model::{DataType, Date, EventTime, Value};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// 2000-01-01T00:00Z, from which PostgreSQL counts, in our microseconds and days.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// Rows whose values go with one statement: keeps it well below `statement_timeout`, and its parameters in some megabytes.
pub(super) const ROWS_PER_STATEMENT: usize = 20_000;

type BoxedError = Box<dyn std::error::Error + Sync + Send>;

/// An instant as `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SqlTime(pub EventTime);

/// A day as `date`.
#[derive(Clone, Copy, Debug)]
pub(super) struct SqlDate(pub Date);

/// The values of one column, as the parameter of an `unnest`.
#[derive(Debug)]
pub(super) enum ColumnArray<'a> {
    Boolean(Vec<Option<bool>>),
    Bigint(Vec<Option<i64>>),
    Double(Vec<Option<f64>>),
    Timestamp(Vec<Option<SqlTime>>),
    Date(Vec<Option<SqlDate>>),
    /// Text, and whatever is cast from text: uuid, inet, json.
    Text(Vec<Option<&'a str>>),
    /// Integers of any width as text, cast to numeric.
    Numeric(Vec<Option<String>>),
}

impl<'a> ColumnArray<'a> {
    /// An empty array for values of a type.
    pub(super) fn new(data_type: DataType, capacity: usize) -> ColumnArray<'a> {
        match data_type {
            DataType::Boolean => ColumnArray::Boolean(Vec::with_capacity(capacity)),
            DataType::Bigint => ColumnArray::Bigint(Vec::with_capacity(capacity)),
            DataType::Double => ColumnArray::Double(Vec::with_capacity(capacity)),
            DataType::Timestamp => ColumnArray::Timestamp(Vec::with_capacity(capacity)),
            DataType::Date => ColumnArray::Date(Vec::with_capacity(capacity)),
            DataType::Text | DataType::Uuid | DataType::Inet | DataType::Json => {
                ColumnArray::Text(Vec::with_capacity(capacity))
            }
            DataType::Numeric => ColumnArray::Numeric(Vec::with_capacity(capacity)),
        }
    }

    pub(super) fn push(&mut self, value: &'a Value<'_>) {
        match (self, value) {
            (ColumnArray::Boolean(array), Value::Boolean(v)) => array.push(Some(*v)),
            (ColumnArray::Bigint(array), Value::Bigint(v)) => array.push(Some(*v)),
            (ColumnArray::Double(array), Value::Double(v)) => array.push(Some(*v)),
            (ColumnArray::Timestamp(array), Value::Timestamp(v)) => array.push(Some(SqlTime(*v))),
            (ColumnArray::Date(array), Value::Date(v)) => array.push(Some(SqlDate(*v))),
            (ColumnArray::Text(array), Value::Text(v)) => array.push(Some(v)),
            (ColumnArray::Numeric(array), Value::Numeric(v)) => array.push(Some(v.to_string())),
            (array, Value::Null) => array.push_null(),
            (array, value) => unreachable!("typed at load: {value:?} into {array:?}"),
        }
    }

    pub(super) fn push_time(&mut self, time: EventTime) {
        match self {
            ColumnArray::Timestamp(array) => array.push(Some(SqlTime(time))),
            array => unreachable!("a window's bound goes into a timestamp, not {array:?}"),
        }
    }

    /// What the accumulator of a column that is not an average holds.
    pub(super) fn push_accumulator(&mut self, accumulator: &'a Accumulator) {
        match (self, accumulator) {
            (ColumnArray::Bigint(array), Accumulator::Count(n)) => array.push(Some(*n)),
            // Of a new row these are written once all that is behind them is known.
            (ColumnArray::Bigint(array), Accumulator::Distinct(_) | Accumulator::Values(_)) => {
                array.push(Some(0))
            }
            (ColumnArray::Double(array), Accumulator::Quantiles(_)) => array.push(None),
            (ColumnArray::Numeric(array), Accumulator::Integer { sum, count }) => {
                array.push((*count > 0).then(|| sum.to_string()));
            }
            (ColumnArray::Double(array), Accumulator::Double { sum, count }) => {
                array.push((*count > 0).then_some(*sum));
            }
            (array, Accumulator::Min(value) | Accumulator::Max(value)) => array.push(value),
            (array, other) => unreachable!("typed at load: {other:?} into {array:?}"),
        }
    }

    fn push_null(&mut self) {
        match self {
            ColumnArray::Boolean(array) => array.push(None),
            ColumnArray::Bigint(array) => array.push(None),
            ColumnArray::Double(array) => array.push(None),
            ColumnArray::Timestamp(array) => array.push(None),
            ColumnArray::Date(array) => array.push(None),
            ColumnArray::Text(array) => array.push(None),
            ColumnArray::Numeric(array) => array.push(None),
        }
    }

    pub(super) fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            ColumnArray::Boolean(array) => array,
            ColumnArray::Bigint(array) => array,
            ColumnArray::Double(array) => array,
            ColumnArray::Timestamp(array) => array,
            ColumnArray::Date(array) => array,
            ColumnArray::Text(array) => array,
            ColumnArray::Numeric(array) => array,
        }
    }
}

/// The array type that carries a column, and the cast that makes its elements the column's type.
pub(super) fn array_type(data_type: DataType) -> (&'static str, &'static str) {
    match data_type {
        DataType::Boolean => ("boolean[]", ""),
        DataType::Bigint => ("bigint[]", ""),
        DataType::Double => ("double precision[]", ""),
        DataType::Timestamp => ("timestamptz[]", ""),
        DataType::Date => ("date[]", ""),
        DataType::Text => ("text[]", ""),
        DataType::Uuid => ("text[]", "::uuid"),
        DataType::Inet => ("text[]", "::inet"),
        DataType::Json => ("text[]", "::json"),
        DataType::Numeric => ("text[]", "::numeric"),
    }
}

impl ToSql for SqlTime {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        let micros = self.0.0.checked_sub(EPOCH_MICROS).ok_or("time out of range")?;
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for SqlTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<SqlTime, BoxedError> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        if micros == i64::MAX || micros == i64::MIN {
            return Err("infinite time".into());
        }
        Ok(SqlTime(EventTime(micros.checked_add(EPOCH_MICROS).ok_or("time out of range")?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

impl ToSql for SqlDate {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxedError> {
        let days = self.0.0.checked_sub(EPOCH_DAYS).ok_or("date out of range")?;
        out.extend_from_slice(&days.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::DATE
    }

    to_sql_checked!();
}
