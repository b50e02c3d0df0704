use proptest::prelude::*;

use super::tests::{fields, row};
use super::{cast, like, parse};
use crate::model::{DataType, Value};

/// `like` by its definition: try every way to spread the text over the pattern.
fn like_by_definition(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|skip| like_by_definition(&text[skip..], rest)),
        ['_', rest @ ..] => !text.is_empty() && like_by_definition(&text[1..], rest),
        ['\\', c, rest @ ..] | [c, rest @ ..] => {
            text.first() == Some(c) && like_by_definition(&text[1..], rest)
        }
    }
}

proptest! {
    #[test]
    fn like_agrees_with_its_definition(text in "[abä%]{0,8}", pattern in "(a|b|ä|%|_|\\\\%|\\\\a){0,7}") {
        let chars = |text: &str| text.chars().collect::<Vec<char>>();
        let expect = like_by_definition(&chars(&text), &chars(&pattern));
        prop_assert_eq!(like::matches(&text, &pattern, false), Ok(expect));
        prop_assert_eq!(like::Pattern::new(&pattern, false).and_then(|p| p.matches(&text)), Ok(expect));
        prop_assert_eq!(like::Pattern::new(&pattern, true).and_then(|p| p.matches(&text)), Ok(expect));
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
        if let Err(found) = parse(&text, &fields()) {
            prop_assert!(!found.is_empty());
        }
    }

    #[test]
    fn any_words_are_evaluated_or_refused(
        words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 1..14)
    ) {
        let text = words.join(" ");
        match parse(&text, &fields()) {
            Ok(expr) => {
                let value = expr.eval(&row()).map(Value::into_owned);
                let typed = expr.nullable() || value != Ok(Value::Null);
                prop_assert!(typed, "{} is null, but not by type", text);
            }
            Err(found) => prop_assert!(!found.is_empty()),
        }
    }

    #[test]
    fn any_text_is_cast_and_back_or_raises(text in CASTABLE) {
        for to in TYPES {
            let value = Value::Text(text.as_str().into());
            if let Ok(value) = cast::cast(value, DataType::Text, to) {
                let again = cast::cast(value.clone(), to, DataType::Text)
                    .and_then(|text| cast::cast(text.into_owned(), DataType::Text, to));
                prop_assert_eq!(again, Ok(value));
            }
        }
    }
}

const CASTABLE: &str = "\\PC{0,12}|[-+]?[0-9_.e]{0,25}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.+-]{0,16}";

const TYPES: [DataType; 7] = [
    DataType::Bigint,
    DataType::Double,
    DataType::Boolean,
    DataType::Timestamp,
    DataType::Date,
    DataType::Uuid,
    DataType::Inet,
];

const WORDS: [&str; 56] = [
    "n",
    "x",
    "ok",
    "id",
    "ip",
    "doc",
    "event_time",
    "event_type",
    "page_url",
    "no_number",
    "no_text",
    "no_ok",
    "(",
    "(",
    ")",
    ")",
    ",",
    "=",
    "<>",
    "<",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "and",
    "or",
    "not",
    "is",
    "null",
    "true",
    "in",
    "between",
    "like",
    "ilike",
    "case",
    "when",
    "then",
    "else",
    "end",
    "cast(",
    "as",
    "::",
    "bigint",
    "text",
    "lower(",
    "substr(",
    "split_part(",
    "coalesce(",
    "date(",
    "interval '1 h'",
    "'a'",
    "'7'",
    "7",
    "0.5",
];
