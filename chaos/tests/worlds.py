"""A pipeline, records and right outputs in memory, for tests that then spoil one thing."""

from __future__ import annotations

import json

from chaos.referee import instant, pipeline
from chaos.referee.accumulator import Column
from chaos.referee.judge import ACCEPTED, PartitionState, SourceJudge
from chaos.referee.record import Record
from chaos.referee.messages import LetterStream, Message
from chaos.referee.record_stream import RecordStream
from chaos.referee.referee import Referee
from chaos.referee.aggregate import SessionAggregate
from chaos.referee.snapshot import DeadLetterRow, Final, Progress, Snapshot

TOPIC = "events"
COMMIT_TIME = instant.parse("2026-02-01T00:00:00.000001Z")
COMMIT_TEXT = b'"2026-02-01T00:00:00.000001Z"'
FIFTY_AT = "2026-01-30T01:18:10Z"

TEXT = """
version: 1
name: sample
sources:
  activity:
    topic: { name: events }
    fields:
      event_time: timestamp!
      user_id: text!
      page_url: text!
      event_type: text!
      amount: bigint
      price: double
      seen_at: timestamp_ms
      session: uuid
      address: inet
      details: json
      active: boolean
    event_time: event_time
    watermark: { delay: 10s, max_future: 5m }
    max_record_bytes: 100000
    checks:
      - { name: url_is_path, expect: "page_url like '/%'", on_fail: dead_letter }
      - { name: amount_positive, expect: "amount > 0", on_fail: count }
bad_data: { topic: "{source}.dead-letters", table: dead_letters }
late: { allowed_lateness: 1m, topic: "{source}.late" }
aggregates:
  page_view_counts:
    from: activity
    where: event_type = 'page_view'
    window: { tumble: 1m }
    by: [page_url]
    select:
      view_count: count(*)
      large: "count(*) filter (where amount > 100)"
      total: sum(amount)
      lowest: min(amount)
      highest: max(amount)
      mean: avg(amount)
      price_sum: sum(price)
      price_mean: avg(price)
    to: { table: page_view_counts, key: [window_start, page_url] }
  shares:
    from: activity
    where: event_type = 'share'
    window: { tumble: 5m }
    by: [event_type]
    select: { rate: "sum(1000 / amount)" }
    to: { table: shares, key: [window_start, event_type] }
records:
  enriched: { from: activity, set: { processing_time: commit_time() }, to: { topic: enriched } }
"""


def event(event_time: str = FIFTY_AT, **fields: object) -> dict:
    plain = {"event_time": event_time, "user_id": "user1", "page_url": "/products", "event_type": "page_view"}
    return {**plain, **fields}


def encode(found: object) -> bytes:
    return found if isinstance(found, bytes) else json.dumps(found).encode()


class World:
    """Records of one or more partitions, judged; and the snapshot and messages that a right processor would leave."""

    def __init__(self, text: str = TEXT, partitions: int = 1) -> None:
        self.pipeline = pipeline.parse(text, {})
        self.logs: dict[int, list[Record]] = {number: [] for number in range(partitions)}

    def add(self, *values: object, partition: int = 0, key: bytes | None = None, **more: object) -> World:
        log = self.logs[partition]
        for value in values:
            encoded = None if value is None else encode(value)
            log.append(Record(len(log), more.get("timestamp"), key, encoded, more.get("headers", ())))
        return self

    def referee(self, upto: dict[int, int] | None = None) -> Referee:
        referee = Referee(self.pipeline)
        for stream in referee.streams():
            stream.set_partitions(len(self.logs))
        for number, log in self.logs.items():
            referee.begin((TOPIC, number), 0)
            end = len(log) if upto is None else upto[number]
            referee.advance((TOPIC, number), log[:end])
        return referee

    def verdicts(self, partition: int = 0) -> list[str]:
        source = SourceJudge(next(iter(self.pipeline.sources.values())), self.pipeline)
        state = source.new_partition(partition, 0)
        return [source.judge(state, record) for record in self.logs[partition]]

    def state(self, partition: int = 0) -> PartitionState:
        return self.referee().partitions[(TOPIC, partition)]

    def rows(self, name: str = "page_view_counts") -> dict[tuple, tuple]:
        return self.snapshot().tables[name]

    def snapshot(self) -> Snapshot:
        """What a right processor leaves, from the referee's own figures: tests of comparison spoil it."""
        referee = self.referee()
        snapshot = Snapshot(
            progress={place: progress_of(state) for place, state in referee.partitions.items()}
        )
        for source in referee.sources.values():
            for one in source.aggregates:
                snapshot.finality[one.name] = self.final(one, snapshot)
                snapshot.tables[one.name] = {
                    key: (
                        *one.ends(key),
                        *(finish(c, s) for c, s in zip(one.columns, states, strict=True)),
                    )
                    for key, states in one.rows.items()
                }
                if one.definition.latest:
                    rows = snapshot.tables[one.name]
                    snapshot.latest[one.name] = {
                        key[1:]: (key[0], *rows[key]) for key in one.latest().values()
                    }
        for place, state in referee.partitions.items():
            snapshot.dead_letters[place] = {
                offset: row_of(dead) for offset, dead in state.dead_letters.items()
            }
            snapshot.dead_letter_counts[place] = len(state.dead_letters)
        return snapshot

    @staticmethod
    def final(aggregate, snapshot: Snapshot) -> Final:
        """All partitions count."""
        marks = [progress.watermark for progress in snapshot.progress.values()]
        gap = aggregate.window.gap if isinstance(aggregate, SessionAggregate) else None
        lateness = aggregate.definition.allowed_lateness
        return Final(None if None in marks or not marks else min(marks) - lateness, gap)

    def enriched(self) -> list[Message]:
        """The right content of the enriched topic, built from the values and not by the referee's splicing."""
        messages: list[Message] = []
        for number, log in self.logs.items():
            for record, verdict in zip(log, self.verdicts(number), strict=True):
                if verdict == ACCEPTED:
                    value = record.value[:-1] + b',"processing_time":' + COMMIT_TEXT + b"}"
                    messages.append(Message(number, len(messages), None, record.key, value, ()))
        return messages


def finish(column: Column, state: object) -> object:
    return column.finish(state)


def progress_of(state: PartitionState) -> Progress:
    watermark = None if state.max_event_time is None else state.max_event_time - 10 * instant.SECOND
    return Progress(
        True,
        0,
        0,
        state.next,
        COMMIT_TIME,
        watermark,
        state.max_event_time,
        state.read,
        state.accepted,
        state.duplicate,
        state.dead,
        dict(state.dead_by_reason),
        dict(state.failed_checks),
        {name: dict(counts) for name, counts in state.aggregates.items()},
    )


def row_of(dead) -> DeadLetterRow:
    record = dead.record
    length = None if record.value is None else len(record.value)
    headers = [{"key": name, "value": value.decode()} for name, value in record.headers]
    timestamp = None if record.timestamp is None else record.timestamp * 1_000
    return DeadLetterRow(dead.reason, record.key, dead.kept_value, length, headers, timestamp)


def letter(
    stream: LetterStream, offset: int, own: dict[str, str], record: Record, partition: int = 0
) -> Message:
    origin = {"source_topic": TOPIC, "source_partition": str(partition), "source_offset": str(record.offset)}
    added = [(name, text.encode()) for name, text in {**own, **origin}.items()]
    return Message(partition, offset, None, record.key, record.value, (*record.headers, *added))


def enriched_stream(referee: Referee) -> RecordStream:
    return referee.sources[TOPIC].outputs[0]
