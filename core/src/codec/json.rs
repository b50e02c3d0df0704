//! Values as JSON.

use std::io::Write;

use crate::model::{DataType, Value};

/// Appends a value: numbers as numbers (a double in its shortest form that reads back equal; a sum or average beyond the
/// range as the string that PostgreSQL has for it, since JSON has no number for it), text, uuid, inet,
/// timestamps and dates as strings, json verbatim, null as null.
pub fn write_json(value: &Value<'_>, data_type: DataType, out: &mut Vec<u8>) {
    let written = match value {
        Value::Null => out.write_all(b"null"),
        Value::Boolean(v) => write!(out, "{v}"),
        Value::Bigint(v) => write!(out, "{v}"),
        Value::Numeric(v) => write!(out, "{v}"),
        Value::Double(v) if v.is_nan() => out.write_all(b"\"NaN\""),
        Value::Double(v) if v.is_infinite() => {
            write!(out, "\"{}Infinity\"", if *v < 0.0 { "-" } else { "" })
        }
        Value::Double(v) => serde_json::to_writer(&mut *out, v).map_err(Into::into),
        Value::Timestamp(v) => write!(out, "\"{v}\""),
        Value::Date(v) => write!(out, "\"{v}\""),
        Value::Text(v) if data_type == DataType::Json => out.write_all(v.as_bytes()),
        Value::Text(v) => serde_json::to_writer(&mut *out, v).map_err(Into::into),
    };
    written.expect("a vector takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Date, EventTime};

    fn check(value: Value<'_>, data_type: DataType, expect: &str) {
        let mut out = Vec::new();
        write_json(&value, data_type, &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expect);
    }

    #[test]
    fn every_type_has_its_spelling() {
        check(Value::Null, DataType::Text, "null");
        check(Value::Boolean(true), DataType::Boolean, "true");
        check(Value::Double(f64::INFINITY), DataType::Double, "\"Infinity\"");
        check(Value::Double(f64::NEG_INFINITY), DataType::Double, "\"-Infinity\"");
        check(Value::Double(f64::NAN), DataType::Double, "\"NaN\"");
        check(Value::Bigint(i64::MIN), DataType::Bigint, "-9223372036854775808");
        check(Value::Numeric(i128::from(i64::MAX) * 4), DataType::Numeric, "36893488147419103228");
        check(Value::Double(0.1), DataType::Double, "0.1");
        check(Value::Double(1.0), DataType::Double, "1.0");
        check(Value::Timestamp(EventTime(0)), DataType::Timestamp, "\"1970-01-01T00:00:00.000000Z\"");
        check(Value::Date(Date(-1)), DataType::Date, "\"1969-12-31\"");
        check(Value::Text("a\"\n\u{7f}é".into()), DataType::Text, "\"a\\\"\\n\u{7f}é\"");
        check(Value::Text("{\"a\": 1}".into()), DataType::Json, "{\"a\": 1}");
    }
}
