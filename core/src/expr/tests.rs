use std::sync::Arc;

use super::*;
use crate::model::EventTime;

/// The fields of all tests; `Null` in the row where the name begins with `no_`.
pub(super) fn fields() -> Vec<FieldType> {
    use DataType::*;
    let field = |name: &str, data_type, nullable| FieldType { name: Arc::from(name), data_type, nullable };
    vec![
        field("event_time", Timestamp, false),
        field("event_type", Text, false),
        field("page_url", Text, true),
        field("n", Bigint, false),
        field("x", Double, true),
        field("ok", Boolean, true),
        field("id", Uuid, false),
        field("ip", Inet, true),
        field("doc", Json, true),
        field("user", Text, true),
        field("userName", Text, true),
        field("no_text", Text, true),
        field("no_number", Bigint, true),
        field("no_ok", Boolean, true),
        field("no_time", Timestamp, true),
    ]
}

pub(super) fn row() -> Row<'static> {
    let text = |text: &'static str| Value::Text(text.into());
    vec![
        Value::Timestamp(EventTime(1_769_735_890_500_000)),
        text("page_view"),
        text("/Products/ä?utm_source=mail"),
        Value::Bigint(7),
        Value::Double(2.5),
        Value::Boolean(true),
        text("550e8400-e29b-41d4-a716-446655440000"),
        text("10.0.0.1"),
        text(r#"{"a":1}"#),
        text("u1"),
        text("Una"),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
    ]
}

pub(super) fn problems(problems: Vec<ExprProblem>) -> String {
    let line = |p: ExprProblem| {
        let hint = p.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}:{} {}{hint}", p.line, p.column, p.message)
    };
    problems.into_iter().map(line).collect::<Vec<_>>().join(" | ")
}

pub(super) fn outcome(text: &str) -> String {
    let expr = match parse(text, &fields()) {
        Ok(expr) => expr,
        Err(found) => return problems(found),
    };
    let row = row();
    match expr.eval(&row) {
        Ok(value) => {
            assert!(expr.nullable() || !value.is_null(), "{text} is null, but not by type");
            Expr::literal(value.into_owned(), expr.data_type()).canonical()
        }
        Err(error) => format!("raises {error}"),
    }
}

/// The canonical text of the value, `raises` and the error, or the problems.
pub(super) fn check(text: &str, expect: &str) {
    assert_eq!(outcome(text), expect, "{text}");
}

pub(super) fn check_all(cases: &[(&str, &str)]) {
    cases.iter().for_each(|(text, expect)| check(text, expect));
}

#[test]
fn literals_have_the_types_of_their_spelling() {
    check_all(&[
        ("'it''s'", "'it''s'"),
        ("42", "42"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775808", "double '9.223372036854776e+18'"),
        ("1.50", "double '1.5'"),
        ("1e3", "double '1000'"),
        ("1e400", "1:1 double out of range: \"1e400\""),
        ("TRUE", "true"),
        ("null", "null::text"),
        ("timestamp '2026-01-30 01:18:10+01'", "timestamp '2026-01-30T00:18:10.000000Z'"),
        ("date '2026-01-30'", "date '2026-01-30'"),
        ("date '2026-02-30'", "1:6 date out of range: \"2026-02-30\""),
        ("uuid '550E8400-E29B-41D4-A716-446655440000'", "uuid '550e8400-e29b-41d4-a716-446655440000'"),
        ("e'\\n'", "1:1 not in millstream's SQL: this kind of literal (write a text as 'text')"),
    ]);
}

#[test]
fn names_fold_to_lower_case_unless_quoted() {
    check_all(&[
        ("EVENT_Type", "'page_view'"),
        ("\"userName\"", "'Una'"),
        ("\"user\"", "'u1'"),
        (
            "userName",
            "1:1 unknown field username (write \"userName\" in double quotes: it has capital letters)",
        ),
        (
            "user",
            "1:1 not in millstream's SQL: the keyword user (write \"user\" in double quotes if the field is \
             meant)",
        ),
        ("event_typ", "1:1 unknown field event_typ (did you mean event_type?)"),
        (
            "activity.n",
            "1:1 not in millstream's SQL: a name with a point (name the field alone: there is one source in \
             sight)",
        ),
    ]);
}

#[test]
fn logic_has_three_values() {
    check_all(&[
        ("no_ok and false", "false"),
        ("no_ok and true", "null::boolean"),
        ("no_ok or true", "true"),
        ("no_ok or false", "null::boolean"),
        ("not no_ok", "null::boolean"),
        ("no_ok is null", "true"),
        ("ok is not null", "true"),
        ("no_ok is true", "false"),
        ("no_ok is not true", "true"),
        ("ok is not false", "true"),
        ("no_text = 'a'", "null::boolean"),
        ("n in (1, 7, null)", "true"),
        ("n in (1, null)", "null::boolean"),
        ("n not in (1, null)", "null::boolean"),
        ("n not in (1, 2)", "true"),
        ("no_number in (1, 2)", "null::boolean"),
        ("n between 1 and 7", "true"),
        ("n between null and 1", "false"),
        ("n between null and 9", "null::boolean"),
        ("n not between 1 and 6", "true"),
        ("null and false", "false"),
        ("'yes' and ok", "true"),
        ("n and ok", "1:1 a condition must be boolean, not bigint"),
    ]);
}

#[test]
fn logic_stops_early_from_left_to_right() {
    check_all(&[
        ("n = 0 and 1 / (n - 7) > 0", "false"),
        ("n = 7 or 1 / (n - 7) > 0", "true"),
        ("1 / (n - 7) > 0 and n = 0", "raises division by zero: 1"),
        ("no_ok and 1 / (n - 7) > 0", "raises division by zero: 1"),
        ("case when n = 7 then 1 else 1 / (n - 7) end", "1"),
        ("coalesce(n, 1 / (n - 7))", "7"),
        ("1 / 0", "raises division by zero: 1"),
    ]);
}

#[test]
fn comparisons_follow_the_types() {
    check_all(&[
        ("event_type = 'page_view'", "true"),
        ("event_type != 'click'", "true"),
        ("'Z' < 'a'", "true"),
        ("'ä' > 'z'", "true"),
        ("n > 6.5", "true"),
        ("n = x", "false"),
        ("n = '7'", "true"),
        ("n = 'seven'", "1:5 invalid text for bigint: \"seven\""),
        ("false < ok", "true"),
        ("event_time > '2026-01-30 01:18:10'", "true"),
        ("event_time < date '2026-01-31'", "true"),
        ("date(event_time) = '2026-01-30'", "true"),
        ("id = '550E8400E29B41D4A716446655440000'", "true"),
        ("id = event_type", "1:1 operator = does not take uuid and text (cast one side, as in x::uuid)"),
        ("ip = '10.0.0.1/32'", "true"),
        ("ip = '10.0.0'", "1:6 invalid text for inet: \"10.0.0\""),
        ("ip < '10.0.0.2'", "1:1 operator < does not take inet and text"),
        (
            "doc = '{}'",
            "1:1 operator = does not take json and text (json cannot be compared: cast it to text)",
        ),
        ("doc::text = '{\"a\":1}'", "true"),
        ("page_url > 5", "1:1 operator > does not take text and bigint (cast one side, as in x::bigint)"),
        ("null = null", "null::boolean"),
        ("-0.0 = 0", "true"),
    ]);
}

#[test]
fn arithmetic_is_exact_or_raises() {
    check_all(&[
        ("1 + 2 * 3", "7"),
        ("-7 / 2", "-3"),
        ("-7 % 2", "-1"),
        ("7 % -2", "1"),
        ("n / 2.0", "double '3.5'"),
        ("n + no_number", "null::bigint"),
        ("9223372036854775807 + n", "raises bigint out of range: 9223372036854775807 + 7"),
        ("(-9223372036854775808) / (n - 8)", "raises bigint out of range: -9223372036854775808 / -1"),
        ("(-9223372036854775808) % (n - 8)", "0"),
        ("-(n - 7 + (-9223372036854775808))", "raises bigint out of range: -(-9223372036854775808)"),
        ("1e308 * x * 10", "raises double value out of range: 1e+308 * 2.5"),
        ("1e-300 * 1e-300", "raises double value out of range: 1e-300 * 1e-300"),
        ("1e-300 / (x * 1e300)", "raises double value out of range: 1e-300 / 2.5e+300"),
        ("x / 0", "raises division by zero: 2.5"),
        ("x % 2", "1:1 operator % does not take double and bigint"),
        ("+n", "7"),
        ("- -n", "7"),
        ("event_type + 1", "1:1 operator + does not take text and bigint"),
        ("'1' + 1", "2"),
        ("'a' || n || null", "null::text"),
        ("'a' || n || ok || x", "'a7true2.5'"),
        ("n || ok", "1:1 operator || does not take bigint and boolean (cast one side to text)"),
        ("-event_type", "1:2 operator - does not take text"),
    ]);
}

#[test]
fn every_problem_is_reported_with_its_place() {
    check_all(&[
        (
            "evnt_type = 'a'\n and nn > 1 and lowr(page_url) = 'b'",
            "1:1 unknown field evnt_type (did you mean event_type?) | 2:6 unknown field nn (did you mean n?) | \
             2:17 unknown function lowr (did you mean lower?)",
        ),
        ("", "1:1 the expression is empty"),
        ("n >", "1:4 expected: an expression, found the end"),
        ("n > 1 n", "1:7 unexpected n after the expression"),
        ("'open", "1:1 unterminated string literal"),
        ("n = commit_time()", "1:5 commit_time() must be the whole of a `set` value"),
        ("count(*)", "1:1 count is an aggregate: it may stand only in `select`"),
        (
            "now()",
            "1:1 now would read the clock, and an expression may not (commit_time() in `set` is the time at \
             which the epoch was decided)",
        ),
        ("n in (select 1)", "1:1 not in millstream's SQL: a subquery"),
        ("n -> 'a'", "1:1 not in millstream's SQL: operator ->"),
        ("trim(page_url)", "1:6 not in millstream's SQL: trim"),
    ]);
}

#[test]
fn nullability_follows_the_types() {
    let nullable = |text: &str| parse(text, &fields()).map(|expr| expr.nullable());
    for text in [
        "event_type",
        "coalesce(page_url, '')",
        "n + 1",
        "page_url is null",
        "case when ok then 1 else 2 end",
    ] {
        assert_eq!(nullable(text), Ok(false), "{text}");
    }
    for text in [
        "page_url",
        "nullif(n, 1)",
        "n + x",
        "case when ok then 1 end",
        "url_host(event_type)",
        "ok and true",
    ] {
        assert_eq!(nullable(text), Ok(true), "{text}");
    }
}

#[test]
fn canonical_text_does_not_depend_on_the_spelling() {
    let canonical = |text: &str| parse(text, &fields()).map(|expr| expr.canonical());
    for (one, other) in [
        ("EVENT_TYPE='page_view'   and (ok)", "event_type = 'page_view' AND ok"),
        ("n != 1 + 1", "n <> 2"),
        ("n::text", "cast(n as text)"),
        ("event_time > '2026-01-30'", "event_time > timestamp '2026-01-30T00:00:00Z'"),
    ] {
        assert_eq!(canonical(one), canonical(other), "{one}");
    }
    let whole = "case when page_url ilike '/a%' and n in (1, 2) then x else -1 end";
    let expect =
        "case when ((\"page_url\" ilike '/a%') and (\"n\" in (1, 2))) then \"x\" else double '-1' end";
    assert_eq!(canonical(whole), Ok(expect.to_owned()));
}

#[test]
fn fields_are_found() {
    let expr = parse("n > 1 and lower(event_type) = 'a' and n < 5", &fields()).unwrap();
    assert_eq!((expr.fields_used(), expr.as_field()), (vec![1, 3], None));
    assert_eq!(parse("(n)", &fields()).unwrap().as_field(), Some(3));
}

#[test]
fn aggregate_calls_keep_their_parts() {
    let call = |text: &str| parse_aggregate(text, &fields());
    let count = call("COUNT(*) filter (where event_type = 'page_view')").unwrap();
    assert_eq!((count.function.as_str(), count.star, count.arguments.len()), ("count", true, 0));
    assert!(count.filter.unwrap().is_true(&row()).unwrap());
    let sum = call("sum(n + 1)").unwrap();
    assert_eq!((sum.star, sum.distinct, sum.arguments[0].data_type()), (false, false, DataType::Bigint));
    assert!(call("count(distinct event_type)").unwrap().distinct);
    for (text, expect) in [
        ("n + 1", "1:1 an aggregate call is needed, such as count(*) or sum(x)"),
        (
            "sum(m) filter (where n)",
            "1:22 a condition must be boolean, not bigint | 1:5 unknown field m (did you mean n?)",
        ),
        ("sum(n) over ()", "1:1 not in millstream's SQL: this form of a call"),
    ] {
        assert_eq!(call(text).map_err(problems).unwrap_err(), expect, "{text}");
    }
}

#[test]
fn commit_time_is_recognised_alone() {
    assert!(["commit_time()", " Commit_Time ( ) "].into_iter().all(is_commit_time));
    assert!(
        !["commit_time", "commit_time() + 1", "commit_time(1)", "x", "ä"].into_iter().any(is_commit_time)
    );
}

#[test]
fn conditions_are_true_only_if_true() {
    let is_true = |text: &str| parse_condition(text, &fields()).unwrap().is_true(&row());
    assert_eq!((is_true("ok"), is_true("no_ok"), is_true("null")), (Ok(true), Ok(false), Ok(false)));
    assert_eq!(
        parse_condition("n", &fields()).map_err(problems).unwrap_err(),
        "1:1 a condition must be boolean, not bigint"
    );
}

#[test]
fn depth_and_length_are_limited() {
    let too_deep = |text: String| outcome(&text).ends_with("expressions nest more than 64 deep");
    assert!(too_deep(format!("{}n{}", "(".repeat(65), ")".repeat(65))));
    assert!(too_deep(format!("{}n{}", "(".repeat(2_000), ")".repeat(2_000))));
    assert!(too_deep(format!("{}ok", "not ".repeat(200))));
    assert!(too_deep(format!("n{}", " + 1".repeat(2_000))));
    assert!(too_deep(format!("n{}", "::text".repeat(1_300))));
    assert!(too_deep(format!("{}n{}", "lower(".repeat(900), ")".repeat(900))));
    assert!(too_deep(format!("{}1{}", "case when ok then ".repeat(200), " end".repeat(200))));
    for text in [format!("{}ok", "not ".repeat(4_000)), format!("{}1", "case when ok then ".repeat(1_000))] {
        assert!(parse(&text, &fields()).is_err());
    }
    assert!(outcome(&" or n = 1".repeat(2_000)).contains("longer than"));
    check(&format!("{}n{}", "(".repeat(60), ")".repeat(60)), "7");
    check(&format!("n = 0{} or n = 7", " or n = 1".repeat(900)), "true");
    check(&format!("''{}", " || 'a'".repeat(3)), "'aaa'");
}
