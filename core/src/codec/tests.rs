//! Whole values: every verdict by table, both scanners against each other and against serde_json.

use std::sync::Arc;

use proptest::prelude::*;

use super::scan::{MAX_NESTING, Member, Shape};
use super::*;
use crate::model::{DataType, Dead, DeadReason, EventTime, Row, Value};
use crate::pipeline::{Encoding, Field};

fn field(name: &str, declared: &str) -> Field {
    let (declared, required) = match declared.strip_suffix('!') {
        Some(declared) => (declared, true),
        None => (declared, false),
    };
    let (data_type, encoding) = match declared {
        "text" => (DataType::Text, Encoding::Plain),
        "bigint" => (DataType::Bigint, Encoding::Plain),
        "double" => (DataType::Double, Encoding::Plain),
        "boolean" => (DataType::Boolean, Encoding::Plain),
        "timestamp" => (DataType::Timestamp, Encoding::Plain),
        "timestamp_ms" => (DataType::Timestamp, Encoding::Millis),
        "timestamp_s" => (DataType::Timestamp, Encoding::Seconds),
        "uuid" => (DataType::Uuid, Encoding::Plain),
        "inet" => (DataType::Inet, Encoding::Plain),
        "json" => (DataType::Json, Encoding::Plain),
        other => panic!("{other} is no type"),
    };
    Field { name: name.into(), data_type, encoding, required }
}

fn decoder(fields: &[(&str, &str)]) -> RecordDecoder {
    let fields: Vec<Field> = fields.iter().map(|(name, declared)| field(name, declared)).collect();
    RecordDecoder::new(&fields, 1 << 20, &[])
}

fn decode_one(declared: &str, json: &str) -> Result<Value<'static>, Dead> {
    let record = format!("{{\"f\":{json}}}");
    let mut row = Row::new();
    decoder(&[("f", declared)]).decode(Some(record.as_bytes()), &mut row)?;
    Ok(row.remove(0).into_owned())
}

fn reason_of(value: Option<&[u8]>, fields: &[(&str, &str)]) -> Option<DeadReason> {
    let mut row = Row::new();
    let dead = decoder(fields).decode(value, &mut row).err()?;
    assert!(dead.detail.chars().count() <= 200, "{}", dead.detail);
    assert!(row.is_empty(), "a dead record leaves nothing behind");
    Some(dead.reason)
}

fn text(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

#[test]
fn values_that_are_no_record_are_dead_by_the_first_reason() {
    use DeadReason::{NotJson, NotUtf8, NullValue};
    let cases: [(Option<&[u8]>, Option<DeadReason>); 48] = [
        (None, Some(NullValue)),
        (Some(b"{}"), None),
        (Some(b" \t\r\n{ \n} \r\n"), None),
        (Some(b"{\"a\":1}"), None),
        (Some(b""), Some(NotJson)),
        (Some(b"   "), Some(NotJson)),
        (Some(b"\xef\xbb\xbf{}"), Some(NotJson)),
        (Some(b"\xff"), Some(NotUtf8)),
        (Some(b"{\"a\":\"\xc3\"}"), Some(NotUtf8)),
        (Some(b"{\"a\":\"\xed\xa0\x80\"}"), Some(NotUtf8)),
        (Some(b"{\"a\":\"\xc3\xa9\"}"), None),
        (Some(b"null"), Some(NotJson)),
        (Some(b"[]"), Some(NotJson)),
        (Some(b"\"a\""), Some(NotJson)),
        (Some(b"1"), Some(NotJson)),
        (Some(b"{"), Some(NotJson)),
        (Some(b"}"), Some(NotJson)),
        (Some(b"{\"a\""), Some(NotJson)),
        (Some(b"{\"a\":"), Some(NotJson)),
        (Some(b"{\"a\":1"), Some(NotJson)),
        (Some(b"{\"a\":1,"), Some(NotJson)),
        (Some(b"{\"a\":1,}"), Some(NotJson)),
        (Some(b"{,\"a\":1}"), Some(NotJson)),
        (Some(b"{\"a\":1 \"b\":2}"), Some(NotJson)),
        (Some(b"{\"a\":1}x"), Some(NotJson)),
        (Some(b"{}{}"), Some(NotJson)),
        (Some(b"{}\x00"), Some(NotJson)),
        (Some(b"{}\x0b"), Some(NotJson)),
        (Some(b"{a:1}"), Some(NotJson)),
        (Some(b"{'a':1}"), Some(NotJson)),
        (Some(b"{1:1}"), Some(NotJson)),
        (Some(b"{\"a\":NaN}"), Some(NotJson)),
        (Some(b"{\"a\":Infinity}"), Some(NotJson)),
        (Some(b"{\"a\":nul}"), Some(NotJson)),
        (Some(b"{\"a\":nullx}"), Some(NotJson)),
        (Some(b"{\"a\":True}"), Some(NotJson)),
        (Some(b"{\"a\":\"\n\"}"), Some(NotJson)),
        (Some(b"{\"a\":\"\x00\"}"), Some(NotJson)),
        (Some(b"{\"a\x1f\":1}"), Some(NotJson)),
        (Some(b"{\"a\":\"\x7f\"}"), None),
        (Some(b"{\"a\":\"\\x\"}"), Some(NotJson)),
        (Some(b"{\"a\":\"\\u12g4\"}"), Some(NotJson)),
        (Some(b"{\"a\":\"\\\"}"), Some(NotJson)),
        (Some(b"{\"a\":/**/1}"), Some(NotJson)),
        (Some(b"{\"a\":[1,]}"), Some(NotJson)),
        (Some(b"{\"a\":[1}"), Some(NotJson)),
        (Some(b"{\"a\":{]}"), Some(NotJson)),
        (Some(b"{\"a\":[1,2,{\"b\":[]}],\"c\":{}}"), None),
    ];
    for (value, reason) in cases {
        let shown = value.map(String::from_utf8_lossy);
        assert_eq!(reason_of(value, &[]), reason, "{shown:?}");
    }
}

#[test]
fn numbers_of_undeclared_fields_must_be_json_of_any_size() {
    let valid = ["0", "-0", "1", "10", "-1.5", "0.0", "1e5", "1E+5", "1e-05", "1e400", "-1e400"];
    let invalid =
        ["01", "-", "-a", "+1", ".5", "1.", "1.e5", "1e", "1e+", "0x1", "1_000", "00", "-01", "1 2", "1f"];
    for (numbers, reason) in [(&valid[..], None), (&invalid[..], Some(DeadReason::NotJson))] {
        for number in numbers {
            for record in [format!("{{\"a\":{number}}}"), format!("{{\"a\":[{number}]}}")] {
                assert_eq!(reason_of(Some(record.as_bytes()), &[]), reason, "{record}");
            }
        }
    }
    let long = format!("{{\"a\":{}}}", "9".repeat(100_000));
    assert_eq!(reason_of(Some(long.as_bytes()), &[]), None);
}

#[test]
fn nesting_is_counted_from_the_outermost_object() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{{\"a\":{}{}}}", open.repeat(levels - 1), close.repeat(levels - 1))
    };
    for levels in [2, MAX_NESTING - 1, MAX_NESTING] {
        assert_eq!(reason_of(Some(nested("[", "]", levels).as_bytes()), &[]), None, "{levels}");
    }
    let objects = format!("{}{}{}", "{\"a\":".repeat(MAX_NESTING), 1, "}".repeat(MAX_NESTING));
    assert_eq!(reason_of(Some(objects.as_bytes()), &[]), None);
    let objects = format!("{}{}{}", "{\"a\":".repeat(MAX_NESTING + 1), 1, "}".repeat(MAX_NESTING + 1));
    assert_eq!(reason_of(Some(objects.as_bytes()), &[]), Some(DeadReason::NotJson));
    for levels in [MAX_NESTING + 1, 100_000] {
        let reason = reason_of(Some(nested("[", "]", levels).as_bytes()), &[("a", "json")]);
        assert_eq!(reason, Some(DeadReason::NotJson), "{levels}");
    }
    let side_by_side = format!("{{\"a\":[{}[]]}}", "[],".repeat(1_000));
    assert_eq!(reason_of(Some(side_by_side.as_bytes()), &[]), None);
}

#[test]
fn a_value_over_the_limit_is_too_large_whatever_it_holds() {
    let decoder = RecordDecoder::new(&[], 10, &[]);
    let mut row = Row::new();
    assert!(decoder.decode(Some(b"{\"a\":1111}"), &mut row).is_ok());
    let dead = decoder.decode(Some(b"\xff{\"a\":1111}"), &mut row).unwrap_err();
    assert_eq!(dead.reason, DeadReason::TooLarge);
    assert_eq!(dead.detail, "value of 11 bytes, max_record_bytes is 10");
}

#[test]
fn declared_values_are_read_by_type() {
    let at = |micros| Value::Timestamp(EventTime(micros));
    let cases = [
        ("text!", r#""""#, text("")),
        ("text", r#""caf\u00e9 \ud83d\ude00\n""#, text("caf\u{e9} \u{1f600}\n")),
        ("text", "null", Value::Null),
        ("bigint", "0", Value::Bigint(0)),
        ("bigint", "-0", Value::Bigint(0)),
        ("bigint", "9223372036854775807", Value::Bigint(i64::MAX)),
        ("bigint", "-9223372036854775808", Value::Bigint(i64::MIN)),
        ("double", "1", Value::Double(1.0)),
        ("double", "-1.5e3", Value::Double(-1_500.0)),
        ("double", "1e-400", Value::Double(0.0)),
        ("double", "1.7976931348623157e308", Value::Double(f64::MAX)),
        ("boolean", "true", Value::Boolean(true)),
        ("boolean", "false", Value::Boolean(false)),
        ("timestamp", r#""1970-01-01T00:00:01.5Z""#, at(1_500_000)),
        ("timestamp", r#""1970\u002d01-01 00:00:01""#, at(1_000_000)),
        ("timestamp_ms", "1769735890123", at(1_769_735_890_123_000)),
        ("timestamp_ms", "-0", at(0)),
        ("timestamp_s", "1769735890", at(1_769_735_890_000_000)),
        ("uuid", r#""A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11""#, text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ("inet", r#""10.0.0.1\/32""#, text("10.0.0.1")),
        ("inet", r#""2001:DB8::1""#, text("2001:db8::1")),
        ("json", r#"{ "a" : [1, 1e400, "\u00e9"] }"#, text(r#"{ "a" : [1, 1e400, "\u00e9"] }"#)),
        ("json", "[]", text("[]")),
        ("json", r#""a""#, text(r#""a""#)),
        ("json", "-0.0", text("-0.0")),
        ("json", "true", text("true")),
        ("json", "null", Value::Null),
    ];
    for (declared, json, value) in cases {
        assert_eq!(decode_one(declared, json), Ok(value), "{declared} {json}");
    }
}

#[test]
fn declared_values_of_the_wrong_kind_are_dead_by_reason() {
    use DeadReason::{BadTimestamp, MissingField, NulCharacter, OutOfRange, WrongType};
    let cases = [
        ("text!", "null", MissingField),
        ("json!", "null", MissingField),
        ("text", "1", WrongType),
        ("text", "true", WrongType),
        ("text", "{}", WrongType),
        ("text", r#"["a"]"#, WrongType),
        ("text", r#""\ud800""#, WrongType),
        ("text", r#""\u0000\udc00""#, WrongType),
        ("text", r#""a\u0000""#, NulCharacter),
        ("bigint", r#""1""#, WrongType),
        ("bigint", "1.0", WrongType),
        ("bigint", "1e3", WrongType),
        ("bigint", "1E3", WrongType),
        ("bigint", "true", WrongType),
        ("bigint", "9223372036854775808", OutOfRange),
        ("bigint", "-9223372036854775809", OutOfRange),
        ("double", r#""1""#, WrongType),
        ("double", "[1]", WrongType),
        ("double", "false", WrongType),
        ("double", "1e400", OutOfRange),
        ("double", "-1e400", OutOfRange),
        ("boolean", "0", WrongType),
        ("boolean", r#""true""#, WrongType),
        ("timestamp", "1769735890", WrongType),
        ("timestamp", "{}", WrongType),
        ("timestamp", r#""\ud800""#, BadTimestamp),
        ("timestamp", r#""""#, BadTimestamp),
        ("timestamp", r#""2026-01-30""#, BadTimestamp),
        ("timestamp", r#""2026-01-30T01:18:10Z\u0000""#, BadTimestamp),
        ("timestamp", r#""300000-01-01T00:00:00Z""#, BadTimestamp),
        ("timestamp", r#""1969-12-31T23:59:59Z""#, OutOfRange),
        ("timestamp_ms", r#""1769735890123""#, WrongType),
        ("timestamp_ms", "1769735890123.0", WrongType),
        ("timestamp_ms", "-1", OutOfRange),
        ("timestamp_ms", "7258118400000", OutOfRange),
        ("timestamp_ms", "9223372036854775807", OutOfRange),
        ("timestamp_ms", "9223372036854775808", OutOfRange),
        ("timestamp_s", "1.5", WrongType),
        ("timestamp_s", "7258118400", OutOfRange),
        ("timestamp_s", "-9223372036854775808", OutOfRange),
        ("uuid", "1", WrongType),
        ("uuid", r#""a0eebc99""#, WrongType),
        ("uuid", r#""\udfff""#, WrongType),
        ("inet", "{}", WrongType),
        ("inet", r#""10.0.0.256""#, WrongType),
        ("json", r#"{"a":["\ud800"]}"#, WrongType),
        ("json", r#"{"\ud800":1}"#, WrongType),
        ("json", r#"{"a":"\u0000","b":"\ud800"}"#, WrongType),
        ("json", r#"{"a":["\u0000"]}"#, NulCharacter),
        ("json", r#"[{"\u0000":1}]"#, NulCharacter),
    ];
    for (declared, json, reason) in cases {
        assert_eq!(decode_one(declared, json).map_err(|dead| dead.reason), Err(reason), "{declared} {json}");
    }
}

#[test]
fn undeclared_fields_may_hold_any_json() {
    for json in [r#""\ud800""#, r#""\u0000""#, "1e400", r#"{"\u0000":"\udfff"}"#, "[[[null]]]"] {
        let record = format!("{{\"b\":{json},\"\\ud800\":1,\"\\u0000\":2,\"a\":\"x\"}}");
        let mut row = Row::new();
        decoder(&[("a", "text!")]).decode(Some(record.as_bytes()), &mut row).unwrap();
        assert_eq!(row, [text("x")], "{record}");
    }
}

#[test]
fn the_last_of_duplicate_names_counts() {
    let cases = [
        (r#"{"a":1,"a":"x"}"#, Ok(text("x"))),
        (r#"{"a":"x","a":1}"#, Err(DeadReason::WrongType)),
        (r#"{"a":"x","a":null}"#, Err(DeadReason::MissingField)),
        (r#"{"a":null,"b":[],"a":"x"}"#, Ok(text("x"))),
        (r#"{"a":1,"\u0061":"x"}"#, Ok(text("x"))),
        (r#"{"\u0061":1,"a":"x"}"#, Ok(text("x"))),
        (r#"{"a":"x","b":{"a":1}}"#, Ok(text("x"))),
        (r#"{"b":{"a":"x"}}"#, Err(DeadReason::MissingField)),
        (r#"{"A":"x"}"#, Err(DeadReason::MissingField)),
    ];
    for (record, expected) in cases {
        let mut row = Row::new();
        let decoded = decoder(&[("a", "text!")]).decode(Some(record.as_bytes()), &mut row);
        assert_eq!(decoded.map(|_| row[0].clone()).map_err(|dead| dead.reason), expected, "{record}");
    }
}

#[test]
fn the_first_faulty_field_in_the_files_order_decides() {
    let fields = [("b", "bigint"), ("a", "text!"), ("t", "timestamp")];
    let cases = [
        (
            r#"{"t":"x","a":1,"b":"y"}"#,
            DeadReason::WrongType,
            "field \"b\": expected an integer, found \"y\"",
        ),
        (r#"{"t":"x","b":1}"#, DeadReason::MissingField, "field \"a\": expected a value, found nothing"),
        (
            r#"{"t":"x","a":"a"}"#,
            DeadReason::BadTimestamp,
            "field \"t\": expected a timestamp like 2026-01-30T01:18:10.5Z, found \"x\"",
        ),
        (r#"{"b":99999999999999999999}{"#, DeadReason::NotJson, "byte 26: expected nothing after the object"),
    ];
    for (record, reason, detail) in cases {
        let dead = decoder(&fields).decode(Some(record.as_bytes()), &mut Row::new()).unwrap_err();
        assert_eq!(dead, Dead::new(reason, detail), "{record}");
    }
}

#[test]
fn details_are_short_whatever_the_record_holds() {
    let name = "n".repeat(500);
    for (declared, json) in [
        ("timestamp", format!("\"{}\"", "\u{e9}".repeat(5_000))),
        ("text", format!("\"\\ud800{}\"", "x".repeat(5_000))),
        ("json!", "null".to_owned()),
        ("text", format!("[{}1]", "1,".repeat(5_000))),
        ("bigint", "9".repeat(5_000)),
    ] {
        let record = format!("{{\"{name}\":{json}}}");
        assert!(reason_of(Some(record.as_bytes()), &[(&name, declared)]).is_some(), "{declared}");
    }
}

#[test]
fn text_is_borrowed_from_the_record_unless_it_is_spelled_with_escapes() {
    use std::borrow::Cow;
    let mut row = Row::new();
    decoder(&[("a", "text"), ("b", "text")]).decode(Some(br#"{"a":"x","b":"\u0078"}"#), &mut row).unwrap();
    assert!(matches!(&row[..], [Value::Text(Cow::Borrowed("x")), Value::Text(Cow::Owned(b))] if b == "x"));
}

#[test]
fn watched_names_are_noticed_in_the_outermost_object_alone() {
    let watched: Vec<Arc<str>> = ["p", "a", "q", "p"].map(Arc::from).into();
    let decoder = RecordDecoder::new(&[field("a", "text")], 1_000, &watched);
    let cases = [
        ("{}", 0, 1, true),
        (" { } ", 0, 3, true),
        (r#"{"a":"x"}"#, 0b0010, 8, false),
        (r#"{"p":1,"q":2}"#, 0b1101, 12, false),
        (r#"{"\u0070":1} "#, 0b1001, 11, false),
        (r#"{"x":{"p":1}}"#, 0, 12, false),
    ];
    for (record, watched_present, closing_brace, empty) in cases {
        let decoded = decoder.decode(Some(record.as_bytes()), &mut Row::new()).unwrap();
        assert_eq!(decoded, Decoded { text: record, closing_brace, empty, watched_present }, "{record}");
    }
}

mod random;
mod splicing;
