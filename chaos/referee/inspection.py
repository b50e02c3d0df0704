"""The referee at work on real servers: brings log, database and judge to one point, again and again.

Owns: the order of reading, which makes every comparison exact. Never: starts over; each inspection reads on.
Order: outputs are drained before the snapshot (all they hold must then be explained by it), and again after it (all that
was due at it must be there).
Data: servers -> `Referee` -> `Report`. Tested: `tests/test_servers.py`.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from .database import Database
from .hop import HopJudge
from .log import (
    REQUEST_SECONDS,
    InputReader,
    LogTimeout,
    OutputReader,
    end_offsets,
    partition_count,
    patiently,
)
from .messages import Stream
from .pipeline import Pipeline
from .referee import Referee
from .snapshot import Place, Snapshot
from .violation import Violation

READ_SECONDS = 60.0
# Records that have waited for so long are not just on their way, and whoever reads them is not believed to be alive.
WAITED_SECONDS = 60.0
COVERAGE_SECONDS = 60.0


@dataclass
class Report:
    """`counts` are sums over partitions of what was judged."""

    violations: list[Violation]
    counts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    at_end: bool = False

    @property
    def green(self) -> bool:
        return not self.violations

    @property
    def words(self) -> list[str]:
        return sorted({violation.word for violation in self.violations})


class Inspection:
    def __init__(self, pipeline: Pipeline, coverage_seconds: float = COVERAGE_SECONDS) -> None:
        self.pipeline, self.coverage_seconds = pipeline, coverage_seconds
        self.referee = Referee(pipeline)
        kafka = {name: str(value) for name, value in pipeline.kafka.items()}
        self.admin = AdminClient({**kafka, "log_level": 2})
        self.inputs = {topic: InputReader(kafka, topic) for topic in self.referee.inputs}
        self.outputs: dict[Stream, OutputReader] = {
            stream: OutputReader(kafka, self.admin, stream.topic, stream.observe)
            for stream in self.referee.streams()
        }
        self.ends: dict[str, dict[int, int]] = {topic: {} for topic in self.inputs}
        self.seen_ends: deque[tuple[float, Place, int]] = deque()
        self.waited_for: dict[Place, int] = {}
        self.database = Database(pipeline, list(self.referee.sources.values()))

    def close(self) -> None:
        for reader in self.inputs.values():
            reader.reader.close()
        for reader in self.outputs.values():
            if reader.reader:
                reader.reader.close()

    def while_running(self) -> Report:
        """The snapshot is an exact prefix; outputs hold nothing beyond it, and all that was due."""
        self.set_complete(False)
        self.drain_outputs(in_time())
        generations = {stream: stream.close_generation() for stream in self.outputs}
        snapshot = self.database.snapshot(dict(self.referee.verified))
        violations = self.judge_to(snapshot)
        if violations:
            return self.report(violations)
        violations = self.referee.compare_snapshot(snapshot)
        if not violations:
            violations = self.final_rows(snapshot)
        violations += self.referee.unexplained(generations)
        violations += self.await_coverage(snapshot, to_prev=True)
        violations += self.referee.commit_times(snapshot)
        return self.report(violations)

    def at_end(self) -> Report:
        """Everything, and nothing missing: for a processor that has stopped, or has nothing left to read."""
        snapshot = self.database.snapshot({})
        violations = self.judge_to(snapshot)
        if violations:
            return self.report(violations, at_end=True)
        violations = self.referee.compare_snapshot(snapshot)
        if not violations:
            violations = self.final_rows(snapshot)
        violations += self.stuck(snapshot)
        violations += self.referee.not_copied(snapshot)
        self.set_complete(True)
        violations += self.await_coverage(snapshot, to_prev=False)
        generations = {stream: stream.close_generation() for stream in self.outputs}
        violations += self.referee.unexplained(generations)
        violations += self.referee.commit_times(snapshot)
        violations += self.referee.interleaved_commit_times()
        violations += self.group_offsets(snapshot)
        return self.report(violations, at_end=True)

    # -- steps -------------------------------------------------------------------------------------------------------

    def set_complete(self, complete: bool) -> None:
        """Whether nothing is still to be judged that could explain a message."""
        for stream in self.outputs:
            stream.complete = complete

    def drain_outputs(self, deadline: float) -> None:
        for stream, reader in self.outputs.items():
            reader.drain(deadline)
            if reader.partitions:
                stream.set_partitions(reader.partitions)

    def judge_to(self, snapshot: Snapshot) -> list[Violation]:
        """Judges every partition exactly to the snapshot's `next`. Violations mean that nothing can be compared."""
        self.learn_partition_counts()
        violations = self.referee.regressions(snapshot)
        if violations:
            return violations
        for topic in self.referee.inputs:
            reader, targets = self.inputs[topic], {}
            for (where, partition), found in snapshot.progress.items():
                if where == topic:
                    self.referee.begin((topic, partition), found.start_offset)
                    reader.begin(partition, found.start_offset)
                    targets[partition] = found.next
            ends = end_offsets(self.admin, topic, partition_count(self.admin, topic)) if targets else {}
            self.ends[topic] = ends
            for partition, target in targets.items():
                if target > ends[partition]:
                    detail = f"next {target} is beyond the log's end {ends[partition]}"
                    return [Violation("phantom", f"progress of {topic}/{partition}", detail)]
            reader.read_to(targets, in_time())
            for partition, target in targets.items():
                self.referee.advance((topic, partition), reader.records_before(partition, target))
        return []

    def learn_partition_counts(self) -> None:
        """A topic that does not exist yet will be made with its source's partition count."""
        for topic in self.referee.sources:
            self.learn_hop(topic)
            for stream in self.referee.streams(topic):
                reader = self.outputs[stream]
                if not reader.partitions:
                    count = partition_count(self.admin, stream.topic) or partition_count(self.admin, topic)
                    if count:
                        stream.set_partitions(count)

    def learn_hop(self, topic: str) -> None:
        """The internal topic is made, once and for all, before anything is copied to it."""
        source = self.referee.sources[topic]
        if isinstance(source, HopJudge):
            count = partition_count(self.admin, source.internal_topic)
            if count:
                source.set_partitions(count)

    def await_coverage(self, snapshot: Snapshot, to_prev: bool) -> list[Violation]:
        """Transaction markers reach the partitions a little after a commit: wait for what is due, within a bound."""
        deadline = time.monotonic() + self.coverage_seconds
        while True:
            self.drain_outputs(in_time())
            for stream in self.outputs:
                stream.retry_pending()
            missing = self.referee.missing(snapshot, to_prev)
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(0.05)

    def final_rows(self, snapshot: Snapshot) -> list[Violation]:
        """Where rows are what they must be: one that is wrong has changed, but that is not what is wrong with it."""
        counts = {topic: len(ends) for topic, ends in self.ends.items()}
        return self.referee.final_rows(snapshot, counts, self.behind(snapshot))

    def behind(self, snapshot: Snapshot) -> set[Place]:
        """Partitions in which a record was seen long before this snapshot, and is not done. A record's own time would not do: it
        may have been on its way to the broker."""
        now, found = time.monotonic(), set()
        while self.seen_ends and now - self.seen_ends[0][0] >= WAITED_SECONDS:
            _, place, end = self.seen_ends.popleft()
            self.waited_for[place] = end
        for topic, ends in self.ends.items():
            self.seen_ends.extend((now, (topic, partition), end) for partition, end in ends.items())
        for (topic, partition), end in self.waited_for.items():
            progress = snapshot.progress.get((topic, partition))
            if progress is not None and progress.next < end:
                reader = self.inputs[topic]
                reader.read_to({partition: end}, in_time())
                if reader.waits_before(partition, end):
                    found.add((topic, partition))
        return found

    def stuck(self, snapshot: Snapshot) -> list[Violation]:
        violations = []
        for topic, reader in self.inputs.items():
            ends = end_offsets(self.admin, topic, partition_count(self.admin, topic))
            for partition, end in ends.items():
                place: Place = (topic, partition)
                found = snapshot.progress.get(place)
                if found is None:
                    if end:
                        violations.append(Violation("stuck", f"{topic}/{partition}", "no progress row"))
                    continue
                reader.read_to({partition: end}, in_time())
                if self.waits(topic, partition):
                    detail = f"next is {found.next}, {reader.waiting(partition)} records follow"
                    violations.append(Violation("stuck", f"progress of {topic}/{partition}", detail))
        return violations

    def waits(self, topic: str, partition: int) -> bool:
        """Ticks of an internal topic may come at any time, and say nothing that must be done."""
        waiting = self.inputs[topic].buffers[partition]
        return (
            any(record.key is not None for record in waiting) if topic in self.referee.hops else bool(waiting)
        )

    def group_offsets(self, snapshot: Snapshot) -> list[Violation]:
        """At rest the stable offset of the group is the progress row's, where there are outputs to Kafka."""
        places = [place for place in snapshot.progress if self.referee.streams(place[0])]
        request = ConsumerGroupTopicPartitions(
            self.pipeline.name, [TopicPartition(*place) for place in places]
        )

        def ask() -> list[TopicPartition]:
            futures = self.admin.list_consumer_group_offsets(
                [request], require_stable=True, request_timeout=REQUEST_SECONDS
            )
            answers = futures[self.pipeline.name].result().topic_partitions
            for found in answers:
                # Why: one is not stable until the marker of its transaction is there, which the commit did not wait for.
                if found.error:
                    raise KafkaException(found.error)
            return answers

        violations = []
        for found in patiently(ask):
            due = snapshot.progress[(found.topic, found.partition)].next
            if found.offset != due:
                where = f"group offset of {found.topic}/{found.partition}"
                violations.append(Violation("torn", where, f"is {found.offset}, progress row says {due}"))
        return violations

    def report(self, violations: list[Violation], at_end: bool = False) -> Report:
        states = self.referee.partitions.values()
        names = ("read", "accepted", "duplicate", "dead")
        counts = {name: sum(getattr(state, name) for state in states) for name in names}
        counts["read"] -= sum(state.read for state in states if state.topic in self.referee.hops)
        aggregates = [one for source in self.referee.sources.values() for one in source.aggregates]
        for aggregate in aggregates:
            for name in ("matched", "counted", "too_late", "partly_late"):
                found = (state.aggregates.get(aggregate.name, {}) for state in states)
                counts[f"{aggregate.name} {name}"] = sum(one.get(name, 0) for one in found)
        rows = {aggregate.definition.table: len(aggregate.rows) for aggregate in aggregates}
        rows |= {
            table.table: table.due() for source in self.referee.sources.values() for table in source.tables
        }
        messages = {stream.topic: stream.observed for stream in self.outputs}
        return Report(violations, counts, rows, messages, at_end)


def in_time() -> float:
    """A deadline of one reading, which does not count what was judged before it."""
    return time.monotonic() + READ_SECONDS


def judge_once(pipeline: Pipeline, at_end: bool) -> Report:
    inspection = Inspection(pipeline)
    try:
        return inspection.at_end() if at_end else inspection.while_running()
    finally:
        inspection.close()


__all__ = ["Inspection", "LogTimeout", "Report", "judge_once"]
