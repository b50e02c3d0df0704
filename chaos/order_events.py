"""The events of `chaos.order`, of every kind whose effect no order may change: on time, late and too late by far, copies, bad ones.

Owns: what each event is, and which of them may come through any partition. Never: reads a clock or a server.
Data: lines of `millstream generate`, which are in the order of their times but for a second -> `Event`s, the same every time.
Tested: `tests/test_order.py`.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

from .referee.partitioner import murmur2

LATE_BY, TOO_LATE_BY = timedelta(minutes=30), timedelta(hours=5)
SHARE = 0.01
# So soon that the two are alike whichever comes first: neither is late if the other is not.
COPIED_WITHIN = timedelta(minutes=1)
# The watermark of each partition is beyond the first window by then.
ON_TIME_AT_FIRST = 500
MOST_BYTES = 4 << 10
POSITIVE = 0x7FFFFFFF


@dataclass(frozen=True)
class Event:
    """`fixed`: all events of its user must stay in their order, and so in one partition."""

    value: bytes | None
    user: str
    fixed: bool
    headers: tuple[tuple[str, bytes], ...] = ()

    def home(self, partitions: int) -> int:
        """Where the producers' client sends it with its user as key."""
        return hashed(self.user) % partitions


@cache
def hashed(user: str) -> int:
    return murmur2(user.encode()) & POSITIVE


def bad_values() -> list[Callable[[dict], bytes | None]]:
    """Dead for one reason each, decided by the value alone."""
    other = lambda **changed: lambda event: spell(event | changed)  # noqa: E731
    return [
        lambda event: None,
        lambda event: b"\xff" + spell(event),
        lambda event: spell(event)[:-1],
        lambda event: spell(event | {"padding": "x" * MOST_BYTES}),
        lambda event: spell({name: value for name, value in event.items() if name != "page_url"}),
        other(amount="many"),
        other(event_time="yesterday"),
        other(amount=2**63),
        other(user_id="nobody\0"),
        other(event_time="2199-01-01T00:00:00Z"),
        other(page_url="home"),
        other(amount=0),
        other(page_url="/" + "x" * 2_001, event_type="page_view"),
    ]


def spell(event: dict) -> bytes:
    return json.dumps(event).encode()


def enriched(lines: list[bytes], seed: int, partitions: int) -> list[Event]:
    """Behind each line, with a small chance, one event of each other kind; at the end one that is the last of its partition,
    for every partition and however events are spread, so that all watermarks end alike."""
    chance, log, bad = random.Random(seed), [], bad_values()
    recent: deque[tuple[datetime, Event]] = deque()
    for number, line in enumerate(lines):
        event = fresh(json.loads(line), chance, len(log))
        time, added = datetime.fromisoformat(event["event_time"]), [sound(event)]
        if number >= ON_TIME_AT_FIRST:
            for late_by in (LATE_BY, TOO_LATE_BY):
                if chance.random() < SHARE:
                    late = {"event_time": (time - late_by).isoformat()}
                    added.append(sound(fresh(event | late, chance, len(log) + len(added))))
            if chance.random() < SHARE and recent:
                added.append(chance.choice(recent)[1])
            if chance.random() < SHARE:
                added.append(replace(sound(event), value=chance.choice(bad)(event)))
        log += added
        recent.extend((time, one) for one in added)
        while time - recent[0][0] > COPIED_WITHIN:
            recent.popleft()
    return log + last(event, partitions)


def fresh(event: dict, chance: random.Random, number: int) -> dict:
    """With an id of its own. No sum of quarters is rounded."""
    amount, price = chance.randint(-20, 500) or None, chance.randrange(-400, 40_000) / 4
    path = "one" if is_fixed(event["user_id"]) else "any"
    return event | {"event_id": f"e{number}", "path": path, "amount": amount, "price": price}


def is_fixed(user: str) -> bool:
    return user.encode()[-1] % 2 == 0


def sound(event: dict) -> Event:
    """Half of them have a header."""
    name = event["event_id"]
    headers = (("trace", name.encode()),) if name.endswith(tuple("02468")) else ()
    return Event(spell(event), event["user_id"], is_fixed(event["user_id"]), headers)


def last(event: dict, partitions: int) -> list[Event]:
    """Of one instant, by users that stay where they are: one in each partition."""
    after = (datetime.fromisoformat(event["event_time"]) + timedelta(minutes=1)).isoformat()
    found: dict[int, Event] = {}
    for number in range(0, 100 * partitions, 2):
        name = f"last{number}"
        one = sound(event | {"event_time": after, "user_id": name, "event_id": name, "path": "one"})
        found.setdefault(one.home(partitions), one)
    assert len(found) == partitions
    return list(found.values())
