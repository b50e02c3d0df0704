"""One source's records to verdicts, counts, expected rows and expected messages: the semantics page as plain code.

Owns: the order of dead reasons, dead before duplicate before accepted, and the watermark. Never: sees a server; nothing here
depends on when or in which portions records arrive, only on their order within a partition.
Data: `SourceJudge.judge(state, record)` changes the `PartitionState` and the rows of `AggregateJudge`, and tells the streams of
`messages` and the tables of `record_table` what to expect. Tested: `tests/test_judge.py`, `tests/test_dedup.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from . import instant
from .aggregate import Arrival, Contribution, boolean, compiled, judge_of
from .dead import Dead
from .dedup import Expiry, SeenKeys
from .enrichment import Enrichment
from .expression import ExpressionError
from .expression.compiler import COLUMN_TYPES
from .fields import FieldReader
from .jsontext import parse_object
from .messages import LetterStream
from .pipeline import Pipeline, RecordOutput, Source, TableOutput
from .record import Record
from .record_stream import RecordStream
from .record_table import RecordTable

DEAD_PREFIX_BYTES = 65_536
MAX_KEY_BYTES = 2_000
ACCEPTED, DUPLICATE, DEAD = "accepted", "duplicate", "dead"


class DeadLetter(NamedTuple):
    reason: str
    record: Record

    @property
    def kept_value(self) -> bytes | None:
        value = self.record.value
        return value[:DEAD_PREFIX_BYTES] if self.reason == "TOO_LARGE" else value


@dataclass
class PartitionState:
    """What one partition's records up to `next` amount to."""

    topic: str
    partition: int
    start: int
    next: int
    read: int = 0
    accepted: int = 0
    duplicate: int = 0
    dead: int = 0
    max_event_time: int | None = None
    last_timestamp: int | None = None
    dead_by_reason: Counter = field(default_factory=Counter)
    failed_checks: Counter = field(default_factory=Counter)
    aggregates: dict[str, Counter] = field(default_factory=dict)
    dead_letters: dict[int, DeadLetter] = field(default_factory=dict)
    seen: SeenKeys = field(default_factory=SeenKeys)


class Evaluated(NamedTuple):
    """What the expressions of a record that is not dead came to, one for each output, table and matching aggregate."""

    dedup_key: tuple
    spelled: list[list[bytes]]
    added: list[dict[str, object]]
    contributions: list[Contribution]


class Judged(NamedTuple):
    """A record that is not dead, with all that is needed to settle it. `partition` is the source's, `at` its offset where it is
    settled: its own, unless it was copied."""

    partition: int
    at: int
    record: Record
    row: list
    found: dict
    failed: list[str]
    evaluated: Evaluated
    arrival: Arrival


class SourceJudge:
    """All that one source of a pipeline feeds. Progress rows of `output_topic` say what is due of its outputs."""

    def __init__(self, source: Source, plan: Pipeline) -> None:
        self.source, self.output_topic = source, source.topic
        self.schema = {one.name: (index, one.type) for index, one in enumerate(source.fields)}
        self.event_time_index = self.schema[source.event_time][0]
        if (
            COLUMN_TYPES.get(self.schema[source.event_time][1], self.schema[source.event_time][1])
            != "timestamp"
        ):
            raise ValueError(f"event time {source.event_time} is no timestamp")
        self.reader = FieldReader(source.fields)
        self.checks = [(check, boolean(check.expect, self.schema)) for check in source.checks]
        self.dedup_key = [compiled(text, self.schema) for _, text in source.dedup.key] if source.dedup else []
        self.expiry = Expiry(source.dedup.within) if source.dedup else None
        self.aggregates = [judge_of(one, self.schema) for one in plan.aggregates if one.source == source.name]
        self.outputs = [self.record_stream(one) for one in plan.records if one.source == source.name]
        self.tables = [self.record_table(one) for one in plan.tables if one.source == source.name]
        self.dead_stream = LetterStream(source.dead_topic) if source.dead_topic else None
        self.late_stream = LetterStream(source.late_topic) if source.late_topic else None

    def record_stream(self, output: RecordOutput) -> RecordStream:
        enrichment = Enrichment([(name, compiled(text, self.schema)) for name, text in output.set])
        key_index = None if output.key is None else self.schema[output.key][0]
        return RecordStream(output.topic, enrichment, key_index, output.input_timestamp)

    def record_table(self, output: TableOutput) -> RecordTable:
        added = [(name, compiled(text, self.schema)) for name, text in output.set]
        return RecordTable(output, self.source.fields, added)

    def streams(self) -> list[RecordStream | LetterStream]:
        return [*self.outputs, *(one for one in (self.dead_stream, self.late_stream) if one)]

    def new_partition(self, partition: int, start_offset: int) -> PartitionState:
        counts = {aggregate.name: Counter() for aggregate in self.aggregates}
        checks = Counter({check.name: 0 for check in self.source.checks if not check.deadly})
        topic = self.source.topic
        return PartitionState(
            topic, partition, start_offset, start_offset, failed_checks=checks, aggregates=counts
        )

    def judge(self, state: PartitionState, record: Record) -> str:
        """Exactly one verdict, which is returned, and its effects."""
        assert record.offset >= state.next, (record.offset, state.next)
        state.next = record.offset + 1
        state.read += 1
        if record.timestamp is not None:
            state.last_timestamp = max(state.last_timestamp or 0, record.timestamp)
        try:
            row, found = self.examine(record)
            failed = self.failed_checks(row)
            evaluated = self.evaluate(row)
        except Dead as dead:
            self.bury(state, record, dead.reason)
            return DEAD
        event_time = row[self.event_time_index]
        watermark = None if state.max_event_time is None else state.max_event_time - self.source.delay
        if state.max_event_time is None or event_time > state.max_event_time:
            state.max_event_time = event_time
        arrival = Arrival(state.partition, event_time, watermark, watermark)
        place = (state.partition, record.offset)
        return self.pass_on(state, Judged(*place, record, row, found, failed, evaluated, arrival))

    def pass_on(self, state: PartitionState, judged: Judged) -> str:
        """To where it is found accepted or a duplicate: here."""
        return self.settle(state, judged)

    def settle(self, state: PartitionState, judged: Judged) -> str:
        evaluated, arrival = judged.evaluated, judged.arrival
        if self.expiry:
            if state.seen.holds(evaluated.dedup_key, arrival.watermark):
                state.duplicate += 1
                return DUPLICATE
            state.seen.note(evaluated.dedup_key, self.expiry.of(arrival.event_time), arrival.forgets)
        state.accepted += 1
        state.failed_checks.update(judged.failed)
        place = (state.partition, judged.at)
        for stream, texts in zip(self.outputs, evaluated.spelled, strict=True):
            stream.expect(place, judged.record, judged.row, judged.found, texts)
        for table, added in zip(self.tables, evaluated.added, strict=True):
            table.expect(*place, judged.row, added)
        for contribution in evaluated.contributions:
            self.count(state, judged, contribution)
        return ACCEPTED

    def examine(self, record: Record) -> tuple[list, dict]:
        """The typed row and the parsed object of a record whose own bytes are not dead."""
        value = record.value
        if value is None:
            raise Dead("NULL_VALUE")
        if len(value) > self.source.max_record_bytes:
            raise Dead("TOO_LARGE", str(len(value)))
        text, found = parse_object(value)
        row = self.reader.row(found, "\\u" in text)
        if record.timestamp is not None:
            limit = record.timestamp * 1_000 + self.source.max_future
            event_time = row[self.event_time_index]
            if event_time is not None and event_time > limit:
                raise Dead("FUTURE_EVENT")
        return row, found

    def failed_checks(self, row: list) -> list[str]:
        """The counted checks that are false. A deadly one that is false comes before any that raised."""
        failed, raised = [], None
        for check, expect in self.checks:
            try:
                passed = expect(row)
            except ExpressionError as error:
                raised = error
                continue
            if passed is False:
                if check.deadly:
                    raise Dead(f"CHECK_FAILED:{check.name}")
                failed.append(check.name)
        if raised is not None:
            raise Dead("EXPRESSION_ERROR", str(raised))
        return failed

    def evaluate(self, row: list) -> Evaluated:
        try:
            key = tuple([typed.evaluate(row) for typed in self.dedup_key])
            spelled = [stream.enrichment.evaluate(row) for stream in self.outputs]
            added = [table.evaluate(row) for table in self.tables]
            found = [aggregate.contribution(row) for aggregate in self.aggregates]
        except ExpressionError as error:
            raise Dead("EXPRESSION_ERROR", str(error)) from None
        contributions = [one for one in found if one is not None]
        for one in contributions:
            if one.aggregate.key_bytes(one.by) > MAX_KEY_BYTES:
                raise Dead("KEY_TOO_LONG", one.aggregate.name)
        return Evaluated(key, spelled, added, contributions)

    def bury(self, state: PartitionState, record: Record, reason: str) -> None:
        state.dead += 1
        state.dead_by_reason[reason] += 1
        letter = state.dead_letters[record.offset] = DeadLetter(reason, record)
        if self.dead_stream:
            own = {"reason": reason, **self.origin(state.partition, record)}
            if reason == "TOO_LARGE":
                own["value_bytes"] = str(len(record.value))
            place = (state.partition, record.offset)
            self.dead_stream.expect(place, state.partition, record, letter.kept_value, own)

    def count(self, state: PartitionState, judged: Judged, contribution: Contribution) -> None:
        aggregate = contribution.aggregate
        counts = state.aggregates[aggregate.name]
        counts["matched"] += 1
        end = aggregate.count(counts, judged.arrival, contribution)
        if end is not None:
            counts["too_late"] += 1
            if self.late_stream:
                self.expect_late((state.partition, judged.at), judged, aggregate.name, end)

    def expect_late(self, place: tuple[int, int], judged: Judged, name: str, end: int) -> None:
        watermark, record = judged.arrival.watermark, judged.record
        own = {
            "aggregate": name,
            "watermark": instant.to_text(watermark),
            "late_by_ms": str((watermark - end) // 1_000),
            **self.origin(judged.partition, record),
        }
        self.late_stream.expect(place, judged.partition, record, record.value, own)

    def origin(self, partition: int, record: Record) -> dict[str, str]:
        return {
            "source_topic": self.source.topic,
            "source_partition": str(partition),
            "source_offset": str(record.offset),
        }
