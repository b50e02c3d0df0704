//! Enriched records, byte by byte.

use super::*;

/// Splices `set` into `record` and checks that every place reported holds its value.
fn enrich(record: &str, set: &[(&str, &str)]) -> String {
    let names: Vec<Arc<str>> = set.iter().map(|(name, _)| Arc::from(*name)).collect();
    let mut watched: Vec<Arc<str>> = vec!["unrelated".into()];
    watched.extend(names.iter().rev().cloned());
    let decoder = RecordDecoder::new(&[], 1 << 20, &watched);
    let decoded = decoder.decode(Some(record.as_bytes()), &mut Row::new()).unwrap();
    let mut out = b"before".to_vec();
    let mut places = Vec::new();
    let value = |field: usize| set[field].1.as_bytes();
    splice(&decoded, &SpliceNames::new(&names, &watched), value, &mut out, |field, at| {
        places.push((field, at))
    });
    for (field, at) in places {
        assert!(out[at..].starts_with(value(field)), "{record}");
    }
    String::from_utf8(out.split_off("before".len())).unwrap()
}

#[test]
fn fields_are_added_before_the_closing_brace_or_replaced_where_they_stand() {
    let one: &[(&str, &str)] = &[("p", "1")];
    let two: &[(&str, &str)] = &[("p", "1"), ("q", "\"}\"")];
    let cases = [
        ("{}", one, r#"{"p":1}"#),
        (" { } \n", two, " { \"p\":1,\"q\":\"}\"} \n"),
        (r#"{"a":"x"}"#, two, r#"{"a":"x","p":1,"q":"}"}"#),
        ("{\"a\":{\"p\":2}\n}\n", one, "{\"a\":{\"p\":2}\n,\"p\":1}\n"),
        (r#"{"a":1}"#, &[], r#"{"a":1}"#),
        (r#"{"p":"old","a":1}"#, one, r#"{"p":1,"a":1}"#),
        (r#"{"a":1,"p": {"x":[1]} }"#, two, r#"{"a":1,"p": 1 ,"q":"}"}"#),
        (r#"{"q":0,"p":0}"#, two, r#"{"q":"}","p":1}"#),
        (r#"{"p":0,"p":null,"\u0070":2}"#, one, r#"{"p":1,"p":1,"\u0070":1}"#),
        (r#"{"a":"\ud800","\ud800":1}"#, one, r#"{"a":"\ud800","\ud800":1,"p":1}"#),
        (r#"{"\ud800":1,"p":2}"#, one, r#"{"\ud800":1,"p":1}"#),
        ("{}", &[("a\"\u{e9}\n", "1")], "{\"a\\\"\u{e9}\\n\":1}"),
        (r#"{"a\"\n":0}"#, &[("a\"\n", "1")], r#"{"a\"\n":1}"#),
    ];
    for (record, set, enriched) in cases {
        assert_eq!(enrich(record, set), enriched, "{record}");
    }
}

#[test]
fn another_outputs_names_do_not_matter() {
    let watched: Vec<Arc<str>> = vec!["p".into(), "q".into()];
    let decoder = RecordDecoder::new(&[], 100, &watched);
    let decoded = decoder.decode(Some(br#"{"p":0}"#), &mut Row::new()).unwrap();
    let mut out = Vec::new();
    splice(&decoded, &SpliceNames::new(&watched[1..], &watched), |_| b"1", &mut out, |_, _| ());
    assert_eq!(out, br#"{"p":0,"q":1}"#);
}

proptest! {
    #[test]
    fn an_enriched_record_parses_to_the_input_and_the_set_fields(record in random::object()) {
        let enriched = enrich(&record, &[("a", "[\"set\"]"), ("new", "true")]);
        let mut expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&record).unwrap();
        expected.insert("a".into(), serde_json::json!(["set"]));
        expected.insert("new".into(), true.into());
        let enriched: serde_json::Value = serde_json::from_str(&enriched).unwrap();
        prop_assert_eq!(enriched, serde_json::Value::Object(expected));
    }
}
