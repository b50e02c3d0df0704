"""The very events of W1 with which other stream processors were measured: the same bytes for the same number of them.

`millstream generate w1` draws from another source of chance, so its totals differ a little. Here every call of numpy's
generator, and their order, decides bytes. Tested: `tests/test_reference.py` pins a hash.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.truth import NotW1

START_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
SPAN_MS = 110 * 60_000
BURST_MS = 5 * 60_000
JITTER_MS = 30_000
BURSTS = 2
EVENTS_PER_BURST = 20
EVENTS_PER_USER = BURSTS * EVENTS_PER_BURST
PAGES = 200
ZIPF = 0.9
TYPES = {"page_view": 0.7, "click": 0.26, "session_start": 0.02, "session_end": 0.02}
DEVICES = {"mobile": 0.55, "desktop": 0.38, "tablet": 0.07}
BROWSERS = {"Chrome": 0.6, "Safari": 0.2, "Firefox": 0.12, "Edge": 0.08}
LINE = (
    '{{"event_id":"{}","event_time":"{}","user_id":"user{:06d}","page_url":"/products/category-{}/item",'
    '"event_type":"{}","session_id":"sess-{:08d}","device":"{}","browser":"{}",'
    '"referrer":"https://www.example.org/search?q=item"}}\n'
)
AT_ONCE = 20_000


@dataclass(frozen=True)
class Drawn:
    """A column each, burst by burst and user by user; `order` is that of arrival."""

    times: np.ndarray
    pages: np.ndarray
    types: np.ndarray
    devices: np.ndarray
    browsers: np.ndarray
    order: np.ndarray


def write(events: int, path: Path) -> None:
    """One JSON object a line. The file is there only when it is whole."""
    if events % EVENTS_PER_USER:
        raise NotW1(f"{events} reference events: not a multiple of {EVENTS_PER_USER}, which every user has")
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w", encoding="ascii") as file:
        file.writelines(lines(draw(events // EVENTS_PER_USER)))
    part.rename(path)


def draw(users: int) -> Drawn:
    chance = np.random.default_rng(42)
    starts = chance.integers(0, SPAN_MS, size=(users, BURSTS))
    steps = np.sort(chance.integers(0, BURST_MS, size=(users, BURSTS, EVENTS_PER_BURST)), axis=2)
    times = (START_MS + starts[:, :, None] + steps).reshape(-1)
    popularity = 1 / np.arange(1, PAGES + 1) ** ZIPF

    def choose(weights: np.ndarray | list[float]) -> np.ndarray:
        return chance.choice(len(weights), size=times.size, p=weights)

    pages = choose(popularity / popularity.sum())
    types, devices, browsers = (choose([*shares.values()]) for shares in (TYPES, DEVICES, BROWSERS))
    order = np.argsort(times + chance.integers(0, JITTER_MS, size=times.size), kind="stable")
    return Drawn(times, pages, types, devices, browsers, order)


def lines(drawn: Drawn) -> Iterator[str]:
    types, devices, browsers = list(TYPES), list(DEVICES), list(BROWSERS)
    ids = random.Random(7)
    for first in range(0, drawn.order.size, AT_ONCE):
        chosen = drawn.order[first : first + AT_ONCE]
        columns = zip(
            np.datetime_as_string(drawn.times[chosen].astype("datetime64[ms]"), timezone="UTC").tolist(),
            (chosen // EVENTS_PER_USER).tolist(),
            (chosen // EVENTS_PER_BURST).tolist(),
            drawn.pages[chosen].tolist(),
            drawn.types[chosen].tolist(),
            drawn.devices[chosen].tolist(),
            drawn.browsers[chosen].tolist(),
            strict=True,
        )
        for time, user, burst, page, kind, device, browser in columns:
            yield LINE.format(
                uuid.UUID(int=ids.getrandbits(128)),
                time,
                user,
                page,
                types[kind],
                burst,
                devices[device],
                browsers[browser],
            )
