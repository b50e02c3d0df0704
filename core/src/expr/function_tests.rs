use super::tests::{check, check_all};
use crate::model::EventTime;

#[test]
fn timestamps_move_by_fixed_lengths() {
    check_all(&[
        ("event_time + interval '1 day 2 hours'", "timestamp '2026-01-31T03:18:10.500000Z'"),
        ("event_time - interval '-1.5 h'", "timestamp '2026-01-30T02:48:10.500000Z'"),
        ("event_time + interval '90' second", "timestamp '2026-01-30T01:19:40.500000Z'"),
        ("event_time + interval '01:00:00.5'", "timestamp '2026-01-30T02:18:11.000000Z'"),
        ("event_time + interval '1 month'", "1:23 \"month\" has no fixed length"),
        ("event_time + interval '5 parsecs'", "1:23 \"parsecs\" is no unit of an interval"),
        (
            "event_time - event_time",
            "1:1 operator - does not take timestamp and timestamp (only timestamp + interval and timestamp - \
             interval, as in interval '5 minutes')",
        ),
        ("n + interval '1 s'", "1:1 operator + does not take bigint and interval"),
        (
            "timestamp '9999-12-31' + interval '1 day'",
            "raises timestamp out of range: +10000-01-01T00:00:00.000000Z",
        ),
        (
            "interval '1 s'",
            "1:10 not in millstream's SQL: an interval here (only timestamp + interval and timestamp - \
             interval)",
        ),
    ]);
}

#[test]
fn case_and_its_kin_choose_one_type() {
    check_all(&[
        ("case when n > 5 then 'many' else 'few' end", "'many'"),
        ("case when n > 9 then 'many' end", "null::text"),
        ("case n when 7 then 1 when 8 then 2.5 end", "double '1'"),
        ("case no_number when 7 then 1 else 0 end", "0"),
        ("case when n then 1 end", "1:11 a condition must be boolean, not bigint"),
        ("case when ok then 1 else 'a' end", "1:26 invalid text for bigint: \"a\""),
        ("case when ok then n else event_type end", "1:1 case cannot choose between bigint and text"),
        ("coalesce(no_number, 5)", "5"),
        ("coalesce(no_text, event_type, 'x')", "'page_view'"),
        ("coalesce(no_number, x)", "double '2.5'"),
        ("nullif(n, 7)", "null::bigint"),
        ("nullif(n, 8)", "7"),
        ("nullif(n)", "1:1 nullif does not take 1 argument (nullif(x, y))"),
    ]);
}

#[test]
fn casts_read_and_write_text_as_postgresql_does() {
    check_all(&[
        ("' 12 '::bigint", "12"),
        ("cast('-0x1F' as bigint)", "-31"),
        ("'1_000'::bigint", "1000"),
        ("'1__0'::bigint", "1:1 invalid text for bigint: \"1__0\""),
        ("'9223372036854775808'::bigint", "1:1 bigint out of range: \"9223372036854775808\""),
        ("event_type::bigint", "raises invalid text for bigint: \"page_view\""),
        ("' 1e2 '::double precision", "double '100'"),
        ("'NaN'::double precision", "1:1 invalid text for double: \"NaN\""),
        ("'1e-400'::float8", "1:1 double out of range: \"1e-400\""),
        ("2.5::bigint", "2"),
        ("3.5::bigint", "4"),
        ("(x * 1e300)::bigint", "raises bigint out of range: \"2.5e+300\""),
        ("n::text", "'7'"),
        ("1e20::text", "'1e+20'"),
        ("123456789012345.0::text", "'123456789012345'"),
        ("1e15::text", "'1e+15'"),
        ("0.0001::text", "'0.0001'"),
        ("0.00001::text", "'1e-05'"),
        ("(-0.0)::text", "'-0'"),
        ("ok::text", "'true'"),
        ("' TRU '::boolean", "true"),
        ("'o'::boolean", "1:1 invalid text for boolean: \"o\""),
        ("event_time::text", "'2026-01-30 01:18:10.5+00'"),
        ("(event_time - interval '0.5 s')::text", "'2026-01-30 01:18:10+00'"),
        ("event_time::date::text", "'2026-01-30'"),
        ("id::text", "'550e8400-e29b-41d4-a716-446655440000'"),
        ("ip::text", "'10.0.0.1/32'"),
        ("'2001:DB8:0:0:1:0:0:1'::inet", "inet '2001:db8::1:0:0:1'"),
        ("no_text::bigint", "null::bigint"),
        ("ok::bigint", "1:1 boolean cannot be cast to bigint"),
        ("n::integer", "1:1 not in millstream's SQL: type INTEGER (write bigint)"),
    ]);
}

#[test]
fn timestamps_are_read_in_iso_form() {
    let timestamp = |text: &str, expect: &str| check(&format!("'{text}'::timestamp"), expect);
    for (text, micros) in [
        ("2026-01-30", 0),
        ("2026-01-30T00:00", 0),
        ("2026-01-30 01:18:10.25Z", 4_690_250_000),
        ("2026-01-30 01:18:10.0000015", 4_690_000_002),
        ("2026-01-30T01:18:10+05:30", 4_690_000_000 - 19_800_000_000),
        ("2026-01-30 01:18:10 -0130", 4_690_000_000 + 5_400_000_000),
        ("2026-01-30 23:59:60", 86_400_000_000),
        ("2026-01-30 24:00:00", 86_400_000_000),
    ] {
        let expect = EventTime(1_769_731_200_000_000 + micros);
        timestamp(text, &format!("timestamp '{expect}'"));
    }
    for text in
        ["", "now", "30.01.2026", "2026-01-30 1", "2026-01-30T", "2026-01-30 01:18:10 UTC", "26-01-30"]
    {
        timestamp(text, &format!("1:1 invalid text for timestamp: {text:?}"));
    }
    for text in ["0000-01-01", "2026-13-01", "2026-01-30 24:00:01", "2026-01-30 01:60"] {
        timestamp(text, &format!("1:1 timestamp out of range: {text:?}"));
    }
}

#[test]
fn text_functions_count_characters() {
    check_all(&[
        ("lower('ÄBC')", "'Äbc'"),
        ("upper('straße é')", "'STRAßE é'"),
        ("length('äöü')", "3"),
        ("substr('äbc', 2)", "'bc'"),
        ("substr('äbc', -1, 3)", "'ä'"),
        ("substring('äbc' from 2 for 1)", "'b'"),
        ("substring('abc', 0, 1)", "''"),
        ("substr('abc', 2, 9223372036854775807)", "'bc'"),
        ("substr(event_type, 1, n - 8)", "raises negative substring length: -1"),
        ("split_part('a,b,c', ',', 2)", "'b'"),
        ("split_part('a,b,c', ',', -1)", "'c'"),
        ("split_part('a,b,c', ',', 4)", "''"),
        ("split_part('a,b,c', ',', -4)", "''"),
        ("split_part('aaa', 'aa', -1)", "'a'"),
        ("split_part('abc', '', -1)", "'abc'"),
        ("split_part('abc', '', 2)", "''"),
        ("split_part(event_type, ',', n - 7)", "raises field position of split_part must not be zero"),
        ("lower(no_text)", "null::text"),
        ("lower(n)", "1:7 lower does not take bigint here (lower(text))"),
        ("lower('a', 'b')", "1:1 lower does not take 2 arguments (lower(text))"),
        ("regexp_match(page_url, '^/([^/?]+)')", "'Products'"),
        ("regexp_match(page_url, 'P.*ts')", "'Products'"),
        ("regexp_match(page_url, '^x')", "null::text"),
        ("regexp_match('foobar', 'o(b)?x?')", "null::text"),
        (
            "regexp_match(page_url, event_type)",
            "1:24 the pattern of regexp_match must be a literal (regexp_match(text, 'pattern'))",
        ),
        ("regexp_match(page_url, '(')", "1:24 regexp_match cannot use this pattern: unclosed group"),
    ]);
}

#[test]
fn like_matches_whole_texts() {
    check_all(&[
        ("page_url like '/%'", "true"),
        ("page_url like '%mail'", "true"),
        ("page_url like '%/ä?%'", "true"),
        ("page_url like '/products%'", "false"),
        ("page_url ilike '/products%'", "true"),
        ("event_type not like 'page__iew'", "false"),
        ("event_type like 'page\\_view'", "true"),
        ("'ä' like '_'", "true"),
        ("'Ä' ilike 'ä'", "false"),
        ("'abc' like event_type || '\\'", "false"),
        ("event_type like event_type || '\\'", "false"),
        (
            "event_type like '%' || lower('\\')",
            "1:17 a pattern of like must not end with the escape character",
        ),
        (
            "event_type like case when ok then '%' || '\\' else event_type end",
            "raises a pattern of like must not end with the escape character",
        ),
        ("no_text like 'a'", "null::boolean"),
        ("n like '7'", "1:1 operator like does not take bigint and text (cast it to text)"),
    ]);
}

#[test]
fn time_functions_are_in_utc() {
    check_all(&[
        ("date_trunc('milliseconds', event_time)", "timestamp '2026-01-30T01:18:10.500000Z'"),
        ("date_trunc('MINUTE', event_time)", "timestamp '2026-01-30T01:18:00.000000Z'"),
        ("date_trunc('week', event_time)", "timestamp '2026-01-26T00:00:00.000000Z'"),
        ("date_trunc('week', date '1970-01-01')", "timestamp '1969-12-29T00:00:00.000000Z'"),
        ("date_trunc('quarter', timestamp '2026-06-30')", "timestamp '2026-04-01T00:00:00.000000Z'"),
        ("date_trunc('year', event_time)", "timestamp '2026-01-01T00:00:00.000000Z'"),
        (
            "date_trunc('eon', event_time)",
            "1:12 date_trunc needs a unit as a literal (the units are microseconds, milliseconds, second, \
             minute, hour, day, week, month, quarter, year)",
        ),
        ("extract(epoch from event_time)", "double '1769735890.5'"),
        ("extract(year from event_time)", "2026"),
        ("extract(quarter from event_time)", "1"),
        ("extract(week from timestamp '2027-01-01')", "53"),
        ("extract(dow from timestamp '2026-01-04')", "0"),
        ("extract(isodow from timestamp '2026-01-04')", "7"),
        ("extract(doy from timestamp '2026-02-01')", "32"),
        ("extract(hour from event_time)", "1"),
        ("extract(second from event_time)", "double '10.5'"),
        ("extract(milliseconds from event_time)", "double '10500'"),
        ("extract(microseconds from event_time)", "10500000"),
        ("extract(day from date(event_time))", "30"),
        ("extract(hour from date(event_time))", "1:19 a date has no hour"),
        ("extract(hour from no_time)", "null::bigint"),
        ("date('2026-01-30 23:00-05')", "date '2026-01-30'"),
    ]);
}

#[test]
fn urls_are_split_as_rfc_3986_says() {
    check_all(&[
        ("url_host('https://me@Example.COM:8443/a?b#c')", "'example.com'"),
        ("url_host('//[::1]:80/')", "'[::1]'"),
        ("url_host('/products')", "null::text"),
        ("url_host('mailto:a@b.c')", "null::text"),
        ("url_host('file:///etc')", "null::text"),
        ("url_path('https://example.com')", "'/'"),
        ("url_path('https://example.com?x=/y')", "'/'"),
        ("url_path('https://example.com/a/b?x#y')", "'/a/b'"),
        ("url_path(page_url)", "'/Products/ä'"),
        ("url_path('/a#b?c')", "'/a'"),
        ("url_path('')", "''"),
        ("utm(page_url, 'source')", "'mail'"),
        ("utm('?utm_source=a%20b+c%zz&utm_source=2', 'source')", "'a b c%zz'"),
        ("utm('?utm_sources=1', 'source')", "null::text"),
        ("utm('?utm_source', 'source')", "''"),
        ("utm('?utm_source=%ff', 'source')", "null::text"),
        ("utm('?utm_source=%00', 'source')", "null::text"),
        ("utm('/p#?utm_source=1', 'source')", "null::text"),
    ]);
}
