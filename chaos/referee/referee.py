"""The whole of a pipeline's judgement, without a server: records in, snapshots and messages compared.

Owns: the state of every partition and the sequence of a comparison. Never: reads a server; goes back.
Data: `begin` and `advance` bring partitions to a snapshot's offsets; `compare_snapshot`, `unexplained`, `missing` answer
with violations. Tested: `tests/test_referee.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import compare
from .judge import PartitionState, Record, SourceJudge
from .messages import LetterStream, RecordStream, Stream
from .pipeline import Pipeline
from .snapshot import Place, Snapshot
from .violation import Violation


class Referee:
    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.sources = {source.topic: SourceJudge(source, pipeline) for source in pipeline.sources.values()}
        self.partitions: dict[Place, PartitionState] = {}
        self.verified: dict[Place, int] = {}

    def streams(self, topic: str | None = None) -> list[RecordStream | LetterStream]:
        sources = self.sources.values() if topic is None else [self.sources[topic]]
        return [stream for source in sources for stream in source.streams()]

    def begin(self, place: Place, start_offset: int) -> PartitionState:
        """The state of a partition; at its first mention nothing before `start_offset` is ever judged."""
        if place not in self.partitions:
            self.partitions[place] = self.sources[place[0]].new_partition(place[1], start_offset)
        return self.partitions[place]

    def advance(self, place: Place, records: Iterable[Record]) -> None:
        judge, state = self.sources[place[0]].judge, self.partitions[place]
        for record in records:
            judge(state, record)

    def regressions(self, snapshot: Snapshot) -> list[Violation]:
        """Progress that went back, or a start that changed: nothing can be compared after that."""
        violations = []
        for place, found in snapshot.progress.items():
            state = self.partitions.get(place)
            where = f"progress of {place[0]}/{place[1]}"
            if found.prev > found.next:
                violations.append(Violation("torn", where, f"prev {found.prev} > next {found.next}"))
            if state is not None and found.next < state.next:
                violations.append(Violation("stale", where, f"went back to {found.next}, was {state.next}"))
            if state is not None and found.start_offset != state.start:
                violations.append(Violation("stale", where, f"start {found.start_offset}, was {state.start}"))
        for place in self.verified.keys() - snapshot.progress.keys():
            violations.append(Violation("lost", f"progress of {place[0]}/{place[1]}", "row is gone"))
        return violations

    def compare_snapshot(self, snapshot: Snapshot) -> list[Violation]:
        """Call with every partition judged exactly to the snapshot's `next`."""
        violations: list[Violation] = []
        for place, found in snapshot.progress.items():
            delay = self.sources[place[0]].source.delay
            violations += compare.progress_counts(self.partitions[place], found, delay)
            violations += compare.dead_letter_rows(self.partitions[place], snapshot)
        for place in snapshot.dead_letters.keys() - snapshot.progress.keys():
            where = f"dead letters of {place[0]}/{place[1]}"
            violations.append(Violation("torn", where, "rows of a partition without a progress row"))
        for source in self.sources.values():
            for aggregate in source.aggregates:
                violations += compare.result_rows(aggregate, snapshot)
                if aggregate.definition.latest:
                    violations += compare.latest_rows(aggregate, snapshot)
            for table in source.tables:
                violations += table.compare(snapshot.record_rows.get(table.name, []))
        if not violations:
            self.verified = {place: found.next for place, found in snapshot.progress.items()}
        return violations

    def commit_times(self, snapshot: Snapshot) -> list[Violation]:
        violations: list[Violation] = []
        for (topic, partition), found in snapshot.progress.items():
            for output in (*self.sources[topic].outputs, *self.sources[topic].tables):
                if found.commit_time is not None and found.prev < found.next:
                    epoch = (found.prev, found.next, found.commit_time)
                    violations += output.commit_times.foreign(partition, *epoch)
        return violations

    def interleaved_commit_times(self) -> list[Violation]:
        return [
            violation
            for source in self.sources.values()
            for output in (*source.outputs, *source.tables)
            for violation in output.commit_times.interleaved()
        ]

    def unexplained(self, generations: dict[Stream, int]) -> list[Violation]:
        return [one for stream, generation in generations.items() for one in stream.unexplained(generation)]

    def missing(self, snapshot: Snapshot, to_prev: bool) -> list[Violation]:
        """Messages due: those below `prev` while the processor runs (Kafka may follow by one epoch), else below `next`."""
        violations: list[Violation] = []
        for topic, source in self.sources.items():
            due = {
                partition: found.prev if to_prev else found.next
                for (where, partition), found in snapshot.progress.items()
                if where == topic
            }
            for stream in source.streams():
                violations += stream.missing(due)
        return violations
