//! Generated records, whole and broken.

use serde::de::IgnoredAny;

use super::*;

/// JSON objects in odd spellings; names and values are taken from few, so that duplicates happen.
pub(super) fn object() -> impl Strategy<Value = String> {
    let value = scalar().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|elements| format!("[{}]", elements.join(" ,"))),
            members(inner).prop_map(|members| format!("{{{members}}}")),
        ]
    });
    let flat = members(scalar());
    let any = members(value);
    (prop_oneof![flat, any], blank(), blank())
        .prop_map(|(members, before, after)| format!("{before}{{{before}{members}{after}}}{after}"))
}

fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (key(), blank(), value, blank())
        .prop_map(|(key, before, value, after)| format!("{before}\"{key}\"{after}:{before}{value}{after}"));
    prop::collection::vec(member, 0..8).prop_map(|members| members.join(","))
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "", "", " ", "\t", "\r\n"])
}

fn key() -> impl Strategy<Value = String> {
    let keys = ["a", "b", "c", "d", "", "\\u0061", "user_id", "\\n", "\u{e9}", "a_longer_name_than_eight"];
    prop::sample::select(keys.to_vec()).prop_map(str::to_owned)
}

fn scalar() -> impl Strategy<Value = String> {
    let fixed = [
        "true",
        "false",
        "null",
        "0",
        "-0",
        "1.5",
        "-12e3",
        "9223372036854775807",
        "1e-7",
        "\"\"",
        "\"2026-01-30T01:18:10.5Z\"",
        "\"2026-02-30T01:18:10Z\"",
        "1769735890123",
        "\"\\ud83d\\ude00\"",
        "\"\\u0000\"",
        "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
        "\"10.0.0.1/32\"",
        "[]",
        "{}",
        "\"\\\\\"",
        "\"\\\"\"",
    ];
    prop_oneof![
        3 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        2 => "[ -~\u{a0}-\u{ff}\u{4e00}-\u{4e10}\u{1f600}]{0,30}".prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| serde_json::Value::from(number).to_string()),
    ]
}

/// Bytes put in, taken out or overwritten at random places.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        4 => prop::sample::select(b"\"\\{}[]:,0-.eEntu \n\t\x00\x1f\x7f".to_vec()),
        1 => any::<u8>(),
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, bytes), 1..4);
    (object(), edits).prop_map(|(record, edits)| {
        let mut record = record.into_bytes();
        for (place, kind, byte) in edits {
            let at = place.index(record.len() + 1);
            match kind {
                0 => record.insert(at, byte),
                1 => record.truncate(at),
                2 if at < record.len() => drop(record.remove(at)),
                _ if at < record.len() => record[at] = byte,
                _ => record.push(byte),
            }
        }
        record
    })
}

/// Nesting of a text that is JSON, counted by brackets outside strings.
fn nesting(json: &str) -> usize {
    let (mut level, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => level += 1,
            b'}' | b']' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
        most = most.max(level);
    }
    most
}

fn slow(text: &str) -> Option<(Vec<Member<'_>>, Shape)> {
    let mut members = Vec::new();
    let shape = super::super::scan::scan(text, |member| members.push(member)).ok()?;
    Some((members, shape))
}

fn fast(text: &str) -> Option<(Vec<Member<'_>>, Shape)> {
    let mut members = Vec::new();
    let shape = super::super::fast::scan(text, |member| members.push(member))?;
    Some((members, shape))
}

/// The fast scanner answers what the strict one does, or not at all; it must answer where it can.
fn scanners_agree(record: &[u8]) -> Result<(), TestCaseError> {
    let Ok(text) = std::str::from_utf8(record) else {
        return Ok(());
    };
    let (slow, fast) = (slow(text), fast(text));
    let simple = !text.contains('\\') && nesting(text) == 1;
    if fast.is_some() || (simple && slow.is_some()) {
        prop_assert_eq!(fast, slow);
    }
    Ok(())
}

/// `IgnoredAny` takes numbers of any size and half surrogate pairs as we do, but nesting without end.
fn agrees_with_serde(record: &[u8]) -> Result<(), TestCaseError> {
    let ours = reason_of(Some(record), &[]);
    let lenient = serde_json::from_slice::<IgnoredAny>(record).is_ok();
    let theirs = match std::str::from_utf8(record) {
        Err(_) => Some(DeadReason::NotUtf8),
        Ok(text) if lenient && text.trim_start().starts_with('{') && nesting(text) <= MAX_NESTING => None,
        Ok(_) => Some(DeadReason::NotJson),
    };
    prop_assert_eq!(&ours, &theirs);
    match serde_json::from_slice::<serde_json::Value>(record) {
        Ok(value) => prop_assert_eq!(ours.is_none(), value.is_object()),
        Err(error) if ours.is_none() => {
            let text = error.to_string();
            let known = ["number out of range", "surrogate", "unexpected end of hex escape"];
            prop_assert!(known.iter().any(|reason| text.contains(reason)), "{}", text);
        }
        Err(_) => {}
    }
    Ok(())
}

/// What a record means by serde_json's reading of it, for fields of type json.
fn means_the_same(record: &str) -> Result<(), TestCaseError> {
    let names = ["a", "b", "user_id", "\u{e9}", ""];
    let decoder = decoder(&names.map(|name| (name, "json")));
    let mut row = Row::new();
    let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(record).unwrap();
    match decoder.decode(Some(record.as_bytes()), &mut row) {
        Err(dead) => prop_assert_eq!(dead.reason, DeadReason::NulCharacter),
        Ok(_) => {
            for (name, value) in names.iter().zip(&row) {
                let value = match value {
                    Value::Text(json) => serde_json::from_str(json).unwrap(),
                    _ => serde_json::Value::Null,
                };
                prop_assert_eq!(&value, expected.get(*name).unwrap_or(&serde_json::Value::Null));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn generated_records_are_read_alike_by_all(record in object()) {
        prop_assert_eq!(reason_of(Some(record.as_bytes()), &[]), None);
        scanners_agree(record.as_bytes())?;
        agrees_with_serde(record.as_bytes())?;
        means_the_same(&record)?;
    }

    #[test]
    fn broken_records_are_read_alike_by_all(record in broken()) {
        scanners_agree(&record)?;
        agrees_with_serde(&record)?;
    }

    #[test]
    fn no_bytes_panic(record in prop::collection::vec(any::<u8>(), 0..40)) {
        let every_type = [
            ("a", "text"), ("b", "timestamp"), ("c", "json"), ("d", "uuid"), ("", "inet"), ("user_id", "double"),
        ];
        reason_of(Some(&record), &every_type);
    }

    #[test]
    fn no_value_panics_any_type(value in scalar()) {
        let types = [
            "text", "bigint", "double", "boolean", "timestamp", "timestamp_ms", "timestamp_s", "uuid", "inet", "json",
        ];
        for declared in types {
            let _ = decode_one(declared, &value);
        }
    }
}
