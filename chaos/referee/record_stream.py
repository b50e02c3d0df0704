"""A topic of enriched records. They carry no origin, so they are matched by their bytes.

Owns: what a message must look like, and what is said of one that is not due. Never: shares out messages that look alike itself,
nor before all that could explain them has been judged: one of them may be that of a record which is not judged yet.
Data: `expect` from the judge, `observe` from the log -> an `Interleaving` per output partition.
Tested: `tests/test_referee.py`, `tests/test_copies.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple

from . import instant
from .commit_times import CommitTimes
from .enrichment import Enrichment
from .interleaving import Interleaving, Taken
from .messages import Message, Stream
from .record import Record
from .violation import Violation, shorten


class Waiting(NamedTuple):
    generation: int
    letter: int
    message: Message
    times: list[bytes]


class RecordStream(Stream):
    def __init__(
        self, topic: str, enrichment: Enrichment, key_index: int | None, input_timestamp: bool
    ) -> None:
        super().__init__(topic)
        self.enrichment, self.key_index, self.input_timestamp = enrichment, key_index, input_timestamp
        self.names = [b'"' + name.encode() + b'"' for name in sorted(enrichment.names)]
        self.due: dict[int, Interleaving] = {}
        self.matched: set[int] = set()
        self.waiting: list[Waiting] = []
        self.commit_times = CommitTimes(topic)

    def expect(
        self,
        place: tuple[int, int],
        record: Record,
        row: list,
        found: dict,
        spelled: list[bytes],
    ) -> None:
        """`place` is the input partition and the offset by which messages are ordered; one without a key follows it."""
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
        target = self.partitioner.partition(key, place[0])
        self.due_in(target).expect(*place, hash((target, key, value, timestamp)))

    def due_in(self, partition: int) -> Interleaving:
        found = self.due.get(partition)
        if found is None:
            found = self.due[partition] = Interleaving()
        return found

    def observe(self, message: Message) -> None:
        self.observed += 1
        value, times = (b"", []) if message.value is None else self.enrichment.comparable(message.value)
        timestamp = message.timestamp if self.input_timestamp else None
        letter = hash((message.partition, message.key, value, timestamp))
        waiting = Waiting(self.generation, letter, message, times)
        if self.complete:
            self.retry_pending()
            self.match(waiting)
        else:
            self.waiting.append(waiting)

    def unexplained(self, generation: int) -> list[Violation]:
        for one in self.waiting:
            if one.generation <= generation:
                self.match(one)
        self.waiting = [one for one in self.waiting if one.generation > generation]
        found, self.violations = self.violations, []
        return found

    def retry_pending(self) -> None:
        if self.complete:
            for one in self.waiting:
                self.match(one)
            self.waiting = []

    def match(self, found: Waiting) -> None:
        message = found.message
        taken = None if message.value is None else self.due_in(message.partition).take(found.letter)
        if taken is None:
            self.violations.append(self.explain(found))
            return
        self.matched.add(found.letter)
        if taken.behind is not None:
            source = f"source partition {taken.source} offset {taken.offset} stands after {taken.behind}"
            self.violations.append(Violation("reordered", self.place(message), source))
        if message.headers:
            self.violations.append(Violation("phantom", self.place(message), "carries headers"))
        if self.enrichment.clocks:
            self.note_commit_time(taken, found)

    def note_commit_time(self, taken: Taken, found: Waiting) -> None:
        """Whose epoch it was is known where one source alone may have sent it."""
        texts = [text.decode("utf-8", "replace") for text in found.times]
        valid = [text for text in texts if instant.OUTPUT_PATTERN.fullmatch(text)]
        if not valid:
            detail = f"no commit time as a timestamp: {shorten(found.message.value)}"
            self.violations.append(Violation("stale", self.place(found.message), detail))
        elif taken.source is not None:
            self.commit_times.note(taken.source, taken.offset, valid[0])

    def explain(self, found: Waiting) -> Violation:
        message = found.message
        text = f"key {shorten(message.key)} value {shorten(message.value)}"
        if message.value is None:
            return Violation("phantom", self.place(message), text)
        if found.letter in self.matched:
            return Violation("duplicated", self.place(message), text)
        value, _ = self.enrichment.comparable(message.value)
        timestamp = message.timestamp if self.input_timestamp else None
        for other, due in self.due.items():
            if due.expects(hash((other, message.key, value, timestamp))):
                text = f"belongs to output partition {other}: {text}"
        return Violation("phantom", self.place(message), text)

    def missing(self, due: dict[Hashable, int]) -> list[Violation]:
        """A message that waits may be the one that is due."""
        there = Counter(one.letter for one in self.waiting)
        gone = []
        for partition in self.due.values():
            for one in partition.outstanding(lambda source, offset: offset < due.get(source, 0)):
                if there[one.letter]:
                    there[one.letter] -= 1
                else:
                    gone.append((one.source, one.offset))
        return [
            Violation("lost", self.topic, f"source partition {source} offset {offset}")
            for source, offset in sorted(gone)
        ]
