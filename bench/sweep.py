"""How cost grows: with keys, partitions, workers, and the overlap of sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.drain import Load, best, drain
from bench.pipeline import NotSupported, by_user, sliding, with_outputs
from bench.program import can_say


@dataclass(frozen=True)
class Point:
    pipeline: dict
    load: Load
    workers: int | None = None


@dataclass(frozen=True)
class Sweep:
    """`points` are the sizes it goes through unless others are asked for."""

    about: str
    axis: str
    points: tuple[int, ...]
    point: Callable[[int, int], Point]
    # An option of `run` without which there is nothing to measure.
    needs: str | None = None


def keys(users: int, events: int) -> Point:
    return Point(by_user(), Load(max(events, users), 3, users=users))


def partitions(count: int, events: int) -> Point:
    return Point(with_outputs("AD"), Load(events, count))


def workers(count: int, events: int) -> Point:
    return Point(with_outputs("AD"), Load(events, 4), count)


def windows(minutes: int, events: int) -> Point:
    return Point(sliding(minutes), Load(events, 3))


SWEEPS = {
    "keys": Sweep(
        "one row a user, of more and more users",
        "keys",
        (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
        keys,
    ),
    "partitions": Sweep(
        "A and D from more and more partitions", "partitions", (1, 2, 4, 8, 16, 32, 64), partitions
    ),
    "workers": Sweep("A and D from 4 partitions", "workers", (1, 2), workers, needs="--workers"),
    "windows": Sweep(
        "page views in sliding windows, a new one a minute", "size / slide", (1, 2, 5, 15, 60), windows
    ),
}


def results(sweep: Sweep, events: int, points: list[int], rounds: int) -> Iterator[dict]:
    """One by one, as they are measured. A point that this program cannot run says so in `skipped`."""
    for size in points:
        if sweep.needs and not can_say(sweep.needs):
            yield {"size": size, "skipped": f"`run` has no {sweep.needs}"}
            continue
        point = sweep.point(size, events)
        try:
            taken = [
                drain(point.pipeline, point.load, point.workers, with_plain=False) for _ in range(rounds)
            ]
        except NotSupported as refused:
            yield {"size": size, "skipped": str(refused).splitlines()[0]}
            continue
        figures = best(taken).figures()
        yield {"size": size, **figures["processor"], "rows": sum(figures["rows"].values())}
