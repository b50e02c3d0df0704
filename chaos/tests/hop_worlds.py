"""A repartitioned source in memory: its partitions' records, a router that copies them, and what is judged of both."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace

from chaos.referee import pipeline
from chaos.referee.hop import HopJudge
from chaos.referee.record import Record
from chaos.referee.partitioner import Partitioner
from chaos.referee.referee import Referee
from chaos.referee.snapshot import Progress, Snapshot

from .session_worlds import SESSIONS
from .worlds import COMMIT_TIME, TOPIC, encode

ENRICHED = "records:\n  enriched: { from: activity, set: { at: commit_time() }, to: { topic: enriched } }\n"
HOP = SESSIONS.replace("keyed_by", "repartition_by") + ENRICHED
INTERNAL = "sample.activity.by-user_id"
TICK = (None, b"\x01tick")


class HopWorld:
    """`logs` by source partition; `copies` are (key, value) by internal partition. `at` is the position in a log."""

    def __init__(self, text: str = HOP, partitions: int = 2, internal: int = 1) -> None:
        self.pipeline = pipeline.parse(text, {})
        self.logs: dict[int, list[Record]] = {number: [] for number in range(partitions)}
        self.copies: dict[int, list[tuple[bytes | None, bytes]]] = {number: [] for number in range(internal)}
        self.partitioner = Partitioner(internal)

    def add(self, *events: object, partition: int = 0, **more: object) -> HopWorld:
        for event in events:
            log, value = self.logs[partition], None if event is None else encode(event)
            log.append(Record(len(log), more.get("timestamp"), more.get("key"), value))
        return self

    def route(self, *places: tuple[int, int]) -> HopWorld:
        """Copies these records, (source partition, offset) each, in this order."""
        for partition, offset in places:
            record = self.logs[partition][offset]
            key = self.key(record)
            value = prefix(partition, offset) + record.value
            self.copies[self.partitioner.partition(key, 0)].append((key, value))
        return self

    def route_all(self, chance: random.Random | None = None) -> HopWorld:
        """Everything that is not dead, one partition after the other, or mixed."""
        left = [[(number, offset) for offset in self.routed(number)] for number in self.logs]
        left = [one for one in left if one]
        while left:
            lane = chance.choice(left) if chance else left[0]
            self.route(lane.pop(0))
            if chance and chance.random() < 0.1:
                self.copies[0].append(TICK)
            left = [one for one in left if one]
        return self

    def routed(self, partition: int) -> list[int]:
        referee = self.referee(copied=False)
        dead = referee.partitions[(TOPIC, partition)].dead_letters
        return [record.offset for record in self.logs[partition] if record.offset not in dead]

    def key(self, record: Record) -> bytes:
        return json.loads(record.value)["user_id"].encode()

    def internal_log(self, partition: int) -> list[Record]:
        """Every second offset is a control record."""
        return [Record(2 * at, None, key, value) for at, (key, value) in enumerate(self.copies[partition])]

    def referee(self, copied: bool = True) -> Referee:
        referee = Referee(self.pipeline)
        (hop,) = referee.sources.values()
        hop.set_partitions(len(self.copies))
        for stream in referee.streams():
            stream.set_partitions(2)
        for number, log in self.logs.items():
            referee.begin((TOPIC, number), 0)
            referee.advance((TOPIC, number), log)
        for number in self.copies if copied else ():
            referee.begin((INTERNAL, number), 0)
            referee.advance((INTERNAL, number), self.internal_log(number))
        return referee

    def hop(self) -> HopJudge:
        (found,) = self.referee().sources.values()
        return found

    def found(self) -> list[str]:
        """The words for the copies alone, at the end."""
        referee = self.referee()
        (hop,) = referee.sources.values()
        ends = {number: len(log) for number, log in self.logs.items()}
        return [one.word for one in (*hop.violations, *hop.not_copied(ends, every=True))]

    def snapshot(self) -> Snapshot:
        """Of a processor that counts a record as read where it is decided."""
        referee = self.referee()
        snapshot = Snapshot({place: progress_of(state) for place, state in referee.partitions.items()})
        for source in referee.sources.values():
            for one in source.aggregates:
                snapshot.tables[one.name] = {
                    key: (*one.ends(key), *(c.finish(s) for c, s in zip(one.columns, states, strict=True)))
                    for key, states in one.rows.items()
                }
                rows = snapshot.tables[one.name]
                snapshot.latest[one.name] = {key[1:]: (key[0], *rows[key]) for key in one.latest().values()}
        for place, state in referee.partitions.items():
            snapshot.dead_letter_counts[place] = len(state.dead_letters)
            snapshot.dead_letters_from[place] = state.next
        return snapshot

    def words(self, snapshot: Snapshot) -> set[str]:
        referee = self.referee()
        found = referee.compare_snapshot(snapshot) + referee.not_copied(snapshot)
        return {one.word for one in found}


def prefix(partition: int, offset: int) -> bytes:
    return b"\x01" + struct.pack(">iq", partition, offset) + b"\x00\x00"


def progress_of(state) -> Progress:
    decided = state.accepted + state.duplicate + state.dead
    return Progress(
        True,
        0,
        state.next,
        state.next,
        COMMIT_TIME,
        None,
        state.max_event_time,
        decided,
        state.accepted,
        state.duplicate,
        state.dead,
        dict(state.dead_by_reason),
        dict(state.failed_checks),
        {name: dict(counts) for name, counts in state.aggregates.items()},
    )


def changed(snapshot: Snapshot, place: tuple[str, int], **values: object) -> Snapshot:
    snapshot.progress[place] = replace(snapshot.progress[place], **values)
    return snapshot
