"""The whole of a pipeline's judgement, without a server: records in, snapshots and messages compared.

Owns: the state of every partition and the sequence of a comparison. Never: reads a server; goes back.
Data: `begin` and `advance` bring partitions to a snapshot's offsets; `compare_snapshot`, `unexplained`, `missing` answer
with violations. Tested: `tests/test_referee.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import compare
from .finality import FinalityJudge, Standing
from .hop import HopJudge
from .judge import PartitionState, SourceJudge
from .messages import LetterStream, Stream
from .pipeline import Pipeline, Source
from .record import Record
from .record_stream import RecordStream
from .snapshot import Place, Snapshot
from .violation import Violation


class Referee:
    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.sources = {source.topic: judge_of(source, pipeline) for source in pipeline.sources.values()}
        hops = [source for source in self.sources.values() if isinstance(source, HopJudge)]
        self.hops = {hop.internal_topic: hop for hop in hops}
        self.partitions: dict[Place, PartitionState] = {}
        self.verified: dict[Place, int] = {}
        self.finality = {
            topic: [
                FinalityJudge(aggregate, source.source.idle_after, exact=source not in hops)
                for aggregate in source.aggregates
            ]
            for topic, source in self.sources.items()
        }

    @property
    def inputs(self) -> list[str]:
        """In the order in which they must be judged: a source before its internal topic."""
        return [*self.sources, *self.hops]

    def streams(self, topic: str | None = None) -> list[RecordStream | LetterStream]:
        """All, or those of the source that reads this topic."""
        sources = self.sources.values() if topic is None else [self.source_of(topic)]
        return [stream for source in sources for stream in source.streams()]

    def source_of(self, topic: str) -> SourceJudge:
        return self.hops[topic] if topic in self.hops else self.sources[topic]

    def begin(self, place: Place, start_offset: int) -> PartitionState:
        """The state of a partition; at its first mention nothing before `start_offset` is ever judged."""
        if place not in self.partitions:
            hop = self.hops.get(place[0])
            make = hop.new_internal_partition if hop else self.sources[place[0]].new_partition
            self.partitions[place] = make(place[1], start_offset)
        return self.partitions[place]

    def advance(self, place: Place, records: Iterable[Record]) -> None:
        """Order: all that was copied to an internal topic is judged at its source first."""
        hop, state = self.hops.get(place[0]), self.partitions[place]
        judge = hop.judge_copy if hop else self.sources[place[0]].judge
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
            state, source = self.partitions[place], self.source_of(place[0])
            if isinstance(source, HopJudge):
                violations += compare.hop_counts(state, found, place[0] in self.hops, source.source.delay)
            else:
                violations += compare.progress_counts(state, found, source.source.delay)
            violations += compare.dead_letter_rows(state, snapshot)
        for hop in self.hops.values():
            violations += hop.violations
            hop.violations = []
            violations += hop.not_copied(limits(snapshot, hop.source.topic, to_prev=True), every=False)
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

    def final_rows(self, snapshot: Snapshot, counts: dict[str, int], behind: set[Place]) -> list[Violation]:
        """`counts` are the partitions of each topic, `behind` those in which records have been waiting for long."""
        if not snapshot.progress:
            return []
        violations: list[Violation] = []
        for topic, judges in self.finality.items():
            places = [(topic, number) for number in range(counts.get(topic, 0))]
            standings = [self.standing(place, place in behind) for place in places]
            violations += [one for judge in judges for one in judge.check(snapshot, standings)]
        return violations

    def standing(self, place: Place, behind: bool) -> Standing:
        """Call with the partition judged exactly to the snapshot's `next`."""
        state = self.partitions.get(place)
        if state is None:
            return Standing(place, 0, None, None, behind, taken=False)
        delay, last = self.sources[place[0]].source.delay, state.last_timestamp
        watermark = None if state.max_event_time is None else state.max_event_time - delay
        source = self.sources[place[0]]
        if isinstance(source, HopJudge) and (source.pauses[place[1]] or source.began_late(place[1])):
            last = None
        return Standing(place, state.next, watermark, None if last is None else last * 1_000, behind)

    def commit_times(self, snapshot: Snapshot) -> list[Violation]:
        violations: list[Violation] = []
        for (topic, partition), found in snapshot.progress.items():
            source = self.source_of(topic)
            for output in (*source.outputs, *source.tables) if topic == source.output_topic else ():
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
            due = limits(snapshot, source.output_topic, to_prev)
            at_source = limits(snapshot, topic, to_prev)
            for stream in source.streams():
                violations += stream.missing(at_source if stream is source.dead_stream else due)
        return violations

    def not_copied(self, snapshot: Snapshot) -> list[Violation]:
        """Records that have no copy though everything was read, and counts that do not add up then. Call at the end."""
        found: list[Violation] = []
        for topic, hop in self.hops.items():
            rows = [row for place, row in snapshot.progress.items() if place[0] in (topic, hop.source.topic)]
            found += compare.conserved(rows, hop.source.topic)
            found += hop.not_copied(limits(snapshot, hop.source.topic, to_prev=False), every=True)
        return found


def judge_of(source: Source, pipeline: Pipeline) -> SourceJudge:
    return HopJudge(source, pipeline) if source.repartition_by else SourceJudge(source, pipeline)


def limits(snapshot: Snapshot, topic: str, to_prev: bool) -> dict[int, int]:
    """By partition, the offset before which all is done: also in Kafka, with `to_prev`."""
    return {
        partition: found.prev if to_prev else found.next
        for (where, partition), found in snapshot.progress.items()
        if where == topic
    }
