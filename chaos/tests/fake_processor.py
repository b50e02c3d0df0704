"""A stand-in for the processor on real servers: reads the whole log once and writes the right outputs, or spoiled ones.

Owns: one pass without any recovery. It builds messages from the log and takes verdicts from the judge, so it tests how the
referee reads and compares, not the verdicts.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import psycopg
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql

from chaos.arena import Arena
from chaos.patience import Patience
from chaos.referee import instant
from chaos.referee.expression.values import date_text
from chaos.referee.judge import ACCEPTED
from chaos.referee.log import InputReader, end_offsets
from chaos.referee.partitioner import Partitioner
from chaos.referee.pipeline import Sessions
from chaos.referee.referee import Referee

MARKER_SECONDS = 60.0
COMMIT_TIME = instant.parse("2026-02-01T00:00:00.000001Z")
SCHEMA = """
CREATE SCHEMA millstream;
CREATE TABLE millstream.progress (application text, topic text, partition int, bootstrapped bool, start_offset bigint,
  prev bigint, next bigint, commit_time timestamptz, watermark timestamptz, max_event_time timestamptz,
  read bigint, accepted bigint, duplicate bigint, dead bigint, dead_by_reason jsonb, checks jsonb, aggregates jsonb,
  PRIMARY KEY (application, topic, partition));
CREATE TABLE millstream.finality (application text, aggregate text, final_through timestamptz, session_gap interval);
CREATE TABLE millstream.dead_letters (application text, topic text, partition int, "offset" bigint, reason text,
  detail text, key bytea, value bytea, value_bytes bigint, headers jsonb, record_timestamp timestamptz,
  commit_time timestamptz, PRIMARY KEY (application, topic, partition, "offset"));
"""


TYPES = {
    "bigint": "bigint",
    "double": "double precision",
    "text": "text",
    "boolean": "boolean",
    "timestamp": "timestamptz",
    "timestamp_ms": "timestamptz",
    "commit_time": "timestamptz",
    "date": "date",
    "uuid": "uuid",
    "inet": "inet",
    "json": "jsonb",
}


def column_type(text: str, fields: dict[str, str]) -> str:
    """The column's type for a `select` of one function, of a field or of an expression of bigints."""
    function, argument = re.match(r"(\w+)\((?:distinct )?(.*?)(?:, [\d.]+)?\)", text).groups()
    of_argument = fields.get(argument, "bigint")
    if function in ("count", "approx_distinct", "late_rows"):
        return "bigint"
    if function in ("avg", "approx_percentile") or function == "sum" and of_argument == "double":
        return "double precision"
    return "numeric" if function == "sum" else TYPES[of_argument]


class FakeProcessor:
    def __init__(self, arena: Arena) -> None:
        self.arena, self.plan = arena, arena.plan
        self.referee = Referee(arena.plan)
        (self.source,) = self.referee.sources.values()
        self.topic = self.source.source.topic
        self.records: dict[int, list] = {}
        self.verdicts: dict[int, list[str]] = {}

    def read(self) -> None:
        kafka = {"bootstrap.servers": self.arena.servers.bootstrap}
        reader = InputReader(kafka, self.topic)
        ends = end_offsets(self.arena.servers.admin, self.topic, self.arena.partitions)
        for partition in ends:
            reader.begin(partition, 0)
        reader.read_to(ends, float("inf"))
        for partition, end in ends.items():
            self.referee.begin((self.topic, partition), 0)
            self.records[partition] = list(reader.records_before(partition, end))
            state = self.referee.partitions[(self.topic, partition)]
            self.verdicts[partition] = [self.source.judge(state, one) for one in self.records[partition]]
        reader.reader.close()

    # -- Kafka -------------------------------------------------------------------------------------------------------

    def messages(self) -> list[tuple]:
        """(topic, partition, key, value, headers) of everything due, in order."""
        partitioner, made = Partitioner(self.arena.partitions), []
        late = self.source.late_stream.expected
        for partition, records in self.records.items():
            dead = self.referee.partitions[(self.topic, partition)].dead_letters
            for record, verdict in zip(records, self.verdicts[partition], strict=True):
                target = partitioner.partition(record.key, partition)
                letter = dead.get(record.offset)
                if verdict == ACCEPTED:
                    value = record.value[:-1] + b',"processing_time":"2026-02-01T00:00:00.000001Z"}'
                    made.append((self.source.outputs[0].topic, target, record.key, value, []))
                elif letter:
                    own = self.source.dead_stream.expected[(partition, record.offset, None)].own
                    made.append(
                        self.letter(self.source.dead_stream.topic, target, record, letter.kept_value, own)
                    )
                for aggregate in self.source.aggregates:
                    place = (partition, record.offset, aggregate.name)
                    if place in late:
                        topic, own = self.source.late_stream.topic, late[place].own
                        made.append(self.letter(topic, target, record, record.value, own))
        return made

    @staticmethod
    def letter(topic: str, target: int, record, value: bytes | None, own: dict[str, str]) -> tuple:
        added = [(name, text.encode()) for name, text in {**own, "detail": "some"}.items()]
        added = added if "reason" in own else [pair for pair in added if pair[0] != "detail"]
        return (topic, target, record.key, value, [*record.headers, *added])

    def write_kafka(self, spoil: Callable[[list], list] = list) -> None:
        for topic in {stream.topic for stream in self.referee.streams()}:
            self.arena.servers.create_topic(topic, self.arena.partitions)
        producer = Producer(
            {"bootstrap.servers": self.arena.servers.bootstrap, "transactional.id": self.arena.run}
        )
        producer.init_transactions()
        messages = spoil(self.messages())
        self.transaction(producer, messages[:100], commit=False)
        self.transaction(producer, messages, commit=True)
        for stream in self.referee.streams():
            wait_for_markers(self.arena.servers.admin, stream.topic, self.arena.partitions)

    def transaction(self, producer: Producer, messages: list[tuple], commit: bool) -> None:
        producer.begin_transaction()
        for topic, partition, key, value, headers in messages:
            producer.produce(topic, value=value, key=key, partition=partition, headers=headers)
            producer.poll(0)
        if not commit:
            producer.flush()
            producer.abort_transaction()
            return
        producer.send_offsets_to_transaction(self.committed_offsets(), group_metadata(self.arena))
        producer.commit_transaction()

    def committed_offsets(self) -> list[TopicPartition]:
        return [
            TopicPartition(self.topic, partition, records[-1].offset + 1)
            for partition, records in self.records.items()
            if records
        ]

    # -- PostgreSQL --------------------------------------------------------------------------------------------------

    def write_postgres(self) -> None:
        with psycopg.connect(self.arena.environment["DATABASE_URL"]) as connection:
            connection.execute(SCHEMA)
            for aggregate in self.source.aggregates:
                self.make_table(connection, aggregate.definition)
                self.write_rows(connection, aggregate)
                self.write_finality(connection, aggregate)
            for table in self.source.tables:
                self.write_records(connection, table)
            for (topic, partition), state in self.referee.partitions.items():
                self.write_progress(connection, topic, partition, state)
                for offset, letter in state.dead_letters.items():
                    self.write_dead_letter(connection, partition, offset, letter)

    def make_table(self, connection: psycopg.Connection, definition) -> None:
        fields = {one.name: one.type for one in self.source.source.fields}
        if isinstance(definition.window, Sessions):
            columns = {"session_start_time": "timestamptz", "session_end_time": "timestamptz"}
            columns["session_duration_seconds"] = "bigint"
        else:
            columns = {"window_start": "timestamptz", "window_end": "timestamptz"}
        columns |= {name: "text" for name, _ in definition.by}
        columns |= {name: column_type(text, fields) for name, text in definition.select}
        listed = ", ".join(f"{name} {type_name}" for name, type_name in columns.items())
        connection.execute(
            f"CREATE TABLE {definition.table} ({listed}, PRIMARY KEY ({', '.join(definition.key)}))"
        )
        if definition.latest:
            by = ", ".join(definition.latest)
            newest = (
                f"SELECT DISTINCT ON ({by}) * FROM {definition.table} ORDER BY {by}, session_start_time DESC"
            )
            connection.execute(f"CREATE VIEW {definition.latest_view} AS {newest}")

    def write_rows(self, connection: psycopg.Connection, aggregate) -> None:
        names = [
            aggregate.time_column,
            *(name for name, _ in aggregate.definition.by),
            *aggregate.end_columns,
        ]
        names += [name for name, _ in aggregate.definition.select]
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(aggregate.definition.table),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        )
        rows = []
        for key, states in aggregate.rows.items():
            cells = [column.finish(state) for column, state in zip(aggregate.columns, states, strict=True)]
            if "last_seen" in names and cells[-1] is not None:
                cells[-1] = instant.to_datetime(cells[-1])
            end, *duration = aggregate.ends(key)
            rows.append([instant.to_datetime(key[0]), *key[1:], instant.to_datetime(end), *duration, *cells])
        connection.cursor().executemany(query, rows)

    def write_records(self, connection: psycopg.Connection, table) -> None:
        """In the order of partitions, with what the file sets; PostgreSQL itself keeps the first row of a key."""
        types = {field.name: field.type for field in self.source.source.fields}
        types |= {name: typed.type for name, typed in table.added.items()}
        listed = ", ".join(f"{name} {TYPES[types[name]]}" for name in table.columns)
        key = [table.columns[at] for at in table.key_places]
        primary = f", PRIMARY KEY ({', '.join(key)})" if key else ""
        connection.execute(f"CREATE TABLE {table.table} ({listed}{primary})")
        rows = []
        for partition, records in self.records.items():
            for record, verdict in zip(records, self.verdicts[partition], strict=True):
                if verdict == ACCEPTED:
                    row, _ = self.source.examine(record)
                    given = {**dict(zip(table.fields, row, strict=True)), **table.evaluate(row)}
                    rows.append([spell(given[name], types[name]) for name in table.columns])
        marks = ", ".join(["%s"] * len(table.columns))
        query = f"INSERT INTO {table.table} VALUES ({marks}) ON CONFLICT DO NOTHING"
        connection.cursor().executemany(query, rows)

    def write_finality(self, connection: psycopg.Connection, aggregate) -> None:
        definition, states = aggregate.definition, self.referee.partitions.items()
        marks = [state.max_event_time for (topic, _), state in states if topic == self.topic]
        through = min(marks) - 10_000_000 - definition.allowed_lateness
        gap = definition.window.gap if isinstance(definition.window, Sessions) else None
        row = [self.plan.name, aggregate.name, instant.to_datetime(through)]
        row += [None if gap is None else gap * instant.MICROSECOND]
        connection.execute("INSERT INTO millstream.finality VALUES (%s, %s, %s, %s)", row)

    def write_progress(self, connection: psycopg.Connection, topic: str, partition: int, state) -> None:
        most = state.max_event_time
        row = [self.plan.name, topic, partition, True, 0, 0, state.next]
        row += [instant.to_datetime(COMMIT_TIME)]
        row += [
            None if most is None else instant.to_datetime(at) for at in (most and most - 10_000_000, most)
        ]
        row += [state.read, state.accepted, state.duplicate, state.dead]
        row += [
            json.dumps(counts) for counts in (state.dead_by_reason, state.failed_checks, state.aggregates)
        ]
        connection.execute(f"INSERT INTO millstream.progress VALUES ({', '.join(['%s'] * len(row))})", row)

    def write_dead_letter(self, connection: psycopg.Connection, partition: int, offset: int, letter) -> None:
        record = letter.record
        length = None if record.value is None else len(record.value)
        headers = [{"key": name, "value": value.decode()} for name, value in record.headers]
        row = [
            self.plan.name,
            self.topic,
            partition,
            offset,
            letter.reason,
            "some",
            record.key,
            letter.kept_value,
        ]
        row += [length, json.dumps(headers), None, instant.to_datetime(COMMIT_TIME)]
        connection.execute(
            f"INSERT INTO millstream.dead_letters VALUES ({', '.join(['%s'] * len(row))})", row
        )


def wait_for_markers(admin: AdminClient, topic: str, partitions: int) -> None:
    """Until no transaction is open in the topic: the answer to a commit does not wait for the markers that end it there."""
    patience = Patience(MARKER_SECONDS)
    while end_offsets(admin, topic, partitions) != end_offsets(admin, topic, partitions, stable=False):
        assert not patience.over(), f"{topic}: a transaction is open"
        time.sleep(0.02)


def spell(value: object, type_name: str) -> object:
    """A value of the judge as psycopg takes it."""
    if type_name == "commit_time":
        return instant.to_datetime(COMMIT_TIME)
    if value is None:
        return None
    if type_name.startswith("timestamp"):
        return instant.to_datetime(value)
    if type_name == "date":
        return date_text(value)
    return json.dumps(value) if type_name == "json" else value


def group_metadata(arena: Arena):
    from confluent_kafka import Consumer

    return Consumer(
        {"bootstrap.servers": arena.servers.bootstrap, "group.id": arena.plan.name}
    ).consumer_group_metadata()
