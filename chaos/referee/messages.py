"""Expected messages of one output topic against those found there.

Owns: matching as a multiset, order per source partition, the partition each belongs to, and when a message was due.
Never: reads a topic; matching works in any portions. A message may be found before it is expected (its record is not
judged yet): it stays pending, and is a violation only once everything that could explain it has been judged.
Data: `expect` from the judge, `observe` from the log, then `unexplained` and `missing`. Tested: `tests/test_referee.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import instant
from .commit_times import CommitTimes
from .enrichment import Enrichment
from .partitioner import Partitioner
from .violation import Violation, shorten

if TYPE_CHECKING:
    from .judge import Record

OFFSET_BITS = 48
OFFSET_MASK = (1 << OFFSET_BITS) - 1


class Message(NamedTuple):
    """A message found in an output topic; `partition` and `offset` are its own."""

    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Order:
    """The last offset of each source partition seen in each output partition."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.last: dict[tuple, tuple[int, int]] = {}

    def check(self, source: tuple, message: Message, offset: int) -> list[Violation]:
        place = (source, message.partition)
        before, at = self.last.get(place, (-1, -1))
        self.last[place] = (offset, message.offset)
        if offset > before:
            return []
        detail = f"source {source} offset {offset} stands after {before} (at offset {at})"
        return [Violation("reordered", f"{self.topic}/{message.partition}@{message.offset}", detail)]


class Stream:
    """What the two kinds of topics have in common: pending messages, by generation."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.partitioner = Partitioner(1)
        self.order = Order(topic)
        self.pending: list[tuple[int, Message]] = []
        self.generation = 0
        self.violations: list[Violation] = []
        self.observed = 0

    def set_partitions(self, partitions: int) -> None:
        if partitions != self.partitioner.partitions:
            self.partitioner = Partitioner(partitions)

    def observe(self, message: Message) -> None:
        """Order: behind a message that still waits for its record, all wait, so that they are matched as they stand."""
        self.observed += 1
        if self.pending or not self.match(message):
            self.pending.append((self.generation, message))

    def close_generation(self) -> int:
        """Messages observed until now belong to the returned generation."""
        self.generation += 1
        return self.generation - 1

    def unexplained(self, generation: int) -> list[Violation]:
        """Call after judging all that could explain the messages of this generation. Each is reported once."""
        self.retry_pending()
        still = self.pending
        self.pending = [(when, message) for when, message in still if when > generation]
        for when, message in still:
            if when <= generation:
                self.violations.append(self.explain(message))
        found, self.violations = self.violations, []
        return found

    def retry_pending(self) -> None:
        self.pending = [(when, message) for when, message in self.pending if not self.match(message)]

    def match(self, message: Message) -> bool:
        raise NotImplementedError

    def explain(self, message: Message) -> Violation:
        raise NotImplementedError

    def place(self, message: Message) -> str:
        return f"{self.topic}/{message.partition}@{message.offset}"


class RecordStream(Stream):
    """A topic of enriched records. They carry no origin, so they are matched by their bytes."""

    def __init__(
        self, topic: str, enrichment: Enrichment, key_index: int | None, input_timestamp: bool
    ) -> None:
        super().__init__(topic)
        self.enrichment, self.key_index, self.input_timestamp = enrichment, key_index, input_timestamp
        self.names = [b'"' + name.encode() + b'"' for name in sorted(enrichment.names)]
        self.expected: dict[int, int | list[int]] = {}
        self.matched: set[int] = set()
        self.commit_times = CommitTimes(topic)

    def expect(self, partition: int, record: Record, row: list, found: dict, spelled: list[bytes]) -> None:
        value = self.enrichment.splice(record.value, found, spelled)
        for name in self.names:
            if name in record.value:
                value, _ = self.enrichment.comparable(value)
                break
        key = record.key
        if self.key_index is not None:
            column = row[self.key_index]
            key = None if column is None else str(column).encode("utf-8")
        timestamp = record.timestamp if self.input_timestamp else None
        signature = hash((self.partitioner.partition(key, partition), key, value, timestamp))
        code = partition << OFFSET_BITS | record.offset
        before = self.expected.get(signature)
        if before is None:
            self.expected[signature] = code
        elif isinstance(before, int):
            self.expected[signature] = [before, code]
        else:
            before.append(code)

    def match(self, message: Message) -> bool:
        if message.value is None:
            return False
        value, times = self.enrichment.comparable(message.value)
        timestamp = message.timestamp if self.input_timestamp else None
        signature = hash((message.partition, message.key, value, timestamp))
        found = self.expected.get(signature)
        if found is None:
            return False
        if isinstance(found, int):
            code = found
            del self.expected[signature]
            self.check_order(code, message)
        else:
            code = found.pop(0)
            if all(code >> OFFSET_BITS == other >> OFFSET_BITS for other in found):
                self.check_order(code, message)
            if len(found) == 1:
                self.expected[signature] = found[0]
        self.matched.add(signature)
        if message.headers:
            self.violations.append(Violation("phantom", self.place(message), "carries headers"))
        if self.enrichment.clocks:
            self.note_commit_time(code, times, message)
        return True

    def check_order(self, code: int, message: Message) -> None:
        self.violations += self.order.check((code >> OFFSET_BITS,), message, code & OFFSET_MASK)

    def note_commit_time(self, code: int, times: list[bytes], message: Message) -> None:
        texts = [text.decode("utf-8", "replace") for text in times]
        valid = [text for text in texts if instant.OUTPUT_PATTERN.fullmatch(text)]
        if valid:
            self.commit_times.note(code >> OFFSET_BITS, code & OFFSET_MASK, valid[0])
        else:
            detail = f"no commit time as a timestamp: {shorten(message.value)}"
            self.violations.append(Violation("stale", self.place(message), detail))

    def explain(self, message: Message) -> Violation:
        text = f"key {shorten(message.key)} value {shorten(message.value)}"
        if message.value is None:
            return Violation("phantom", self.place(message), text)
        value, _ = self.enrichment.comparable(message.value)
        timestamp = message.timestamp if self.input_timestamp else None
        if hash((message.partition, message.key, value, timestamp)) in self.matched:
            return Violation("duplicated", self.place(message), text)
        for other in range(self.partitioner.partitions):
            if hash((other, message.key, value, timestamp)) in self.expected:
                text = f"belongs to output partition {other}: {text}"
        return Violation("phantom", self.place(message), text)

    def missing(self, due: dict[int, int]) -> list[Violation]:
        """Expected messages of source offsets below `due` that were not found."""
        codes = []
        for found in self.expected.values():
            for code in [found] if isinstance(found, int) else found:
                if code & OFFSET_MASK < due.get(code >> OFFSET_BITS, 0):
                    codes.append(code)
        return [
            Violation(
                "lost", self.topic, f"source partition {code >> OFFSET_BITS} offset {code & OFFSET_MASK}"
            )
            for code in sorted(codes)
        ]


class Letter(NamedTuple):
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple
    own: dict[str, str]


class LetterStream(Stream):
    """A topic of dead letters or too-late records. Their headers say where they came from."""

    WILDCARDS = {"detail"}
    OWN_NAMES = {"reason", "detail", "value_bytes", "aggregate", "watermark", "late_by_ms"}

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.expected: dict[tuple, Letter] = {}
        self.matched: set[tuple] = set()

    def expect(self, partition: int, record: Record, value: bytes | None, own: dict[str, str]) -> None:
        target = self.partitioner.partition(record.key, partition)
        identity = (partition, record.offset, own.get("aggregate"))
        self.expected[identity] = Letter(target, record.key, value, tuple(record.headers), own)

    def identity(self, message: Message) -> tuple[tuple | None, dict[str, str], tuple]:
        """(source partition, offset, aggregate), our headers, and the original ones before them."""
        own: dict[str, str] = {}
        at = len(message.headers)
        while at > 0:
            name, value = message.headers[at - 1]
            if name in own or not (name in self.OWN_NAMES or name.startswith("source_")) or value is None:
                break
            own[name] = value.decode("utf-8", "replace")
            at -= 1
        try:
            place = (int(own["source_partition"]), int(own["source_offset"]), own.get("aggregate"))
        except (KeyError, ValueError):
            place = None
        return place, own, tuple(message.headers[:at])

    def match(self, message: Message) -> bool:
        place, own, original = self.identity(message)
        letter = self.expected.get(place)
        if letter is None:
            return False
        del self.expected[place]
        self.matched.add(place)
        source = place[:1] if place[2] is None else (place[0], place[2])
        self.violations += self.order.check(source, message, place[1])
        found = Letter(message.partition, message.key, message.value, original, own)
        stated = {name: text for name, text in own.items() if name not in self.WILDCARDS}
        if found._replace(own=stated) != letter:
            for part, due, there in zip(Letter._fields, letter, found._replace(own=stated), strict=True):
                if due != there:
                    detail = f"source {place}: {part} is {shorten(there)}, due was {shorten(due)}"
                    self.violations.append(Violation("phantom", self.place(message), detail))
        return True

    def explain(self, message: Message) -> Violation:
        place, own, _ = self.identity(message)
        word = "duplicated" if place in self.matched else "phantom"
        return Violation(
            word, self.place(message), f"source {place} key {shorten(message.key)} {shorten(own)}"
        )

    def missing(self, due: dict[int, int]) -> list[Violation]:
        gone = sorted(
            (place for place in self.expected if place[1] < due.get(place[0], 0)),
            key=lambda place: (place[0], place[1], place[2] or ""),
        )
        return [
            Violation(
                "lost", self.topic, f"source partition {p} offset {o}" + (f" aggregate {a}" if a else "")
            )
            for p, o, a in gone
        ]
