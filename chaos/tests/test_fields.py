"""Every dead reason that bytes and declared fields can cause."""

from __future__ import annotations

import pytest

from chaos.referee import instant

from .worlds import World, event


def reason(value: object, **more: object) -> str | None:
    """The dead reason of one record, None if it is accepted."""
    state = World().add(value, **more).state()
    assert state.read == state.accepted + state.dead == 1
    return next(iter(state.dead_by_reason), None)


def spoiled(old: str, new: str) -> bytes:
    import json

    text = json.dumps(event(amount=5))
    assert old in text
    return text.replace(old, new).encode()


DEEP = b'{"x":' * 126 + b"{}" + b"}" * 126
TOO_DEEP = b'{"x":' * 127 + b"{}" + b"}" * 127

BYTES = {
    "null value": (None, "NULL_VALUE"),
    "empty": (b"", "NOT_JSON"),
    "not json": (b"hello", "NOT_JSON"),
    "truncated": (b'{"a":1', "NOT_JSON"),
    "trailing bytes": (b'{"a":1} x', "NOT_JSON"),
    "array": (b"[1]", "NOT_JSON"),
    "null": (b"null", "NOT_JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", "NOT_JSON"),
    "NaN": (b'{"a":NaN}', "NOT_JSON"),
    "Infinity": (b'{"a":-Infinity}', "NOT_JSON"),
    "raw control character": (b'{"a":"\x01"}', "NOT_JSON"),
    "leading zero": (b'{"a":01}', "NOT_JSON"),
    "invalid utf-8": (b'{"a":"\xff"}', "NOT_UTF8"),
    "encoded surrogate": (b'{"a":"\xed\xa0\x80"}', "NOT_UTF8"),
    "depth 127": (DEEP, "MISSING_FIELD"),
    "depth 128": (TOO_DEEP, "NOT_JSON"),
    "200 deep": (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "NOT_JSON"),
    "5000 deep": (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "NOT_JSON"),
    "brackets in a string are no depth": (b'{"a":"' + b"[" * 300 + b'"}', "MISSING_FIELD"),
    "too large": (b'{"a":"' + b"x" * 100_000 + b'"}', "TOO_LARGE"),
}

FIELDS = {
    "plain": (event(), None),
    "blanks around": (b" " + spoiled("{", "{") + b"\n", None),
    "missing field": (spoiled('"user_id": "user1", ', ""), "MISSING_FIELD"),
    "null field": (event(user_id=None), "MISSING_FIELD"),
    "empty text": (event(user_id=""), None),
    "number for text": (event(user_id=1), "WRONG_TYPE"),
    "last duplicate key counts": (spoiled("{", '{"user_id": 7, '), None),
    "last duplicate key counts, wrong": (spoiled('"amount": 5', '"amount": 5, "user_id": 7'), "WRONG_TYPE"),
    "lone surrogate": (spoiled("user1", "\\ud800"), "WRONG_TYPE"),
    "lone surrogate, undeclared": (event(other="\ud800"), None),
    "pair of surrogates": (spoiled("user1", "\\ud83d\\ude00"), None),
    "U+0000": (spoiled("user1", "a\\u0000b"), "NUL_CHARACTER"),
    "U+0000, undeclared": (event(other="\0"), None),
    "lone surrogate in json key": (event(details={"\udc00": 1}), "WRONG_TYPE"),
    "U+0000 deep in json": (event(details=[{"a": ["\0"]}]), "NUL_CHARACTER"),
    "bigint text": (event(amount="5"), "WRONG_TYPE"),
    "bigint boolean": (event(amount=True), "WRONG_TYPE"),
    "bigint with a dot": (spoiled('"amount": 5', '"amount": 5.0'), "WRONG_TYPE"),
    "bigint with an exponent": (spoiled('"amount": 5', '"amount": 5e0'), "WRONG_TYPE"),
    "bigint minimum": (event(amount=-(1 << 63)), None),
    "bigint beyond": (event(amount=1 << 63), "OUT_OF_RANGE"),
    "bigint of 5000 digits": (spoiled('"amount": 5', '"amount": ' + "9" * 5000), "OUT_OF_RANGE"),
    "double 1e400": (spoiled('"amount": 5', '"price": 1e400'), "OUT_OF_RANGE"),
    "double of 400 digits": (spoiled('"amount": 5', '"price": ' + "9" * 400), "OUT_OF_RANGE"),
    "double integer": (event(price=3), None),
    "double tiny": (spoiled('"amount": 5', '"price": 1e-400'), None),
    "undeclared 1e400": (spoiled('"amount": 5', '"other": 1e400'), None),
    "bad uuid": (event(session="0" * 32), "WRONG_TYPE"),
    "uuid": (event(session="ABCDEF01-2345-6789-abcd-ef0123456789"), None),
    "bad inet": (event(address="1.2.3.256"), "WRONG_TYPE"),
    "inet with prefix": (event(address="10.0.0.1/8"), None),
    "inet with netmask": (event(address="10.0.0.1/255.0.0.0"), "WRONG_TYPE"),
    "boolean": (event(active=1), "WRONG_TYPE"),
    "no zone": (event("2026-01-30T01:18:10"), None),
    "one space": (event("2026-01-30 01:18:10.123456789+02:00"), None),
    "24:00:00": (event("2026-01-30T24:00:00Z"), "BAD_TIMESTAMP"),
    "leap second": (event("2016-12-31T23:59:60Z"), "BAD_TIMESTAMP"),
    "year 0000": (event("0000-01-01T00:00:00Z"), "BAD_TIMESTAMP"),
    "year 300000": (event("300000-01-01T00:00:00Z"), "BAD_TIMESTAMP"),
    "30 February": (event("2026-02-30T00:00:00Z"), "BAD_TIMESTAMP"),
    "ten digits": (event("2026-01-30T01:18:10.1234567890Z"), "BAD_TIMESTAMP"),
    "dot without digits": (event("2026-01-30T01:18:10.Z"), "BAD_TIMESTAMP"),
    "lower case": (event("2026-01-30t01:18:10z"), "BAD_TIMESTAMP"),
    "date alone": (event("2026-01-30"), "BAD_TIMESTAMP"),
    "number for timestamp": (event(1769735890), "WRONG_TYPE"),
    "before 1970": (event("1969-12-31T23:59:59.999999Z"), "OUT_OF_RANGE"),
    "before 1970 by its zone": (event("1970-01-01T00:00:00+00:01"), "OUT_OF_RANGE"),
    "after 1970 by its zone": (event("1969-12-31T23:59:00-00:01"), None),
    "2200": (event("2200-01-01T00:00:00Z"), "OUT_OF_RANGE"),
    "negative epoch": (event(seen_at=-1), "OUT_OF_RANGE"),
    "milliseconds with a dot": (event(seen_at=1.5), "WRONG_TYPE"),
    "milliseconds beyond i64": (event(seen_at=1 << 70), "OUT_OF_RANGE"),
    "milliseconds beyond 2200": (event(seen_at=1 << 60), "OUT_OF_RANGE"),
    "check failed": (event(page_url="products"), "CHECK_FAILED:url_is_path"),
    "counted check failed": (event(amount=-1), None),
    "division by zero": (event(event_type="share", amount=0), "EXPRESSION_ERROR"),
    "not evaluated where `where` is false": (event(amount=0), None),
    "null argument": (event(event_type="share"), None),
    "key of 2000 bytes": (event(page_url="/" + "x" * 1999), None),
    "key of 2001 bytes": (event(page_url="/" + "x" * 2000), "KEY_TOO_LONG"),
    "key of 1001 characters, 2001 bytes": (event(page_url="/" + "\u00e4" * 1000), "KEY_TOO_LONG"),
    "long key that no aggregate uses": (event(page_url="/" + "x" * 2000, event_type="click"), None),
    "check before key": (event(page_url="x" * 3000), "CHECK_FAILED:url_is_path"),
    "first field in file order": (event("bad", user_id=1), "BAD_TIMESTAMP"),
}


@pytest.mark.parametrize("name", BYTES)
def test_verdict_of_bytes(name: str) -> None:
    value, due = BYTES[name]
    assert reason(value) == due


@pytest.mark.parametrize("name", FIELDS)
def test_verdict_of_fields(name: str) -> None:
    value, due = FIELDS[name]
    assert reason(value) == due


def test_future_event_is_measured_against_the_record_timestamp() -> None:
    at = instant.parse("2026-01-30T01:18:10Z") // 1000
    border = event("2026-01-30T01:23:10Z")
    assert reason(border, timestamp=at) is None
    assert reason(event("2026-01-30T01:23:10.000001Z"), timestamp=at) == "FUTURE_EVENT"
    assert reason(event("2030-01-01T00:00:00Z")) is None


def test_future_event_precedes_checks() -> None:
    at = instant.parse("2026-01-30T01:18:10Z") // 1000
    assert reason(event("2030-01-01T00:00:00Z", page_url="x"), timestamp=at) == "FUTURE_EVENT"


def test_timestamp_spellings_are_one_instant() -> None:
    due = instant.parse("2026-01-30T01:18:10.123456Z")
    assert instant.parse("2026-01-30 03:18:10.123456999+02:00") == due
    assert instant.parse("2026-01-29T23:48:10.123456-01:30") == due
    assert instant.parse("2026-01-30T01:18:10.123456") == due
    assert instant.to_text(due) == "2026-01-30T01:18:10.123456Z"
