"""How cost grows: with keys, partitions, workers, and the overlap of sliding windows.

All but `workers` have one worker. The plain loop runs beside the first point and the last, with as many members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.drain import Load, best, drain, median_ratio
from bench.pipeline import NotSupported, by_user, sliding, with_outputs


@dataclass(frozen=True)
class Point:
    pipeline: dict
    load: Load
    workers: int = 1


@dataclass(frozen=True)
class Sweep:
    """`points` are the sizes it goes through unless others are asked for."""

    about: str
    axis: str
    points: tuple[int, ...]
    point: Callable[[int, int], Point]


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
    "workers": Sweep("A and D from 4 partitions", "workers", (1, 2), workers),
    "windows": Sweep(
        "page views in sliding windows, a new one a minute", "size / slide", (1, 2, 5, 15, 60), windows
    ),
}


def results(sweep: Sweep, events: int, points: list[int], rounds: int) -> Iterator[dict]:
    """One by one, as they are measured. A point that this program cannot run says so in `skipped`."""
    for number, size in enumerate(points):
        point = sweep.point(size, events)
        with_plain = number in (0, len(points) - 1)
        try:
            taken = [drain(point.pipeline, point.load, point.workers, with_plain) for _ in range(rounds)]
        except NotSupported as refused:
            yield {"size": size, "skipped": str(refused).splitlines()[0]}
            continue
        figures = best(taken).figures()
        found = {"size": size, "workers": point.workers, **figures["processor"]}
        found["rows"] = sum(figures["rows"].values())
        if with_plain:
            found |= {"plain": figures["plain"], "median_ratio": median_ratio(taken)}
        yield found


def beside_plain(result: dict) -> list[float | None]:
    """Events/s and CPU us/event of the plain loop, and the ratios to it; nothing where it did not run."""
    if "plain" not in result:
        return [None] * 4
    plain, ratio = result["plain"], result["median_ratio"]
    return [plain["events_per_second"], plain["processor_us"], ratio["throughput"], ratio["processor_cost"]]
