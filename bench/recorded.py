"""Events from a file: loading them, and holding what came out against the file's truth.

What takes memory is done apart, in a process of its own: Linux counts the most that a process ever held as held by the
programs that it starts, too, and the peak of those is measured.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from bench.corner import RESULTS, Corner
from bench.log import values
from bench.reference import write
from bench.truth import Miscounted, Records, Truth, expect, lines_of, truth_of, user_of

PRODUCER = {
    "linger.ms": 50,
    "compression.type": "lz4",
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 500_000,
    "partitioner": "murmur2_random",
    "enable.idempotence": True,
}
PATIENCE = 120.0
# Of approx_distinct, five standard errors: of one window 1.04 / sqrt(4096), of two hours' windows together a fifth.
ERROR_OF_ONE, ERROR_OF_ALL = 0.08, 0.02


@dataclass(frozen=True)
class Recorded:
    path: str
    truth: Truth

    @classmethod
    def read(cls, path: str) -> Recorded:
        return cls(path, apart(truth_of, path))

    @classmethod
    def reference(cls, events: int) -> Recorded:
        """Of the file that stays with the bench's results."""
        path = RESULTS / "reference" / f"{events}.ndjson"
        if not path.exists():
            apart(write, events, path)
        return cls.read(str(path))

    def load(self, corner: Corner) -> float:
        """Fills the input; answers how fast, in events per second."""
        return self.truth.records.count / apart(produce, self.path, corner)

    def check(self, corner: Corner, pipeline: dict) -> None:
        """Every table and topic that the pipeline has."""
        truth = self.truth
        tables = pipeline.get("aggregates", {})
        if "page_view_counts" in tables:
            expect(
                "page_view_counts",
                corner.select("select count(*), coalesce(sum(view_count), 0)::bigint from page_view_counts"),
                [(truth.page_view_rows, truth.page_views)],
            )
        if "user_sessions" in tables:
            expect(
                "user_sessions",
                corner.select(
                    "select count(*), sum(session_duration_seconds)::bigint, sum(page_views)::bigint, "
                    "sum(events)::bigint from user_sessions"
                ),
                [(truth.sessions, truth.session_seconds, truth.page_views, truth.records.count)],
            )
        if "active_users" in tables:
            query = (
                "select extract(epoch from window_start)::bigint / 60, active_user_count from active_users"
            )
            check_estimates(dict(corner.select(query)), truth.active_users)
        if "records" in pipeline:
            expect("output", apart(enriched, corner, truth.records.count), truth.records)


def check_estimates(found: dict[int, int], wanted: dict[int, int]) -> None:
    expect("windows of active_users on one side alone", sorted(found.keys() ^ wanted.keys()), [])
    pairs = [(found[window], wanted[window], ERROR_OF_ONE) for window in wanted]
    for estimate, users, error in [*pairs, (sum(found.values()), sum(wanted.values()), ERROR_OF_ALL)]:
        if abs(estimate - users) > error * users:
            raise Miscounted(f"active_users: {estimate} instead of about {users}")


def apart(work: Callable[..., Any], *arguments: object) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        return other.submit(work, *arguments).result()


def produce(path: str, corner: Corner) -> float:
    """How many seconds it takes until the broker has all lines. What it does not take, the processor will not read."""
    producer = Producer({"bootstrap.servers": corner.brokers, **PRODUCER})
    topic = corner.topics["input"]
    started = time.monotonic()
    for line in lines_of(path):
        key = user_of(line)
        while True:
            try:
                producer.produce(topic, line, key)
                break
            except BufferError:
                producer.poll(0.1)
    if waiting := producer.flush(PATIENCE):
        raise TimeoutError(f"the broker did not take {waiting} events within {PATIENCE:g} s")
    return time.monotonic() - started


def enriched(corner: Corner, least: int) -> Records:
    return Records.of(values(corner, "output", least), b',"processing_time":')
