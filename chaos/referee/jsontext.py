"""Strict JSON: bytes to one object, or a dead reason; and the places of values inside the bytes.

Owns: NOT_UTF8 and NOT_JSON. Never: knows declared fields.
Data: bytes -> (text, object). Tested: `tests/test_fields.py`.
"""

from __future__ import annotations

import json
from json.decoder import scanstring

from .dead import Dead

MAX_DEPTH = 127
LONG_LEXEME = 400
BLANKS = " \t\n\r"


def parse_int(lexeme: str) -> int:
    """Integers of any length; one of many digits is only ever out of range, so its digits do not matter."""
    if len(lexeme) <= LONG_LEXEME:
        return int(lexeme)
    huge = 10**LONG_LEXEME
    return -huge if lexeme[0] == "-" else huge


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_int=parse_int, parse_constant=refuse_constant)


def parse_object(value: bytes) -> tuple[str, dict]:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Dead("NOT_UTF8", str(error)) from None
    try:
        found = DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise Dead("NOT_JSON", str(error)) from None
    if type(found) is not dict:
        raise Dead("NOT_JSON", "not an object")
    if text.count("{") + text.count("[") > MAX_DEPTH and depth_of(text) > MAX_DEPTH:
        raise Dead("NOT_JSON", "nested too deep")
    return text, found


def depth_of(text: str) -> int:
    """The nesting of well-formed JSON."""
    deepest = depth = at = 0
    while at < len(text):
        character = text[at]
        if character == '"':
            _, at = scanstring(text, at + 1, True)
            continue
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
        at += 1
    return deepest


def top_level_spans(text: str) -> list[tuple[str, int, int]]:
    """(key, start, end) of each value at the top level of a well-formed object, in their order."""
    spans = []
    at = skip_blanks(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = scanstring(text, at + 1, True)
        start = skip_blanks(text, skip_blanks(text, at) + 1)
        end = end_of_value(text, start)
        spans.append((key, start, end))
        at = skip_blanks(text, end)
        if text[at] == ",":
            at = skip_blanks(text, at + 1)
    return spans


def skip_blanks(text: str, at: int) -> int:
    while text[at] in BLANKS:
        at += 1
    return at


def end_of_value(text: str, at: int) -> int:
    if text[at] == '"':
        return scanstring(text, at + 1, True)[1]
    if text[at] not in "{[":
        while text[at] not in ",}]" and text[at] not in BLANKS:
            at += 1
        return at
    depth = 0
    while True:
        if text[at] == '"':
            at = scanstring(text, at + 1, True)[1]
            continue
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return at
