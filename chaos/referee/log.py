"""Reading topics: read committed, by offset, without a group.

Owns: one consumer a topic, and how far each partition was read (also across gaps that control records leave).
Never: commits, joins a group, or judges. Data: Kafka messages -> `Record` or `Message`.
Tested: `tests/test_servers.py`, against real servers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, IsolationLevel, KafkaError, KafkaException
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from .messages import Message
from .record import Record

BATCH = 10_000
POLL_SECONDS = 0.05
REQUEST_SECONDS = 10.0
PATIENCE_SECONDS, PATIENCE_PAUSE_SECONDS = 120.0, 0.2
Answer = TypeVar("Answer")
MISSING_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


class LogTimeout(TimeoutError):
    """The broker did not deliver in time what it has."""


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Asks again for a while: a broker that has just come back knows no leaders yet."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
        time.sleep(PATIENCE_PAUSE_SECONDS)


def partition_count(admin: AdminClient, topic: str) -> int:
    """0 where there is no such topic."""
    metadata = patiently(lambda: admin.list_topics(topic, timeout=REQUEST_SECONDS)).topics.get(topic)
    return 0 if metadata is None or metadata.error is not None else len(metadata.partitions)


def end_offsets(admin: AdminClient, topic: str, partitions: int, stable: bool = True) -> dict[int, int]:
    """The last stable offset of each partition; or else its end, whatever is still open before it."""
    request = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
    isolation = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED

    def ask() -> dict[int, int]:
        answers = admin.list_offsets(request, isolation_level=isolation, request_timeout=REQUEST_SECONDS)
        try:
            ends = {where.partition: future.result().offset for where, future in answers.items()}
        except KafkaException:
            # Why: the client keeps what it knows of leaders, though a broker that was restarted has newer ones.
            admin.list_topics(topic, timeout=REQUEST_SECONDS)
            raise
        if min(ends.values(), default=0) < 0:
            # Why: of a partition whose log is still being recovered the client says OFFSET_INVALID, and no error.
            raise KafkaException(
                KafkaError(KafkaError.LEADER_NOT_AVAILABLE, f"an end of {topic} is not known yet")
            )
        return ends

    return patiently(ask)


class TopicReader:
    """Reads one topic; `position` is the next offset of each assigned partition."""

    def __init__(self, kafka: dict[str, str], topic: str) -> None:
        self.topic = topic
        self.position: dict[int, int] = {}
        self.consumer = Consumer(
            {
                **{name: value for name, value in kafka.items() if not name.startswith("transaction")},
                "group.id": "chaos-referee-reads-without-a-group",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
                "fetch.queue.backoff.ms": 5,
                "queued.max.messages.kbytes": 65_536,
                "reconnect.backoff.max.ms": 500,
                "log_level": 2,
            }
        )

    def close(self) -> None:
        self.consumer.close()

    def assign(self, partition: int, offset: int) -> None:
        if partition not in self.position:
            self.position[partition] = offset
            self.consumer.incremental_assign([TopicPartition(self.topic, partition, offset)])

    def read(self, targets: dict[int, int], take: Callable, deadline: float) -> None:
        """Calls `take(message)` until every partition's position has reached its target. Raises `LogTimeout`."""
        behind = {number for number, offset in targets.items() if self.position.get(number, offset) < offset}
        while behind:
            batch = self.consumer.consume(BATCH, POLL_SECONDS)
            for message in batch:
                error = message.error()
                if error is None:
                    self.position[message.partition()] = message.offset() + 1
                    take(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    number = message.partition()
                    self.position[number] = max(self.position[number], message.offset())
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise KafkaException(error)
            behind = {number for number in behind if self.position[number] < targets[number]}
            if behind and not batch and time.monotonic() > deadline:
                raise LogTimeout(f"{self.topic}: at {self.position}, due {targets}")


def plain_timestamp(message) -> int | None:
    kind, timestamp = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp


class InputReader:
    """An input topic, buffered per partition so that a judge can stop at any offset."""

    def __init__(self, kafka: dict[str, str], topic: str) -> None:
        self.reader = TopicReader(kafka, topic)
        self.buffers: dict[int, deque[Record]] = {}

    def begin(self, partition: int, start_offset: int) -> None:
        self.buffers.setdefault(partition, deque())
        self.reader.assign(partition, start_offset)

    def read_to(self, targets: dict[int, int], deadline: float) -> None:
        self.reader.read(targets, self.take, deadline)

    def take(self, message) -> None:
        headers = message.headers()
        record = Record(
            message.offset(),
            plain_timestamp(message),
            message.key(),
            message.value(),
            tuple(headers) if headers else (),
        )
        self.buffers[message.partition()].append(record)

    def records_before(self, partition: int, offset: int):
        buffer = self.buffers[partition]
        while buffer and buffer[0].offset < offset:
            yield buffer.popleft()

    def waits_before(self, partition: int, offset: int) -> bool:
        buffer = self.buffers[partition]
        return bool(buffer) and buffer[0].offset < offset

    def waiting(self, partition: int) -> int:
        return len(self.buffers[partition])


class OutputReader:
    """An output topic; it may not exist yet, and is read from the beginning once it does."""

    def __init__(self, kafka: dict[str, str], admin: AdminClient, topic: str, observe: Callable) -> None:
        self.kafka, self.admin, self.topic, self.observe = kafka, admin, topic, observe
        self.reader: TopicReader | None = None
        self.partitions = 0

    def open(self) -> bool:
        if self.reader is None:
            self.partitions = partition_count(self.admin, self.topic)
            if self.partitions:
                self.reader = TopicReader(self.kafka, self.topic)
                for number in range(self.partitions):
                    self.reader.assign(number, 0)
        return self.reader is not None

    def drain(self, deadline: float) -> None:
        """Reads what is committed now."""
        if self.open():
            ends = end_offsets(self.admin, self.topic, self.partitions)
            self.reader.read(ends, self.take, deadline)

    def take(self, message) -> None:
        headers = message.headers()
        self.observe(
            Message(
                message.partition(),
                message.offset(),
                plain_timestamp(message),
                message.key(),
                message.value(),
                tuple(headers) if headers else (),
            )
        )
