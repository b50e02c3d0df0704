"""Every way in which a record of a source can be bad, made from a good one.

Owns: the kinds. Never: says under which reason each is dead; the referee does.
Data: a shape -> functions from a good event's fields to bytes or no value. Tested: `tests/test_generator.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from .referee.pipeline import Field
from .shape import Shape

# A value over the limit is only made where the limit is so low that it does not drown the rest of the load.
MOST_PADDING = 128 << 10
LONG_TEXT = 3_000
Kind = Callable[[dict], bytes | None]


def spell(fields: dict) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def kinds_of(shape: Shape) -> list[Kind]:
    kinds = [*WHOLE]
    if shape.max_record_bytes <= MOST_PADDING:
        kinds.append(lambda fields: spell({**fields, "pad": "x" * shape.max_record_bytes}))
    for field in shape.fields:
        kinds += BY_TYPE.get(field.type, lambda name: [])(field.name)
        if field.required:
            kinds.append(without(field.name))
            kinds.append(with_lexeme(field.name, b"null"))
        if "url" in field.name:
            kinds.append(with_values(**{field.name: "relative"}))
    names = {field.name for field in shape.fields}
    views = {"event_type": "page_view"} if "event_type" in names else {}
    for field in map(shape.field, sorted(shape.grouped)):
        if field.type == "text":
            kinds.append(with_values(**{**views, field.name: "/" + "x" * LONG_TEXT}))
    if {"amount", "event_type"} <= names:
        kinds.append(with_values(amount=0, event_type="share"))
    return kinds + times(shape.field(shape.event_time))


def with_values(**changed: object) -> Kind:
    return lambda fields: spell({**fields, **changed})


def without(name: str) -> Kind:
    return lambda fields: spell({key: value for key, value in fields.items() if key != name})


def with_lexeme(name: str, lexeme: bytes) -> Kind:
    """Of a repeated key the last one counts."""
    return lambda fields: spell(fields)[:-1] + b',"' + name.encode() + b'":' + lexeme + b"}"


def texts(name: str) -> list[Kind]:
    lexemes = (b"7", b'"\xff"', b'"\\ud800"', b'"\\u0000"')
    return [with_lexeme(name, lexeme) for lexeme in lexemes]


def of_lexemes(*lexemes: bytes) -> Callable[[str], list[Kind]]:
    return lambda name: [with_lexeme(name, lexeme) for lexeme in lexemes]


BY_TYPE: dict[str, Callable[[str], list[Kind]]] = {
    "text": texts,
    "bigint": of_lexemes(b"9223372036854775808", b"0.5"),
    "double": of_lexemes(b"1e400", b'"1"'),
    "boolean": of_lexemes(b'"yes"'),
    "timestamp_ms": of_lexemes(b"-1", b'"soon"'),
    "timestamp_s": of_lexemes(b"-1", b'"soon"'),
    "uuid": of_lexemes(b'"no-uuid"'),
    "inet": of_lexemes(b'"256.1.1.1"'),
    "json": of_lexemes(b'{"a":"\\u0000"}'),
}
WHOLE: list[Kind] = [
    lambda fields: None,
    lambda fields: b"",
    lambda fields: b"not json at all",
    lambda fields: spell(fields)[:-1],
    lambda fields: spell(fields) + b" trailing",
    lambda fields: b"\xef\xbb\xbf" + spell(fields),
    lambda fields: b"[" + spell(fields) + b"]",
    lambda fields: spell(fields)[:-1] + b',"deep":' + b"[" * 200 + b"]" * 200 + b"}",
    lambda fields: spell(fields)[:-1] + b',"odd":NaN}',
]
TIMES = ("2026-01-30T24:00:00Z", "2016-12-31T23:59:60Z", "300000-01-01T00:00:00Z", "1969-12-31T23:59:59Z")
FUTURE = {
    "timestamp": "2150-01-01T00:00:00Z",
    "timestamp_ms": 5_680_281_600_000,
    "timestamp_s": 5_680_281_600,
}


def times(field: Field) -> list[Kind]:
    """The event time: badly spelled, out of range, and so far ahead that it would poison a watermark."""
    wrong = [*TIMES, 1_769_735_890] if field.type == "timestamp" else []
    return [with_values(**{field.name: value}) for value in (*wrong, FUTURE[field.type])]
