"""Declared fields: the parsed object to a row of typed values, or the first dead reason in the file's order.

Owns: MISSING_FIELD, WRONG_TYPE, BAD_TIMESTAMP, OUT_OF_RANGE, NUL_CHARACTER. Never: evaluates an expression.
Data: object -> list of values, one a declared field; instants are microseconds. Tested: `tests/test_fields.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from . import instant
from .dead import Dead
from .expression.values import BIGINT_MAX, BIGINT_MIN, UUID, inet_text
from .pipeline import Field

INFINITY = float("inf")
Reader = Callable[[object, str, bool], object]


class FieldReader:
    """Reads the declared fields of one source."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.plan = [(one.name, READERS[one.type], one.required) for one in fields]

    def row(self, found: dict, escaped: bool) -> list:
        """`escaped`: the text has a backslash-u, so a surrogate or U+0000 is possible at all."""
        row = []
        for name, reader, required in self.plan:
            value = found.get(name)
            if value is None:
                if required:
                    raise Dead("MISSING_FIELD", name)
                row.append(None)
            else:
                row.append(reader(value, name, escaped))
        return row


def read_text(value: object, name: str, escaped: bool) -> str:
    if type(value) is not str:
        raise Dead("WRONG_TYPE", name)
    if escaped:
        check_text(value, name)
    return value


def check_text(value: str, name: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Dead("WRONG_TYPE", f"{name}: lone surrogate")
    if "\0" in value:
        raise Dead("NUL_CHARACTER", name)


def read_bigint(value: object, name: str, escaped: bool) -> int:
    if type(value) is not int:
        raise Dead("WRONG_TYPE", name)
    if not BIGINT_MIN <= value <= BIGINT_MAX:
        raise Dead("OUT_OF_RANGE", name)
    return value


def read_double(value: object, name: str, escaped: bool) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise Dead("OUT_OF_RANGE", name) from None
    if type(value) is not float:
        raise Dead("WRONG_TYPE", name)
    if value in (INFINITY, -INFINITY):
        raise Dead("OUT_OF_RANGE", name)
    return value


def read_boolean(value: object, name: str, escaped: bool) -> bool:
    if type(value) is not bool:
        raise Dead("WRONG_TYPE", name)
    return value


def read_timestamp(value: object, name: str, escaped: bool) -> int:
    if type(value) is not str:
        raise Dead("WRONG_TYPE", name)
    try:
        micros = instant.parse(value)
    except instant.BadTimestamp:
        raise Dead("BAD_TIMESTAMP", name) from None
    return in_range(micros, name)


def read_timestamp_ms(value: object, name: str, escaped: bool) -> int:
    return in_range(read_bigint(value, name, escaped) * 1_000, name)


def read_timestamp_s(value: object, name: str, escaped: bool) -> int:
    return in_range(read_bigint(value, name, escaped) * 1_000_000, name)


def in_range(micros: int, name: str) -> int:
    if not instant.in_range(micros):
        raise Dead("OUT_OF_RANGE", name)
    return micros


def read_uuid(value: object, name: str, escaped: bool) -> str:
    if type(value) is not str or not UUID.fullmatch(value):
        raise Dead("WRONG_TYPE", name)
    return value.lower()


def read_inet(value: object, name: str, escaped: bool) -> str:
    try:
        if type(value) is str:
            return inet_text(value)
    except ValueError:
        pass
    raise Dead("WRONG_TYPE", name)


def read_json(value: object, name: str, escaped: bool) -> object:
    if escaped:
        texts = list(texts_of(value))
        if any("\ud800" <= c <= "\udfff" for text in texts for c in text):
            raise Dead("WRONG_TYPE", f"{name}: lone surrogate")
        if any("\0" in text for text in texts):
            raise Dead("NUL_CHARACTER", name)
    return value


def texts_of(value: object):
    """Every string and every key inside a JSON value."""
    pending = [value]
    while pending:
        one = pending.pop()
        if type(one) is str:
            yield one
        elif type(one) is list:
            pending.extend(one)
        elif type(one) is dict:
            yield from one
            pending.extend(one.values())


READERS: dict[str, Reader] = {
    "text": read_text,
    "bigint": read_bigint,
    "double": read_double,
    "boolean": read_boolean,
    "timestamp": read_timestamp,
    "timestamp_ms": read_timestamp_ms,
    "timestamp_s": read_timestamp_s,
    "uuid": read_uuid,
    "inet": read_inet,
    "json": read_json,
}
