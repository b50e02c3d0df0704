"""What must come out of a file of W1's events, found by sorting columns: no window stays open, no state, no sketch.

Owns: reading the file, and the totals that a drain of it must have. Never: talks to a server. Tested: `tests/test_truth.py`.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

SECOND = 1_000_000
MINUTE = 60 * SECOND
GAP = 10 * MINUTE
SIZE_IN_SLIDES = 5
# The watermark's delay in w1.yaml: nothing is late then, however events are spread over partitions.
MOST_BEHIND = 2 * MINUTE
USER = re.compile(rb'"user_id"\s*:\s*"([^"]*)"')


class NotW1(Exception):
    """Such events W1 is not made of."""


class Miscounted(Exception):
    """There is no figure for a result that is wrong."""


def expect(who: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Miscounted(f"{who}: {found} instead of {wanted}")


@dataclass(frozen=True)
class Records:
    """How many there are, and a sum over their bytes, in whatever order they come."""

    count: int
    checksum: int

    @classmethod
    def of(cls, values: Iterable[bytes], end: bytes) -> Records:
        """Of each value up to the last place where `end` stands; one without it counts as empty."""
        count = checksum = 0
        for count, value in enumerate(values, 1):
            checksum += zlib.crc32(value.rpartition(end)[0])
        return cls(count, checksum)


@dataclass(frozen=True)
class Truth:
    # Without their closing braces.
    records: Records
    page_views: int
    page_view_rows: int
    sessions: int
    # Of all sessions, each cut to whole seconds.
    session_seconds: int
    # By the window's start, in minutes since 1970.
    active_users: dict[int, int]


@dataclass(frozen=True)
class Columns:
    """An entry an event: microseconds since 1970, numbers of user and page, whether it is a page view."""

    times: np.ndarray
    users: np.ndarray
    pages: np.ndarray
    viewed: np.ndarray


def truth_of(path: str) -> Truth:
    columns = read(path)
    sessions, seconds = user_sessions(columns)
    return Truth(
        Records.of(lines_of(path), b"}"),
        int(columns.viewed.sum()),
        page_view_rows(columns),
        sessions,
        seconds,
        active_users(columns),
    )


def lines_of(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for line in file:
            yield line.rstrip(b"\r\n")


def user_of(line: bytes) -> bytes:
    """The event's key."""
    found = USER.search(line)
    if found is None:
        raise ValueError("no user_id")
    return found[1]


def read(path: str) -> Columns:
    times, users, pages, viewed = [], [], [], []
    user_numbers: dict[bytes, int] = {}
    page_numbers: dict[str, int] = {}
    for number, line in enumerate(lines_of(path), 1):
        try:
            user, event = user_of(line), json.loads(line)
            time = event["event_time"]
            times.append(time[: time.index("Z")])
            users.append(user_numbers.setdefault(user, len(user_numbers)))
            pages.append(page_numbers.setdefault(event["page_url"], len(page_numbers)))
            viewed.append(event["event_type"] == "page_view")
        except (ValueError, LookupError, TypeError, AttributeError) as wrong:
            raise NotW1(f"{path}, line {number}: {wrong!r}") from wrong
    if not times:
        raise NotW1(f"{path}: no events")
    micros = np.array(times, "datetime64[us]").astype("int64")
    behind = int((np.maximum.accumulate(micros) - micros).max())
    if behind > MOST_BEHIND:
        raise NotW1(
            f"{path}: an event is {behind / SECOND:,.1f} s older than one before it, W1's are 120 at most"
        )
    return Columns(micros, np.array(users), np.array(pages), np.array(viewed))


def distinct(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of numbers below 2^31, sorted."""
    found = np.unique(left << 32 | right)
    return found >> 32, found & 0xFFFF_FFFF


def page_view_rows(columns: Columns) -> int:
    minutes, _ = distinct(columns.times[columns.viewed] // MINUTE, columns.pages[columns.viewed])
    return minutes.size


def active_users(columns: Columns) -> dict[int, int]:
    minutes, users = distinct(columns.times // MINUTE, columns.users)
    starts = np.concatenate([minutes - slides for slides in range(SIZE_IN_SLIDES)])
    seen, _ = distinct(starts, np.tile(users, SIZE_IN_SLIDES))
    windows, counts = np.unique(seen, return_counts=True)
    return dict(zip(windows.tolist(), counts.tolist(), strict=True))


def user_sessions(columns: Columns) -> tuple[int, int]:
    """How many, and how long they are together."""
    order = np.lexsort((columns.times, columns.users))
    times, users = columns.times[order], columns.users[order]
    last = np.append((np.diff(users) != 0) | (np.diff(times) > GAP), True)
    first = np.roll(last, 1)
    return int(last.sum()), int(((times[last] - times[first]) // SECOND).sum())
