"""Splicing, and where messages go."""

from __future__ import annotations

import json

import pytest

from chaos.referee.enrichment import Enrichment
from chaos.referee.expression import compile_expression, parse_expression
from chaos.referee.partitioner import Partitioner, murmur2

SCHEMA = {"t": (0, "text"), "n": (1, "bigint"), "d": (2, "double"), "at": (3, "timestamp")}
ROW = ['ü"\n', 7, 1e-7, 1]


def spliced(value: bytes, **fields: str) -> bytes:
    typed = [(name, compile_expression(parse_expression(text), SCHEMA)) for name, text in fields.items()]
    enrichment = Enrichment(typed)
    return enrichment.splice(value, json.loads(value), enrichment.evaluate(ROW))


@pytest.mark.parametrize(
    ("value", "due"),
    [
        (b'{"a":1}', b'{"a":1,"x":7}'),
        (b"{}", b'{"x":7}'),
        (b" { } \n", b' { "x":7} \n'),
        (b'{"a":1 }\n', b'{"a":1 ,"x":7}\n'),
        (b'{"x":1}', b'{"x":7}'),
        (b'{"x" : {"x":[1,"}"]} ,"y":2,"\\u0078":null}', b'{"x" : 7 ,"y":2,"\\u0078":7}'),
        (b'{"a":{"x":1}}', b'{"a":{"x":1},"x":7}'),
    ],
)
def test_fields_are_added_before_the_brace_or_replaced_in_place(value: bytes, due: bytes) -> None:
    assert spliced(value, x="n") == due


def test_spellings() -> None:
    due = '{"a":0,"t":"ü\\"\\n","day":"1970-01-01","at":"1970-01-01T00:00:00.000001Z","none":null}'
    value = spliced(b'{"a":0}', t="t", day="date(at)", at="at", none="nullif(n, 7)")
    assert value == due.encode()


def test_commit_times_are_blanked_and_reported() -> None:
    typed = compile_expression(parse_expression("commit_time()"), {})
    enrichment = Enrichment([("processing_time", typed)])
    found = b'{"a":1,"processing_time":"2026-02-01T00:00:00.000001Z"}'
    expected = enrichment.splice(b'{"a":1}', {"a": 1}, enrichment.evaluate([]))
    assert enrichment.comparable(found) == (expected, [b"2026-02-01T00:00:00.000001Z"])


@pytest.mark.parametrize(
    ("key", "due"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_the_java_client(key: bytes, due: int) -> None:
    assert murmur2(key) == due & 0xFFFFFFFF


def test_null_key_follows_its_source_and_an_empty_key_is_a_key() -> None:
    partitioner = Partitioner(3)
    assert [partitioner.partition(None, source) for source in (0, 1, 4)] == [0, 1, 1]
    assert len({partitioner.partition(b"", source) for source in (0, 1, 2)}) == 1
