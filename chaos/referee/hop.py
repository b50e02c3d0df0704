"""A source that is repartitioned: its records judged where they come from, then once more in the order of the internal topic.

Owns: which copy is whose, and that every record that is not dead is copied once, to the partition of its field's text, those of
one source partition in their order. A record is late by the watermark of its source partition, so lateness is known here before
the copy is seen; the internal topic's order alone says which of two copies is the duplicate and where `max_duration` cuts.
Never: reads what a copy carries before the record's own value; a copy ends with that value, and a message without a key is a
tick. So whether a source partition was idle is not read either: where it may have been, and an answer would differ, there is none
(`Undecidable`).
Data: `judge` per source record, `judge_copy` per message of the internal topic -> the effects of `SourceJudge`, and violations.
Tested: `tests/test_hop.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from .finality import SLACK
from .judge import Judged, PartitionState, SourceJudge
from .partitioner import Partitioner
from .pipeline import Pipeline, Source, Unsupported
from .record import Record
from .violation import Violation, shorten

ROUTED, TICK = "routed", "tick"
TEXTS = {
    "text": str,
    "uuid": str,
    "inet": str,
    "bigint": str,
    "boolean": lambda value: "true" if value else "false",
}


class Undecidable(RuntimeError):
    """The logs allow several answers, and the referee cannot tell which is right."""


class Routed(NamedTuple):
    """A record that must be copied. `pauses`: how often its source partition may have been idle before it."""

    key: bytes
    judged: Judged
    pauses: int

    @property
    def place(self) -> tuple[int, int]:
        return self.judged.partition, self.judged.record.offset

    def is_copied_by(self, message: Record) -> bool:
        return message.key == self.key and message.value.endswith(self.judged.record.value)


class HopJudge(SourceJudge):
    """Also of the internal topic. Call `set_partitions` before the first record."""

    def __init__(self, source: Source, plan: Pipeline) -> None:
        super().__init__(source, plan)
        self.internal_topic = source.internal_topic(plan.name)
        self.output_topic = self.internal_topic
        self.index, kind = self.schema[source.repartition_by]
        if kind not in TEXTS:
            raise Unsupported(f"sources.{source.name}.repartition_by: a field of type {kind}")
        self.text_of = TEXTS[kind]
        self.partitioner = Partitioner(1)
        # By internal partition and source partition: what must be copied and was not found yet.
        self.due: dict[int, dict[int, deque[Routed]]] = {}
        self.passed: dict[int, list[Routed]] = {}
        self.copied: dict[int, dict[tuple[bytes, int], int]] = {}
        self.states: dict[int, PartitionState] = {}
        self.violations: list[Violation] = []
        self.first_fed: dict[int, int] = {}
        self.pauses: Counter = Counter()
        # By source partition and pause, what its watermark must pass before it is the only one it may be judged by.
        self.doubts: dict[tuple[int, int], int] = {}

    def set_partitions(self, partitions: int) -> None:
        if partitions != self.partitioner.partitions:
            assert not self.due, "records were routed already"
            self.partitioner = Partitioner(partitions)

    def new_partition(self, partition: int, start_offset: int) -> PartitionState:
        state = self.states[partition] = super().new_partition(partition, start_offset)
        return state

    def new_internal_partition(self, partition: int, start_offset: int) -> PartitionState:
        state = super().new_partition(partition, start_offset)
        state.topic = self.internal_topic
        return state

    # -- at the source -----------------------------------------------------------------------------------------------

    def judge(self, state: PartitionState, record: Record) -> str:
        before = state.last_timestamp
        if record.timestamp is not None:
            self.first_fed.setdefault(state.partition, record.timestamp)
            if before is not None and self.is_pause(before, record.timestamp):
                self.pauses[state.partition] += 1
        return super().judge(state, record)

    def is_pause(self, before: int, after: int) -> bool:
        return (after - before) * 1_000 >= self.source.idle_after - SLACK

    def pass_on(self, state: PartitionState, judged: Judged) -> str:
        key = self.text_of(judged.row[self.index]).encode("utf-8")
        lanes = self.due.setdefault(self.partitioner.partition(key, 0), {})
        lanes.setdefault(state.partition, deque()).append(Routed(key, judged, self.pauses[state.partition]))
        return ROUTED

    # -- behind the hop ----------------------------------------------------------------------------------------------

    def judge_copy(self, state: PartitionState, message: Record) -> str:
        """Call when every source record that may have been copied is judged."""
        assert message.offset >= state.next, (message.offset, state.next)
        state.next = message.offset + 1
        if message.key is None or message.value is None:
            return TICK
        routed = self.identify(state.partition, message)
        if routed is None:
            return TICK
        state.read += 1
        if routed.pauses or self.began_late(routed.judged.partition):
            self.require_no_difference(routed)
        arrival = routed.judged.arrival._replace(partition=state.partition, forgets=None)
        return self.settle(state, routed.judged._replace(arrival=arrival, at=message.offset))

    def identify(self, partition: int, message: Record) -> Routed | None:
        """The record of which this is the copy. None after a violation that leaves none."""
        lanes = self.due.get(partition, {})
        heads = [lane[0] for lane in lanes.values() if lane and lane[0].is_copied_by(message)]
        # Why: a record that begins with blanks ends with one that does not.
        longest = max((len(one.judged.record.value) for one in heads), default=0)
        heads = [one for one in heads if len(one.judged.record.value) == longest]
        if len(heads) > 1:
            heads = [tell_apart(heads, message)]
        if heads:
            return self.take(partition, heads[0].judged.partition, 0)
        return self.out_of_order(partition, message)

    def take(self, partition: int, lane: int, index: int) -> Routed:
        """What stands before it in its lane is passed over."""
        due = self.due[partition][lane]
        for _ in range(index):
            self.passed.setdefault(partition, []).append(due.popleft())
        routed = due.popleft()
        seen = self.copied.setdefault(partition, {})
        seen[(routed.key, hash(routed.judged.record.value))] = len(routed.judged.record.value)
        return routed

    def out_of_order(self, partition: int, message: Record) -> Routed | None:
        where = f"{self.internal_topic}/{partition}@{message.offset}"
        for routed in self.passed.get(partition, ()):
            if routed.is_copied_by(message):
                self.passed[partition].remove(routed)
                detail = f"source partition and offset {routed.place} stands after a later one"
                self.violations.append(Violation("reordered", where, detail))
                return routed
        for lane, due in self.due.get(partition, {}).items():
            for index, routed in enumerate(due):
                if routed.is_copied_by(message):
                    return self.take(partition, lane, index)
        lengths = set(self.copied.get(partition, {}).values())
        again = any((message.key, hash(message.value[-n:])) in self.copied[partition] for n in lengths)
        detail = f"key {shorten(message.key)} value {shorten(message.value)}"
        self.violations.append(Violation("duplicated" if again else "phantom", where, detail))
        return None

    def not_copied(self, limits: dict[int, int], every: bool) -> Iterator[Violation]:
        """What was passed over, and with `every` also what stands at the end, of source offsets below their limits."""
        for partition, lanes in self.due.items():
            at_end = chain.from_iterable(lanes.values()) if every else ()
            for routed in chain(self.passed.get(partition, ()), at_end):
                lane, offset = routed.place
                if offset < limits.get(lane, 0):
                    where = f"{self.internal_topic}/{partition}"
                    yield Violation("lost", where, f"source partition {lane} offset {offset} was not copied")

    def waiting(self) -> Counter:
        """How many records of each source partition were not found in the internal topic."""
        found: Counter = Counter()
        for lanes in self.due.values():
            found.update({lane: len(due) for lane, due in lanes.items()})
        return found

    # -- idleness ----------------------------------------------------------------------------------------------------

    def began_late(self, partition: int) -> bool:
        """It may have been idle from the start."""
        first = self.first_fed.get(partition)
        return first is not None and self.is_pause(min(self.first_fed.values()), first)

    def require_no_difference(self, routed: Routed) -> None:
        """Judged by its own watermark, or by that of whoever is furthest: the answer must be one. Nobody was further when the
        partition fell idle than somebody is when the first record after that is found."""
        judged, pause = routed.judged, (routed.judged.partition, routed.pauses)
        if pause not in self.doubts:
            most = max(one.max_event_time or 0 for one in self.states.values())
            self.doubts[pause] = most - self.source.delay
        marks = [judged.arrival.watermark, self.doubts[pause]]
        if marks[0] is not None and marks[0] >= marks[1]:
            return
        answers = [
            [
                one.aggregate.lateness(judged.arrival.event_time, mark)
                for one in judged.evaluated.contributions
            ]
            for mark in marks
        ]
        if answers[0] != answers[1] or self.expiry:
            raise Undecidable(
                f"{self.source.topic}/{judged.partition}@{judged.record.offset}: the partition may have been idle before it,"
                " and would then be judged by another watermark"
            )


def tell_apart(heads: list[Routed], message: Record) -> Routed:
    """Copies of one value from several source partitions: that whose offset stands in what comes before the value. Raises
    `Undecidable` where none or several do."""
    before = message.value[: len(message.value) - len(heads[0].judged.record.value)]
    found = [one for one in heads if any(text in before for text in spellings(one.judged.record.offset))]
    if len(found) == 1:
        return found[0]
    places = ", ".join(str(one.place) for one in islice(heads, 8))
    raise Undecidable(f"offset {message.offset} of the internal topic may be the copy of any of {places}")


def spellings(number: int) -> list[bytes]:
    """Of fixed width, as anybody would write an offset."""
    return [number.to_bytes(8, "big"), number.to_bytes(8, "little")]
