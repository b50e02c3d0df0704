"""Seeded events: valid, late, too late, bad in every way, repeated; with and without key and headers.

Owns: what a load looks like. Never: reads a clock or a server. Data: a seed and a start -> `Event`s, the same every time.
Tested: `tests/test_generator.py` (every dead reason occurs).
"""

from __future__ import annotations

import json
import random
import zlib
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

PAGES = [f"/page/{number}" for number in range(24)]
TYPES = ["page_view"] * 6 + ["click"] * 2 + ["share"] * 2
RECENT = 64
# More users in one window than a small sketch holds exactly, and an empty name among them.
USERS = ["", *(f"user{number}" for number in range(2_000))]


class Event(NamedTuple):
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Shares(NamedTuple):
    """How much of the load is of each kind; the rest is on time and valid."""

    late: float = 0.05
    too_late: float = 0.02
    bad: float = 0.04
    repeated: float = 0.02
    without_key: float = 0.2
    with_headers: float = 0.1


class Generator:
    """`pace` events share one second of event time."""

    def __init__(
        self, seed: int, start: datetime, partitions: int, shares: Shares = Shares(), pace: int = 50
    ) -> None:
        self.random = random.Random(seed)
        self.start, self.partitions, self.shares, self.pace = start, partitions, shares, pace
        self.number = 0
        self.recent: list[Event] = []

    def next(self) -> Event:
        chance = self.random
        self.number += 1
        if self.recent and chance.random() < self.shares.repeated:
            return chance.choice(self.recent)
        key = None if chance.random() < self.shares.without_key else b"user%d" % chance.randrange(200)
        if chance.random() < 0.002:
            key = b""
        partition = chance.randrange(self.partitions) if key is None else zlib.crc32(key) % self.partitions
        headers: list[tuple[str, bytes | None]] = []
        if chance.random() < self.shares.with_headers:
            headers = [("trace", b"%016x" % chance.getrandbits(64)), ("hop", b"1"), ("hop", b"2")]
        bad = chance.random() < self.shares.bad
        value = self.bad_value() if bad else self.text(self.fields()).encode()
        event = Event(partition, key, value, headers)
        if len(self.recent) < RECENT:
            self.recent.append(event)
        else:
            self.recent[chance.randrange(RECENT)] = event
        return event

    def fields(self) -> dict[str, object]:
        chance = self.random
        at = self.number / self.pace + chance.uniform(-4.0, 4.0)
        draw = chance.random()
        if draw < self.shares.too_late:
            at -= chance.uniform(150.0, 900.0)
        elif draw < self.shares.too_late + self.shares.late:
            at -= chance.uniform(20.0, 110.0)
        moment = self.start + timedelta(seconds=at)
        return {
            "event_time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "user_id": chance.choice(USERS),
            "page_url": chance.choice(PAGES),
            "event_type": chance.choice(TYPES),
            "amount": chance.randrange(1, 1_000) if chance.random() < 0.98 else -chance.randrange(1, 50),
            "price": chance.uniform(-10.0, 100.0),
            "n": self.number,
        }

    @staticmethod
    def text(fields: dict[str, object]) -> str:
        return json.dumps(fields, separators=(",", ":"))

    def bad_value(self) -> bytes | None:
        fields = self.fields()
        kind = self.random.choice(BAD_KINDS)
        if callable(kind):
            return kind(self.text(fields).encode())
        return self.text({**fields, **kind}).encode()


def replaced(old: bytes, new: bytes):
    return lambda text: text.replace(old, new, 1)


BAD_KINDS = [
    lambda text: None,
    lambda text: b"",
    lambda text: b"not json at all",
    lambda text: text[:-1],
    lambda text: text + b" trailing",
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: b"[" + text + b"]",
    lambda text: text[:-1] + b',"deep":' + b"[" * 200 + b"]" * 200 + b"}",
    lambda text: text[:-1] + b',"pad":"' + b"x" * 66_000 + b'"}',
    lambda text: text[:-1] + b',"odd":NaN}',
    lambda text: text[:-1] + b',"user_id":null}',
    replaced(b'"user_id":"user', b'"user_id":"\xff'),
    replaced(b'"user_id":"user', b'"user_id":"\\ud800'),
    replaced(b'"user_id":"user', b'"user_id":"\\u0000'),
    replaced(b'"user_id"', b'"other_id"'),
    replaced(b'"amount":', b'"amount":9223372036854775807'),
    replaced(b'"amount":', b'"amount":0.'),
    replaced(b'"price":', b'"price":1e400,"cost":'),
    {"user_id": 7},
    {"event_time": "2026-01-30T24:00:00Z"},
    {"event_time": "2016-12-31T23:59:60Z"},
    {"event_time": "300000-01-01T00:00:00Z"},
    {"event_time": "1969-12-31T23:59:59Z"},
    {"event_time": "2150-01-01T00:00:00Z"},
    {"event_time": 1_769_735_890},
    {"seen_at": -1},
    {"session": "no-uuid"},
    {"address": "256.1.1.1"},
    {"active": "yes"},
    {"page_url": "relative"},
    {"page_url": "/" + "x" * 3_000, "event_type": "page_view"},
    {"amount": 0, "event_type": "share"},
]


def default_start(now: datetime | None = None) -> datetime:
    """A week ago, at midnight: nothing is in the future, however long a run lasts."""
    now = now or datetime.now(UTC)
    return (now - timedelta(days=7)).replace(hour=0, minute=0, second=0, microsecond=0)
