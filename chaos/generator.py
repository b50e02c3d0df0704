"""Seeded events for one source: valid, late, too late, bad in every way, repeated; with and without key and headers; sessions
with gaps at their limit and bridges between them; and copies of an event around the instant at which dedup forgets it.

Owns: what a load looks like. Never: reads a clock or a server. Data: a shape, a seed and a start -> `Event`s, the same every
time. Tested: `tests/test_generator.py` (every dead reason occurs, every kind of session and copy too).
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from .bad_values import kinds_of, spell
from .field_values import STEPS, Moment, micros_of, spell_time, unique_value, value_of
from .referee.partitioner import Partitioner
from .shape import Shape

SECOND = 1_000_000
RECENT = 64
# More users in one window than a small sketch holds exactly, and an empty name among them.
USERS = 2_000
JITTER = 4 * SECOND
AT_THE_GAP, BRIDGED, ELSEWHERE, RESTAMPED = 0.5, 0.5, 0.1, 0.5
KEPT_SHARE, MOST_KEPT, BUCKETS_BEYOND = 0.05, 50_000, 6


class Event(NamedTuple):
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Shares(NamedTuple):
    """How much of the load is of each kind; the rest is on time and valid. `copied` is of events that dedup once saw."""

    late: float = 0.05
    too_late: float = 0.02
    bad: float = 0.04
    repeated: float = 0.02
    copied: float = 0.02
    without_key: float = 0.2
    with_headers: float = 0.1


class Original(NamedTuple):
    """An event that may be copied: its time, what identifies it, and the rest."""

    micros: int
    fields: dict[str, object]
    partition: int
    key: bytes | None


class Generator:
    """`pace` events share one second of event time."""

    def __init__(
        self,
        shape: Shape,
        seed: int,
        start: datetime,
        partitions: int,
        shares: Shares = Shares(),
        pace: int = 50,
    ) -> None:
        self.random = random.Random(seed)
        self.shape, self.partitions, self.shares, self.pace = shape, partitions, shares, pace
        self.start = micros_of(start)
        self.time_type = shape.field(shape.event_time).type
        self.partitioner = Partitioner(partitions)
        self.user_field = shape.grouped_by or "user_id"
        self.users = Users(shape, self.random, pace)
        self.bad_kinds = kinds_of(shape)
        self.number = 0
        self.recent: list[Event] = []
        self.originals: deque[Original] = deque(maxlen=MOST_KEPT)

    @property
    def clock(self) -> int:
        return self.start + self.number * SECOND // self.pace

    def next(self) -> Event:
        chance = self.random
        self.number += 1
        draw = chance.random()
        if self.recent and draw < self.shares.repeated:
            return chance.choice(self.recent)
        if self.shape.within and draw < self.shares.repeated + self.shares.copied:
            copy = self.copy()
            if copy:
                return copy
        event = self.fresh()
        if len(self.recent) < RECENT:
            self.recent.append(event)
        else:
            self.recent[chance.randrange(RECENT)] = event
        return event

    def fresh(self) -> Event:
        chance = self.random
        user, micros = self.users.next(self.clock, self.lag())
        fields = self.fields(user, micros)
        partition, key = self.place(user)
        bad = chance.random() < self.shares.bad
        value = chance.choice(self.bad_kinds)(fields) if bad else spell(fields)
        if self.shape.within and not bad and chance.random() < KEPT_SHARE:
            self.originals.append(Original(micros, fields, partition, key))
        return Event(partition, key, value, self.headers())

    def lag(self) -> int:
        """How far behind an event is; 0 for most. Late within the shortest window's or gap's lateness, or beyond the longest's."""
        chance, shape = self.random, self.shape
        draw, allowed = chance.random(), shape.delay + shape.lateness
        if draw < self.shares.too_late:
            first = allowed + shape.shortest * 4 // 3
            return chance.randint(first, first + shape.longest * 5 // 2)
        if draw < self.shares.too_late + self.shares.late:
            return chance.randint(shape.delay + shape.shortest // 6, allowed + shape.shortest * 2 // 3)
        return 0

    def fields(self, user: str, micros: int) -> dict[str, object]:
        moment, found = Moment(self.random, self.number, micros), {}
        for field in self.shape.fields:
            if field.name == self.shape.event_time:
                value = spell_time(field.type, micros)
            elif field.name == self.user_field:
                value = user
            elif field.name in self.shape.unique:
                value = unique_value(field, moment)
            else:
                value = value_of(field, moment)
            if value is not None:
                found[field.name] = value
        return {**found, "n": self.number}

    def place(self, user: str) -> tuple[int, bytes | None]:
        """Partition and key. Where the source is keyed, both follow the user, and only the key may be left out."""
        chance = self.random
        nameless = chance.random() < self.shares.without_key
        if self.shape.keyed_by:
            return self.partitioner.partition(user.encode(), 0), None if nameless else user.encode()
        key = None if nameless else b"user%d" % chance.randrange(200)
        if chance.random() < 0.002:
            key = b""
        return chance.randrange(self.partitions) if key is None else zlib.crc32(key) % self.partitions, key

    def headers(self) -> list[tuple[str, bytes | None]]:
        if self.random.random() >= self.shares.with_headers:
            return []
        return [("trace", b"%016x" % self.random.getrandbits(64)), ("hop", b"1"), ("hop", b"2")]

    def copy(self) -> Event | None:
        """An event that came up to a little longer ago than dedup remembers, as it was or with a new time and new values."""
        chance, shape = self.random, self.shape
        oldest = self.clock - (shape.within + shape.delay + BUCKETS_BEYOND * shape.bucket)
        while self.originals and self.originals[0].micros < oldest:
            self.originals.popleft()
        if not self.originals:
            return None
        original = chance.choice(self.originals)
        fields = original.fields
        if chance.random() < RESTAMPED:
            kept = {self.user_field, *shape.unique} & fields.keys()
            fields = {**self.fields("", self.clock), **{name: fields[name] for name in kept}}
        partition = original.partition
        if not shape.keyed_by and chance.random() < ELSEWHERE:
            partition = chance.randrange(self.partitions)
        return Event(partition, original.key, spell(fields), self.headers())


class Users:
    """Whose event comes next, and when. Where there are sessions, users fall silent for about as long as the gap lasts: then
    they come back at the gap exactly, a step after it, or later, and some of the holes are bridged afterwards."""

    def __init__(self, shape: Shape, chance: random.Random, pace: int) -> None:
        self.gap, self.random = shape.gap, chance
        self.step = STEPS[shape.field(shape.event_time).type]
        number = USERS if self.gap is None else max(self.gap * pace // (2 * SECOND), 10)
        self.names = ["", *(f"user{number}" for number in range(number))]
        self.last: dict[str, int] = {}
        self.holes: dict[str, int] = {}

    def next(self, clock: int, lag: int) -> tuple[str, int]:
        """The user and the event time, microseconds, on the steps of the event time's type."""
        chance = self.random
        user = chance.choice(self.names)
        micros = (clock + chance.randint(-JITTER, JITTER) - lag) // self.step * self.step
        if self.gap is None or lag:
            return user, micros
        hole = self.holes.pop(user, None)
        if hole is not None and chance.random() < BRIDGED:
            return user, hole
        last = self.last.get(user)
        if last is not None:
            micros = self.after(user, last, micros)
        self.last[user] = max(last or 0, micros)
        return user, micros

    def after(self, user: str, last: int, micros: int) -> int:
        silence = micros - last
        if abs(silence - self.gap) < JITTER and self.random.random() < AT_THE_GAP:
            return last + self.gap + self.step * self.random.randrange(2)
        if self.gap < silence <= 2 * self.gap:
            self.holes[user] = (last + silence // 2) // self.step * self.step
        return micros


def default_start(now: datetime | None = None) -> datetime:
    """A week ago, at midnight: nothing is in the future, however long a run lasts."""
    now = now or datetime.now(UTC)
    return (now - timedelta(days=7)).replace(hour=0, minute=0, second=0, microsecond=0)
