"""`python -m chaos.order`: the same events in every way that must not matter, and equal final tables.

Partitions together or one after the other, with a kill in the middle, by 1, 2 and 3 workers; keyed by the producer, or without a key
and repartitioned by the pipeline, to as many partitions or to more. Tables, counts, dead letters and finality are compared byte for
byte with those of the first way, topics by their number of messages; the referee judges each way besides.
Owns: the ways. Data: `order_events` -> one topic, database and dump a way.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import psycopg
from confluent_kafka import Producer

from .arena import Arena
from .options import PIPELINES
from .order_events import Event, enriched
from .processor import ChaosFailure, Processor
from .program import end_on_sigterm
from .referee.inspection import Report

FILE = PIPELINES / "order.yaml"
PROFILE, SPAN = "user-sessions", "3h"
OTHER_KEY = b"whatever"
FLUSH_SECONDS, HALF_SECONDS = 120.0, 60.0
# All that must be alike, by what it is of. Dead letters without key, place and time of arrival, which are of the way.
OF_STATUS = "millstream.status s, LATERAL jsonb_each"
QUERIES = {
    **{
        table: f"SELECT * FROM {table}"
        for table in (
            "user_sessions",
            "user_sessions_latest",
            "short_visits",
            "page_view_counts",
            "active_users",
            "raw_events",
            "activity_events",
        )
    },
    "dead letters": "SELECT reason, CASE WHEN reason <> 'FUTURE_EVENT' THEN detail END, value, value_bytes, headers"
    " FROM millstream.dead_letters",
    "finality": "SELECT aggregate, final_through, session_gap FROM millstream.finality",
    "verdicts": "SELECT sum(read), sum(accepted), sum(duplicate), sum(dead) FROM millstream.status",
    "reasons": f"SELECT key, sum(value::bigint) FROM {OF_STATUS}(s.dead_by_reason) GROUP BY 1",
    "checks": f"SELECT key, sum(value::bigint) FROM {OF_STATUS}(s.checks) GROUP BY 1",
    "lateness": "SELECT a.key, c.key, sum(c.value::bigint) FROM millstream.status s, LATERAL jsonb_each(s.aggregates) a,"
    " LATERAL jsonb_each(a.value) c GROUP BY 1, 2",
}
MESSAGES = "messages"
SHOWN = ("user_sessions", "short_visits", "page_view_counts", "active_users", "raw_events", "dead letters")


@dataclass(frozen=True)
class Way:
    """`apart`: a partition is worked off before the next one is filled. `killed`: the processor is, half way. `internal`: so many
    partitions behind the hop, as many as before it without."""

    workers: int = 1
    keyed: bool = True
    apart: bool = False
    killed: bool = False
    internal: int | None = None

    def __str__(self) -> str:
        key = "keyed" if self.keyed else f"repartitioned to {self.internal or 'as many'}"
        together = "one partition after the other" if self.apart else "all partitions together"
        killed = ", killed half way" if self.killed else ""
        return f"{key}, {together}{killed}, workers: {self.workers}"


WAYS = [
    Way(),
    Way(workers=2),
    Way(workers=3),
    Way(apart=True),
    Way(workers=2, killed=True),
    Way(keyed=False),
    Way(keyed=False, workers=2),
    Way(keyed=False, workers=3, internal=5),
    Way(keyed=False, apart=True),
    Way(keyed=False, workers=2, killed=True),
]
SHORT = [WAYS[0], WAYS[7], WAYS[8]]


def events(binary: str, count: int, seed: int, partitions: int) -> list[Event]:
    command = [binary, "generate", PROFILE, "--events", str(count), "--span", SPAN, "--late", "0%"]
    command += ["--seed", str(seed), "--start", "2026-01-30T01:00:00Z", "--output", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return enriched(done.stdout.splitlines(), seed, partitions)


def spread(log: list[Event], way: Way, partitions: int, seed: int) -> list[list[Event]]:
    """As the producers' client does with a key. Without one at random, but for users whose order matters: theirs is another
    partition. Two copies never have one offset, by which alone the referee could tell them apart."""
    chance, parts = random.Random(seed), [[] for _ in range(partitions)]
    offsets: dict[bytes | None, int] = {}
    for event in log:
        place = home = event.home(partitions)
        if not way.keyed:
            place = (home + 1) % partitions if event.fixed else chance.randrange(partitions)
            if offsets.get(event.value) == len(parts[place]) and not event.fixed:
                place = (place + 1) % partitions
        offsets[event.value] = len(parts[place])
        parts[place].append(event)
    return parts


def repartition(way: Way, raw: dict) -> None:
    """Every source that its producers key, by the pipeline instead."""
    for source in raw["sources"].values():
        field = source.pop("keyed_by")
        source["repartition_by"] = {"field": field, "partitions": way.internal} if way.internal else field


def produce(arena: Arena, way: Way, parts: dict[int, list[Event]]) -> None:
    producer = Producer({"bootstrap.servers": arena.servers.bootstrap, "linger.ms": 5, "log_level": 2})
    for number, part in parts.items():
        for event in part:
            key = event.user.encode() if way.keyed else OTHER_KEY if event.fixed else None
            headers = list(event.headers)
            producer.produce(arena.source.topic, event.value, key, partition=number, headers=headers)
            producer.poll(0)
    if producer.flush(FLUSH_SECONDS):
        raise ChaosFailure("events not delivered")


def run(arena: Arena, way: Way, parts: list[list[Event]]) -> None:
    processor = arena.processor()
    workers = ("--workers", str(way.workers))
    for group in batches(way, parts):
        produce(arena, way, group)
        if way.killed:
            kill_half_way(arena, processor, workers, sum(map(len, parts)))
        arena.drain(processor, *workers)


def batches(way: Way, parts: list[list[Event]]) -> Iterator[dict[int, list[Event]]]:
    whole = dict(enumerate(parts))
    if not way.apart:
        yield whole
        return
    # The last partition first: whatever order is natural to the processor, this is another.
    for number in reversed(whole):
        yield {number: whole[number]}


def kill_half_way(arena: Arena, processor: Processor, workers: tuple[str, ...], total: int) -> None:
    processor.start(*workers)
    processor.wait_for("half of it", lambda: arena.verdicts() > total // 2, HALF_SECONDS, pause=0.001)
    processor.kill()


def dump(arena: Arena, report: Report) -> dict[str, list[bytes]]:
    """What every query finds, in the order of the whole row's bytes; and how many messages each topic has."""
    found = {}
    with psycopg.connect(arena.environment["DATABASE_URL"]) as connection:
        for what, query in QUERIES.items():
            with connection.cursor().copy(f"COPY ({query}) TO STDOUT") as rows:
                found[what] = sorted(b"".join(rows).splitlines())
    counts = {topic.removeprefix(arena.run): count for topic, count in report.messages.items()}
    found[MESSAGES] = [f"{topic} {count}".encode() for topic, count in sorted(counts.items()) if count]
    empty = [what for what, rows in found.items() if not rows]
    if empty or len(found[MESSAGES]) < len(counts):
        raise ChaosFailure(f"nothing in {', '.join(empty) or counts}")
    return found


def compare(way: Way, found: dict[str, list[bytes]], first: dict[str, list[bytes]]) -> None:
    for what, theirs in first.items():
        ours = found[what]
        if ours != theirs:
            only = sorted(set(ours) - set(theirs))[:3], sorted(set(theirs) - set(ours))[:3]
            raise ChaosFailure(f"{way}: {what} differ; only here {only[0]}, only in the first {only[1]}")


def run_all(ways: list[Way], count: int, seed: int) -> int:
    """How many failed."""
    first, log, failed = None, None, 0
    for number, way in enumerate(ways):
        began = time.monotonic()
        arena = Arena(seed, f"order-{number}", FILE, None if way.keyed else partial(repartition, way))
        ok = False
        try:
            log = log or events(arena.processor("generator").binary, count, seed, arena.partitions)
            run(arena, way, spread(log, way, arena.partitions, seed))
            found = dump(arena, arena.judge_end())
            first = first or found
            compare(way, found, first)
            ok = True
            rows = ", ".join(f"{len(rows):,} {what}" for what, rows in found.items() if what in SHOWN)
            print(f"{str(way):<80} equal  {time.monotonic() - began:5.1f} s  ({rows})", flush=True)
        except ChaosFailure as failure:
            failed += 1
            print(f"{way}: FAILED: {failure}\nkept: {arena.directory}, database {arena.database}", flush=True)
        finally:
            arena.close(keep=not ok)
    return failed


def main() -> int:
    end_on_sigterm()
    arguments = parse_arguments()
    ways = SHORT if arguments.short else [way for way in WAYS if not arguments.keyed or way.keyed]
    failed = run_all(ways, arguments.events, arguments.seed)
    print(f"{len(ways) - failed} passed, {failed} failed")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.order")
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="one way with a keyed topic, two without")
    parser.add_argument("--keyed", action="store_true", help="only the ways with a keyed topic")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
