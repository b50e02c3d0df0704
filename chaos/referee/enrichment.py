"""The bytes of an enriched record: the input's, with fields added before the closing brace or replaced in place.

Owns: splicing, the spelling of added values, and the form in which an expected and a found value are compared: commit
times blanked (they come from a clock), doubles read and spelled anew.
Never: parses the input again unless a field to set exists already. Data: bytes in, bytes out.
Tested: `tests/test_enrichment.py`.
"""

from __future__ import annotations

import json
import re

from . import instant
from .expression import Typed
from .expression.values import date_text
from .jsontext import top_level_spans
from .pipeline import Unsupported

BLANK = b'"@"'
TRAILING_BLANKS = b" \t\n\r"


class Enrichment:
    """`fields` are (name, expression), in the file's order."""

    def __init__(self, fields: list[tuple[str, Typed]]) -> None:
        for name, typed in fields:
            if typed.type not in SPELLINGS and typed.type != "commit_time":
                raise Unsupported(f"set {name} to {typed.type}")
        self.fields = fields
        self.names = {name for name, _ in fields}
        self.clocks = [pattern_of(name, rb'"([^"\\]*)"') for name, one in fields if one.type == "commit_time"]
        self.doubles = [
            pattern_of(name, rb"(-?[0-9][0-9.eE+-]*)") for name, one in fields if one.type == "double"
        ]

    def evaluate(self, row: list) -> list[bytes]:
        """The spelled values of the added fields. May raise `ExpressionError`."""
        spelled = []
        for _, typed in self.fields:
            if typed.type == "commit_time":
                spelled.append(BLANK)
            else:
                value = typed.evaluate(row)
                spelled.append(b"null" if value is None else SPELLINGS[typed.type](value))
        return spelled

    def splice(self, value: bytes, found: dict, spelled: list[bytes]) -> bytes:
        """The expected value in its comparable form."""
        if not self.names.isdisjoint(found):
            value, spelled_fields = self.replace(value, found, spelled)
        else:
            spelled_fields = list(zip((name for name, _ in self.fields), spelled, strict=True))
        body = value.rstrip(TRAILING_BLANKS)
        inside = body[:-1]
        comma = b"," if found else b""
        for name, text in spelled_fields:
            inside += comma + json.dumps(name).encode() + b":" + text
            comma = b","
        return inside + b"}" + value[len(body) :]

    def replace(self, value: bytes, found: dict, spelled: list[bytes]) -> tuple[bytes, list]:
        """Fields that exist get their new bytes at every occurrence; the others are returned, to be added."""
        given = dict(zip((name for name, _ in self.fields), spelled, strict=True))
        text, parts, at = value.decode("utf-8"), [], 0
        for key, start, end in top_level_spans(text):
            if key in given:
                parts += [text[at:start], given[key].decode("utf-8")]
                at = end
        parts.append(text[at:])
        return "".join(parts).encode("utf-8"), [(n, given[n]) for n, _ in self.fields if n not in found]

    def comparable(self, value: bytes) -> tuple[bytes, list[bytes]]:
        """A found value with its commit times blanked, and those commit times."""
        times: list[bytes] = []

        def blank(match: re.Match[bytes]) -> bytes:
            times.append(match.group(2))
            return match.group(1) + BLANK

        for pattern in self.clocks:
            value = pattern.sub(blank, value)
        for pattern in self.doubles:
            value = pattern.sub(lambda match: match.group(1) + spell_double(float(match.group(2))), value)
        return value, times


def pattern_of(name: str, value: bytes) -> re.Pattern[bytes]:
    return re.compile(b"(" + re.escape(json.dumps(name).encode()) + rb"\s*:\s*)" + value)


def spell_text(value: str) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


def spell_double(value: float) -> bytes:
    return repr(float(value)).encode()


SPELLINGS = {
    "text": spell_text,
    "uuid": spell_text,
    "inet": spell_text,
    "bigint": lambda value: b"%d" % value,
    "double": spell_double,
    "boolean": lambda value: b"true" if value else b"false",
    "timestamp": lambda value: spell_text(instant.to_text(value)),
    "date": lambda value: spell_text(date_text(value)),
    "null": lambda value: b"null",
}
