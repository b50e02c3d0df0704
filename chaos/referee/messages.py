"""Expected messages of one output topic against those found there: what all topics have in common, and letters.

Owns: pending messages, the order of letters per source partition, the partition each belongs to, and when a message was due.
Never: reads a topic; matching works in any portions. A message may be found before it is expected (its record is not
judged yet): it stays pending, and is a violation only once everything that could explain it has been judged.
Data: `expect` from the judge, `observe` from the log, then `unexplained` and `missing`. Tested: `tests/test_referee.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from .partitioner import Partitioner
from .record import Record
from .violation import Violation, shorten


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
    """What the two kinds of topics have in common. `complete` says that whatever can explain a message has been judged before
    the message is observed; otherwise messages belong to generations."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.partitioner = Partitioner(1)
        self.generation = 0
        self.violations: list[Violation] = []
        self.observed = 0
        self.complete = False

    def set_partitions(self, partitions: int) -> None:
        if partitions != self.partitioner.partitions:
            self.partitioner = Partitioner(partitions)

    def close_generation(self) -> int:
        """Messages observed until now belong to the returned generation."""
        self.generation += 1
        return self.generation - 1

    def observe(self, message: Message) -> None:
        raise NotImplementedError

    def unexplained(self, generation: int) -> list[Violation]:
        """Call after judging all that could explain the messages of this generation. Each is reported once."""
        raise NotImplementedError

    def retry_pending(self) -> None:
        """More has been judged."""
        raise NotImplementedError

    def missing(self, due: dict) -> list[Violation]:
        """Expected messages of source offsets below `due` that were not found."""
        raise NotImplementedError

    def place(self, message: Message) -> str:
        return f"{self.topic}/{message.partition}@{message.offset}"


class Letter(NamedTuple):
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple
    own: dict[str, str]
    place: tuple[int, int]


class LetterStream(Stream):
    """A topic of dead letters or too-late records. Their headers say where they came from."""

    WILDCARDS = {"detail"}
    OWN_NAMES = {"reason", "detail", "value_bytes", "aggregate", "watermark", "late_by_ms"}

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.order = Order(topic)
        self.pending: list[tuple[int, Message]] = []
        self.expected: dict[tuple, Letter] = {}
        self.matched: set[tuple] = set()

    def expect(
        self,
        place: tuple[int, int],
        partition: int,
        record: Record,
        value: bytes | None,
        own: dict[str, str],
    ) -> None:
        """`place` is the input partition and the offset by which letters are ordered and due, `partition` the source's."""
        target = self.partitioner.partition(record.key, place[0])
        identity = (partition, record.offset, own.get("aggregate"))
        self.expected[identity] = Letter(target, record.key, value, tuple(record.headers), own, place)

    def observe(self, message: Message) -> None:
        """Order: behind a message that still waits for its record, all wait, so that they are matched as they stand."""
        self.observed += 1
        if self.pending or not self.match(message):
            self.pending.append((self.generation, message))

    def unexplained(self, generation: int) -> list[Violation]:
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
        source = (place[0], letter.place[0], place[2])
        self.violations += self.order.check(source, message, letter.place[1])
        found = Letter(message.partition, message.key, message.value, original, own, letter.place)
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
            (
                place
                for place, letter in self.expected.items()
                if letter.place[1] < due.get(letter.place[0], 0)
            ),
            key=lambda place: (place[0], place[1], place[2] or ""),
        )
        return [
            Violation(
                "lost", self.topic, f"source partition {p} offset {o}" + (f" aggregate {a}" if a else "")
            )
            for p, o, a in gone
        ]
