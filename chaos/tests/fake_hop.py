"""The stand-in for the processor where the source is repartitioned: a router that copies, and one pass behind it.

Owns: the copies, in an order of its own, with ticks between them and an aborted transaction before. As `fake_processor` it takes
verdicts from the judge.
"""

from __future__ import annotations

import random

import psycopg
from confluent_kafka import Producer, TopicPartition

from chaos.referee.judge import ACCEPTED
from chaos.referee.log import InputReader, end_offsets
from chaos.referee.partitioner import Partitioner
from chaos.referee.referee import Referee

from .fake_processor import FakeProcessor, wait_for_markers
from .hop_worlds import TICK, prefix

INTERNAL_PARTITIONS = 3


class FakeHopProcessor(FakeProcessor):
    def read(self, spoil=list) -> None:
        """`spoil` changes the copies: (partition, key, value, source partition, record)."""
        super().read()
        self.internal = self.source.internal_topic
        self.arena.servers.create_topic(self.internal, INTERNAL_PARTITIONS)
        self.offsets = {
            (self.topic, number): log[-1].offset + 1 for number, log in self.records.items() if log
        }
        self.copies = spoil(self.mixed())
        self.route()
        self.read_internal()

    def mixed(self) -> list[tuple]:
        """All that is not dead, the partitions mixed, each in its order."""
        partitioner, chance = Partitioner(INTERNAL_PARTITIONS), random.Random(1)
        lanes = [[(number, one) for one in self.routed(number)] for number in self.records]
        found = []
        while lanes := [lane for lane in lanes if lane]:
            number, record = chance.choice(lanes).pop(0)
            key = self.key_of(record)
            value = prefix(number, record.offset) + record.value
            found.append((partitioner.partition(key, 0), key, value, number, record))
        return found

    def routed(self, partition: int) -> list:
        dead = self.referee.partitions[(self.topic, partition)].dead_letters
        return [one for one in self.records[partition] if one.offset not in dead]

    def key_of(self, record) -> bytes:
        row, _ = self.source.examine(record)
        return self.source.text_of(row[self.source.index]).encode()

    def route(self) -> None:
        settings = {
            "bootstrap.servers": self.arena.servers.bootstrap,
            "transactional.id": f"{self.arena.run}-r",
        }
        producer = Producer(settings)
        producer.init_transactions()
        for copies, commit in ((self.copies[:50], False), (self.copies, True)):
            producer.begin_transaction()
            for number in range(INTERNAL_PARTITIONS):
                producer.produce(self.internal, key=TICK[0], value=TICK[1], partition=number)
            for at, (partition, key, value, _, record) in enumerate(copies):
                if at % 40 == 0:
                    producer.produce(self.internal, key=TICK[0], value=TICK[1], partition=partition)
                producer.produce(
                    self.internal, key=key, value=value, partition=partition, headers=list(record.headers)
                )
                producer.poll(0)
            producer.flush()
            producer.commit_transaction() if commit else producer.abort_transaction()
        wait_for_markers(self.arena.servers.admin, self.internal, INTERNAL_PARTITIONS)

    def read_internal(self) -> None:
        again = self.referee_of_hop()
        reader = InputReader({"bootstrap.servers": self.arena.servers.bootstrap}, self.internal)
        ends = end_offsets(self.arena.servers.admin, self.internal, INTERNAL_PARTITIONS)
        for number in ends:
            reader.begin(number, 0)
        reader.read_to(ends, float("inf"))
        self.settled = []
        for number, end in ends.items():
            state = again.begin((self.internal, number), 0)
            own = iter([copy for copy in self.copies if copy[0] == number])
            for record in list(reader.records_before(number, end)):
                verdict = self.source.judge_copy(state, record)
                if record.key is not None:
                    self.settled.append((number, *next(own)[3:], verdict))
            self.offsets[(self.internal, number)] = state.next
        reader.reader.close()

    def referee_of_hop(self):
        """Judged anew, now that the internal topic's partitions are known."""
        self.referee = Referee(self.plan)
        (self.source,) = self.referee.sources.values()
        self.source.set_partitions(INTERNAL_PARTITIONS)
        for stream in self.referee.streams():
            stream.set_partitions(self.arena.partitions)
        for number, records in self.records.items():
            self.referee.begin((self.topic, number), 0)
            self.referee.advance((self.topic, number), records)
        return self.referee

    def messages(self) -> list[tuple]:
        partitioner, late, made = Partitioner(self.arena.partitions), self.source.late_stream.expected, []
        for partition, records in self.records.items():
            dead = self.referee.partitions[(self.topic, partition)].dead_letters
            for record in records:
                if record.offset in dead:
                    stream, target = self.source.dead_stream, partitioner.partition(record.key, partition)
                    own = stream.expected[(partition, record.offset, None)].own
                    made.append(
                        self.letter(stream.topic, target, record, dead[record.offset].kept_value, own)
                    )
        for number, partition, record, verdict in self.settled:
            target = partitioner.partition(record.key, number)
            if verdict == ACCEPTED:
                value = record.value[:-1] + b',"processing_time":"2026-02-01T00:00:00.000001Z"}'
                made.append((self.source.outputs[0].topic, target, record.key, value, []))
            for aggregate in self.source.aggregates:
                place = (partition, record.offset, aggregate.name)
                if place in late:
                    topic, own = self.source.late_stream.topic, late[place].own
                    made.append(self.letter(topic, target, record, record.value, own))
        return made

    def committed_offsets(self) -> list[TopicPartition]:
        return [TopicPartition(*place, offset) for place, offset in self.offsets.items()]

    def write_progress(self, connection: psycopg.Connection, topic: str, partition: int, state) -> None:
        """A record counts as read where it is decided."""
        state.read = state.accepted + state.duplicate + state.dead
        super().write_progress(connection, topic, partition, state)
