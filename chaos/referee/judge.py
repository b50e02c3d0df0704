"""One source's records to verdicts, counts, expected rows and expected messages: the semantics page as plain code.

Owns: the order of dead reasons, the watermark, lateness, what each record adds. Never: sees a server; nothing here
depends on when or in which portions records arrive, only on their order within a partition.
Data: `SourceJudge.judge(state, record)` changes the `PartitionState`, the rows of `AggregateJudge`, and tells the streams of
`messages` what to expect. Tested: `tests/test_judge.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from . import accumulator, instant
from .dead import Dead
from .enrichment import Enrichment
from .expression import ExpressionError, Typed, compile_expression, parse_expression
from .expression.compiler import COLUMN_TYPES, coerce
from .fields import FieldReader
from .jsontext import parse_object
from .messages import LetterStream, RecordStream
from .pipeline import Aggregate, RecordOutput, Source
from .window import Window

DEAD_PREFIX_BYTES = 65_536
MAX_KEY_BYTES = 2_000
OTHER_KEY_BYTES = 8


class Record(NamedTuple):
    """`timestamp` is Kafka's, in milliseconds, or None."""

    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


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
    dead_by_reason: Counter = field(default_factory=Counter)
    failed_checks: Counter = field(default_factory=Counter)
    aggregates: dict[str, Counter] = field(default_factory=dict)
    dead_letters: dict[int, DeadLetter] = field(default_factory=dict)


class Contribution(NamedTuple):
    aggregate: AggregateJudge
    by: tuple
    arguments: list


class AggregateJudge:
    """The expected rows of one aggregate: (window start, by values...) to one accumulator a column."""

    def __init__(self, aggregate: Aggregate, schema: dict[str, tuple[int, str]]) -> None:
        self.name, self.definition = aggregate.name, aggregate
        self.window = Window(aggregate.size, aggregate.slide, aggregate.allowed_lateness)
        self.where = boolean(aggregate.where, schema) if aggregate.where else None
        self.by: list[Typed] = [compiled(text, schema) for _, text in aggregate.by]
        self.by_functions = [typed.evaluate for typed in self.by]
        self.columns = [accumulator.compile_column(name, text, schema) for name, text in aggregate.select]
        self.arguments = [column.argument for column in self.columns]
        self.initial = [column.initial for column in self.columns]
        self.rows: dict[tuple, list] = {}

    def contribution(self, row: list) -> Contribution | None:
        """What this row would add; None where `where` is not true. May raise `ExpressionError`."""
        if self.where is not None and self.where(row) is not True:
            return None
        by = tuple([function(row) for function in self.by_functions])
        return Contribution(self, by, [argument(row) for argument in self.arguments])

    def key_bytes(self, by: tuple) -> int:
        sizes = (
            len(value.encode("utf-8")) if typed.type == "text" and value is not None else OTHER_KEY_BYTES
            for typed, value in zip(self.by, by, strict=True)
        )
        return sum(sizes)

    def add(self, start: int, late: bool, contribution: Contribution) -> None:
        key = (start, *contribution.by)
        states = self.rows.get(key)
        if states is None:
            states = self.rows[key] = list(self.initial)
        for index, value in enumerate(contribution.arguments):
            if value is not None:
                column = self.columns[index]
                if late or not column.counts_late:
                    states[index] = column.add(states[index], value)


class SourceJudge:
    def __init__(self, source: Source, aggregates: list[Aggregate], records: list[RecordOutput]) -> None:
        self.source = source
        self.schema = {one.name: (index, one.type) for index, one in enumerate(source.fields)}
        self.event_time_index = self.schema[source.event_time][0]
        if (
            COLUMN_TYPES.get(self.schema[source.event_time][1], self.schema[source.event_time][1])
            != "timestamp"
        ):
            raise ValueError(f"event time {source.event_time} is no timestamp")
        self.reader = FieldReader(source.fields)
        self.checks = [(check, boolean(check.expect, self.schema)) for check in source.checks]
        self.aggregates = [AggregateJudge(aggregate, self.schema) for aggregate in aggregates]
        self.outputs = [self.record_stream(record) for record in records]
        self.dead_stream = LetterStream(source.dead_topic) if source.dead_topic else None
        self.late_stream = LetterStream(source.late_topic) if source.late_topic else None

    def record_stream(self, output: RecordOutput) -> RecordStream:
        enrichment = Enrichment([(name, compiled(text, self.schema)) for name, text in output.set])
        key_index = None if output.key is None else self.schema[output.key][0]
        return RecordStream(output.topic, enrichment, key_index, output.input_timestamp)

    def streams(self) -> list[RecordStream | LetterStream]:
        return [*self.outputs, *(one for one in (self.dead_stream, self.late_stream) if one)]

    def new_partition(self, partition: int, start_offset: int) -> PartitionState:
        counts = {aggregate.name: Counter() for aggregate in self.aggregates}
        checks = Counter({check.name: 0 for check in self.source.checks if not check.deadly})
        topic = self.source.topic
        return PartitionState(
            topic, partition, start_offset, start_offset, failed_checks=checks, aggregates=counts
        )

    def judge(self, state: PartitionState, record: Record) -> None:
        """Exactly one verdict, and its effects."""
        assert record.offset >= state.next, (record.offset, state.next)
        state.next = record.offset + 1
        state.read += 1
        try:
            row, found = self.examine(record)
            failed = self.failed_checks(row)
            spelled, contributions = self.evaluate(row)
        except Dead as dead:
            self.bury(state, record, dead.reason)
            return
        state.accepted += 1
        state.failed_checks.update(failed)
        for stream, texts in zip(self.outputs, spelled, strict=True):
            stream.expect(state.partition, record, row, found, texts)
        event_time = row[self.event_time_index]
        watermark = None if state.max_event_time is None else state.max_event_time - self.source.delay
        for contribution in contributions:
            self.count(state, record, contribution, event_time, watermark)
        if state.max_event_time is None or event_time > state.max_event_time:
            state.max_event_time = event_time

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

    def evaluate(self, row: list) -> tuple[list[list[bytes]], list[Contribution]]:
        try:
            spelled = [stream.enrichment.evaluate(row) for stream in self.outputs]
            found = [aggregate.contribution(row) for aggregate in self.aggregates]
        except ExpressionError as error:
            raise Dead("EXPRESSION_ERROR", str(error)) from None
        contributions = [one for one in found if one is not None]
        for one in contributions:
            if one.aggregate.key_bytes(one.by) > MAX_KEY_BYTES:
                raise Dead("KEY_TOO_LONG", one.aggregate.name)
        return spelled, contributions

    def bury(self, state: PartitionState, record: Record, reason: str) -> None:
        state.dead += 1
        state.dead_by_reason[reason] += 1
        letter = state.dead_letters[record.offset] = DeadLetter(reason, record)
        if self.dead_stream:
            own = {"reason": reason, **origin(state, record)}
            if reason == "TOO_LARGE":
                own["value_bytes"] = str(len(record.value))
            self.dead_stream.expect(state.partition, record, letter.kept_value, own)

    def count(
        self,
        state: PartitionState,
        record: Record,
        contribution: Contribution,
        event_time: int,
        watermark: int | None,
    ) -> None:
        aggregate = contribution.aggregate
        window, counts = aggregate.window, state.aggregates[aggregate.name]
        counts["matched"] += 1
        starts = window.starts(event_time)
        open_starts = starts
        if watermark is not None and event_time < watermark:
            open_starts = [start for start in starts if not window.is_too_late(start, watermark)]
        if not open_starts:
            counts["too_late"] += 1
            if self.late_stream:
                self.expect_late(state, record, aggregate.name, watermark, window.end(starts[-1]))
            return
        counts["counted"] += 1
        if len(open_starts) < len(starts):
            counts["partly_late"] += 1
        for start in open_starts:
            aggregate.add(start, window.is_late(start, watermark), contribution)

    def expect_late(self, state: PartitionState, record: Record, name: str, watermark: int, end: int) -> None:
        own = {
            "aggregate": name,
            "watermark": instant.to_text(watermark),
            "late_by_ms": str((watermark - end) // 1_000),
            **origin(state, record),
        }
        self.late_stream.expect(state.partition, record, record.value, own)


def origin(state: PartitionState, record: Record) -> dict[str, str]:
    return {
        "source_topic": state.topic,
        "source_partition": str(state.partition),
        "source_offset": str(record.offset),
    }


def compiled(text: str, schema: dict[str, tuple[int, str]]) -> Typed:
    return compile_expression(parse_expression(text), schema)


def boolean(text: str, schema: dict[str, tuple[int, str]]):
    return coerce(compiled(text, schema), "boolean").evaluate
