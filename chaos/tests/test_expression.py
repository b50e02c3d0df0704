"""Expressions, as PostgreSQL means them."""

from __future__ import annotations

import pytest

from chaos.referee import instant
from chaos.referee.expression import ExpressionError, SyntaxFault, compile_expression, parse_expression

SCHEMA = {
    "t": (0, "text"),
    "n": (1, "bigint"),
    "d": (2, "double"),
    "b": (3, "boolean"),
    "at": (4, "timestamp"),
    "nothing": (5, "text"),
}
ROW = ["Grün_%", 7, 2.5, True, instant.parse("2026-01-30T13:18:10.5Z"), None]

TRUE = """
t = 'Grün_%' | n <> 8 | n != 8 | 1 < 2 and 2 <= 2 | not (n > 7) | n in (1, 7) | n not in (1, 2) | nothing is null
t is not null | b is true | b is not false | n between 7 and 9 | n not between 8 and 9 | t like 'G%' | t like 'Gr_n\\_\\%'
t not like 'g%' | t ilike 'grÜn%' = false | t ilike 'gr_n%' | lower(t) = 'grün_%' | upper(t) = 'GRüN_%' | length(t) = 6
n / 2 = 3 | -n / 2 = -3 | -n % 2 = -1 | n * 2 + 1 = 15 | n - 1 - 1 = 5 | d * 2 = 5 | n / 2.0 = 3.5 | t || '!' = 'Grün_%!'
n || t = '7Grün_%' | coalesce(nothing, t) = t | nullif(n, 7) is null | nullif(n, 8) = 7 | substr(t, 2, 2) = 'rü'
substr(t, 0, 2) = 'G' | split_part('a,b,c', ',', 2) = 'b' | split_part('a,b,c', ',', -1) = 'c' | split_part('a', ',', 2) = ''
date(at) = '2026-01-30' | date_trunc('hour', at) = '2026-01-30T13:00:00Z' | date_trunc('week', at) = '2026-01-26 00:00:00'
extract(hour from at) = 13 | extract(second from at) = 10.5 | at < date '2026-02-01' | at >= '2026-01-30 13:18:10.5+00:00'
case when n > 5 then 'big' else 'small' end = 'big' | case n when 7 then true end | (case n when 8 then 1 end) is null
cast('12' as bigint) = 12 | cast(d as bigint) = 2 | cast(d + 1 as bigint) = 4 | n::text = '7' | cast(b as text) = 'true'
(nothing = 'x') is null | (nothing = 'x' and false) = false | (nothing = 'x' or true) | (n in (1, null)) is null
(false and 1 / 0 = 1) is not true | true or 1 / 0 = 1 | (not nothing = 'x') is null | 'it''s' = 'it' || '''' || 's' | "n" = 7
1 + 2 || '' = '3' | not false and true | (n > 5) = true | not n in (1) | 2 - -1 = 3
"""


@pytest.mark.parametrize(
    "text", [one.strip() for line in TRUE.strip().splitlines() for one in line.split(" | ")]
)
def test_true(text: str) -> None:
    assert compile_expression(parse_expression(text), SCHEMA).evaluate(ROW) is True


RAISING = [
    "1 / 0",
    "n % 0",
    "9223372036854775807 + n",
    "d / 0",
    "cast('x' as bigint)",
    "split_part(t, ',', 0)",
    "d * 1e308",
]


@pytest.mark.parametrize("text", RAISING)
def test_raises(text: str) -> None:
    typed = compile_expression(parse_expression(text), SCHEMA)
    with pytest.raises(ExpressionError):
        typed.evaluate(ROW)


@pytest.mark.parametrize("text", ["", "n +", "n n", "(n", "n is maybe", "case end", "n ? 1", "n > 5 = true"])
def test_syntax(text: str) -> None:
    with pytest.raises(SyntaxFault):
        parse_expression(text)


@pytest.mark.parametrize("text", ["n = 'x'", "t = 1", "unknown_column", "t + 1", "frobnicate(t)"])
def test_types(text: str) -> None:
    with pytest.raises(ValueError):
        compile_expression(parse_expression(text), SCHEMA)
