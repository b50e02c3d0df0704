"""What a topic of the corner holds, as a read-committed consumer sees it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException

from bench.corner import Corner

PATIENCE = 120.0
AT_ONCE = 10_000


def reader(corner: Corner, role: str) -> Consumer:
    """Stands at the beginning of every partition."""
    corner.wait_for_topic(role)
    consumer = Consumer(
        {
            "bootstrap.servers": corner.brokers,
            "group.id": f"bench-{uuid.uuid4().hex}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.assign(corner.partitions_of(role, OFFSET_BEGINNING))
    return consumer


def times_of_all(corner: Corner, role: str, events: int) -> list[list[float]]:
    """Per partition, the timestamps of its records in milliseconds, once there are so many in all."""
    consumer = reader(corner, role)
    times: list[list[float]] = [[] for _ in range(corner.partitions)]
    missing = events
    deadline = time.monotonic() + PATIENCE
    while missing > 0:
        messages = consumer.consume(AT_ONCE, timeout=0.5)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            times[message.partition()].append(message.timestamp()[1])
        missing -= len(messages)
        if not messages and time.monotonic() > deadline:
            raise TimeoutError(f"{missing} of {events} records cannot be read from {corner.topics[role]}")
    consumer.close()
    return times


def values(corner: Corner, role: str, least: int) -> Iterator[bytes]:
    """Of all records there are: waits for the least, and a moment for more."""
    consumer = reader(corner, role)
    found = 0
    deadline = time.monotonic() + PATIENCE
    while True:
        messages = consumer.consume(AT_ONCE, timeout=1.0)
        sound = [message.value() for message in messages if not message.error()]
        yield from sound
        found += len(sound)
        if sound:
            deadline = time.monotonic() + PATIENCE
        elif found >= least or time.monotonic() > deadline:
            consumer.close()
            return


def count(corner: Corner, role: str, least: int) -> int:
    return sum(1 for _ in values(corner, role, least))
