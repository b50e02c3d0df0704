"""One snapshot of progress rows, result tables and dead letters, in one REPEATABLE READ transaction.

Owns: the SQL. Never: writes; every transaction is read only. Data: rows -> `Snapshot`.
Tested: `tests/test_servers.py`, against real servers.
"""

from __future__ import annotations

import ipaddress
import json
import uuid
from datetime import date, datetime

import psycopg
from psycopg import sql

from . import instant
from .aggregate import AggregateJudge
from .expression.values import inet_text
from .judge import SourceJudge
from .pipeline import Pipeline
from .record_table import FoundRow, RecordTable
from .snapshot import DeadLetterRow, Final, Place, Progress, Snapshot

PROGRESS = """
    SELECT topic, partition, bootstrapped, start_offset, prev, next, commit_time, watermark, max_event_time,
           read, accepted, duplicate, dead, dead_by_reason, checks, aggregates
      FROM millstream.progress WHERE application = %s
"""
FINALITY = "SELECT aggregate, final_through, session_gap FROM millstream.finality WHERE application = %s"
CONNECT_SECONDS = 60
PORTION = 10_000


def address_of(pipeline: Pipeline) -> str:
    """The connection string: the file's, else DB_HOST and its sisters, else libpq's own environment."""
    if pipeline.postgres:
        return pipeline.postgres
    names = {
        "host": "DB_HOST",
        "port": "DB_PORT",
        "user": "DB_USER",
        "password": "DB_PASSWORD",
        "dbname": "DB_NAME",
    }
    given = {key: pipeline.environment.get(name) for key, name in names.items()}
    return psycopg.conninfo.make_conninfo("", **{key: value for key, value in given.items() if value})


def connect(address: str) -> psycopg.Connection:
    return psycopg.connect(address, connect_timeout=CONNECT_SECONDS, application_name="chaos")


class Database:
    """A connection of its own for every snapshot: servers come and go here."""

    def __init__(self, pipeline: Pipeline, sources: list[SourceJudge]) -> None:
        self.pipeline = pipeline
        self.aggregates = [one for source in sources for one in source.aggregates]
        self.record_tables = [one for source in sources for one in source.tables]
        self.address = address_of(pipeline)

    def snapshot(self, dead_letters_from: dict[Place, int]) -> Snapshot:
        """Dead letters are read from the given offsets on (0 by default) and counted in all."""
        with connect(self.address) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            with connection.transaction():
                snapshot = Snapshot(self.progress(connection), dead_letters_from=dead_letters_from)
                for aggregate in self.aggregates:
                    self.read_aggregate(connection, aggregate, snapshot)
                for table in self.record_tables:
                    snapshot.record_rows[table.name] = self.read_records(connection, table)
                self.read_dead_letters(connection, snapshot)
                self.read_finality(connection, snapshot)
        return snapshot

    def progress(self, connection: psycopg.Connection) -> dict[Place, Progress]:
        if not exists(connection, "millstream.progress"):
            return {}
        rows = connection.execute(PROGRESS, [self.pipeline.name]).fetchall()
        return {(row[0], row[1]): progress_of(row[2:]) for row in rows}

    def read_finality(self, connection: psycopg.Connection, snapshot: Snapshot) -> None:
        """A row an aggregate; also when the snapshot was taken."""
        (now,) = connection.execute("SELECT transaction_timestamp()").fetchone()
        snapshot.taken = instant.of_datetime(now)
        if exists(connection, "millstream.finality"):
            for aggregate, through, gap in connection.execute(FINALITY, [self.pipeline.name]):
                gap = None if gap is None else gap // instant.MICROSECOND
                snapshot.finality[aggregate] = Final(optional_instant(through), gap)

    def read_aggregate(
        self, connection: psycopg.Connection, aggregate: AggregateJudge, snapshot: Snapshot
    ) -> None:
        """Its table, by (start, by values...), and its view of newest rows, by the by values."""
        definition, name = aggregate.definition, aggregate.name
        by = [column for column, _ in definition.by]
        cells = [*aggregate.end_columns, *(column for column, _ in definition.select)]
        key = [aggregate.time_column, *by]
        snapshot.tables[name], repeated = self.read_rows(connection, definition.table, key, cells)
        if repeated:
            snapshot.repeated_rows[name] = repeated
        if definition.latest:
            cells = [aggregate.time_column, *cells]
            snapshot.latest[name], repeated = self.read_rows(connection, definition.latest_view, by, cells)
            if repeated:
                snapshot.repeated_latest[name] = repeated

    def read_rows(
        self, connection: psycopg.Connection, table: str, key: list[str], cells: list[str]
    ) -> tuple[dict[tuple, tuple], list[tuple]]:
        """Key to cells, and the keys of which there is more than one row; nothing where there is no table."""
        rows: dict[tuple, tuple] = {}
        repeated: list[tuple] = []
        name = sql.Identifier(*table.split("."))
        if not exists(connection, name.as_string(connection)):
            return rows, repeated
        columns = sql.SQL(", ").join(map(sql.Identifier, [*key, *cells]))
        query = sql.SQL("SELECT {} FROM {}").format(columns, name)
        for row in connection.cursor(binary=True).execute(query):
            plain = tuple(map(plain_value, row))
            found = plain[: len(key)]
            if found in rows:
                repeated.append(found)
            rows[found] = plain[len(key) :]
        return rows, repeated

    def read_records(self, connection: psycopg.Connection, table: RecordTable) -> list[FoundRow]:
        """Read in portions: such a table has as many rows as its log has records."""
        name = sql.Identifier(*table.table.split("."))
        if not exists(connection, name.as_string(connection)):
            return []
        columns = [
            sql.SQL("{}::text").format(sql.Identifier(column))
            if column in table.json_columns
            else sql.Identifier(column)
            for column in table.columns
        ]
        json_places = [column in table.json_columns for column in table.columns]
        query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(columns), name)
        rows = []
        with connection.cursor(name="records", binary=True) as cursor:
            cursor.itersize = PORTION
            for row in cursor.execute(query):
                cells = [
                    json_value(cell) if is_json else plain_value(cell)
                    for cell, is_json in zip(row, json_places, strict=True)
                ]
                rows.append(table.digest(tuple(cells)))
        return rows

    def read_dead_letters(self, connection: psycopg.Connection, snapshot: Snapshot) -> None:
        table = sql.Identifier("millstream", self.pipeline.dead_table)
        if not exists(connection, table.as_string(connection)):
            return
        counts = sql.SQL("SELECT topic, partition, count(*) FROM {} WHERE application = %s GROUP BY 1, 2")
        for topic, partition, count in connection.execute(counts.format(table), [self.pipeline.name]):
            place = (topic, partition)
            snapshot.dead_letter_counts[place] = count
            snapshot.dead_letters[place] = self.dead_letters(
                connection, table, place, snapshot.dead_letters_from.get(place, 0)
            )

    def dead_letters(
        self, connection: psycopg.Connection, table: sql.Identifier, place: Place, first: int
    ) -> dict[int, DeadLetterRow]:
        query = sql.SQL(
            'SELECT "offset", reason, key, value, value_bytes, headers, record_timestamp FROM {} '
            'WHERE application = %s AND topic = %s AND partition = %s AND "offset" >= %s'
        ).format(table)
        cursor = connection.cursor(binary=True).execute(query, [self.pipeline.name, *place, first])
        return {row[0]: dead_letter_of(row[1:]) for row in cursor}


def exists(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("SELECT to_regclass(%s)", [name]).fetchone()[0] is not None


def optional_instant(moment: datetime | None) -> int | None:
    return None if moment is None else instant.of_datetime(moment)


def progress_of(row: tuple) -> Progress:
    bootstrapped, start, prev, next_offset, commit_time, watermark, max_event_time, *counts = row
    *numbers, dead_by_reason, checks, aggregates = counts
    return Progress(
        bootstrapped,
        start,
        prev,
        next_offset,
        optional_instant(commit_time),
        optional_instant(watermark),
        optional_instant(max_event_time),
        *numbers,
        dead_by_reason or {},
        checks or {},
        aggregates or {},
    )


def dead_letter_of(row: tuple) -> DeadLetterRow:
    reason, key, value, value_bytes, headers, timestamp = row
    key, value = (None if one is None else bytes(one) for one in (key, value))
    return DeadLetterRow(reason, key, value, value_bytes, headers, optional_instant(timestamp))


def json_value(text: str | None) -> object:
    return None if text is None else json.loads(text)


def plain_value(value: object) -> object:
    """A value as the judge keeps it: instants in microseconds, dates in days, addresses and UUIDs as text."""
    kind = type(value)
    if kind is datetime:
        return instant.of_datetime(value)
    if kind is date:
        return value.toordinal() - instant.EPOCH_ORDINAL
    if kind is uuid.UUID:
        return str(value)
    if isinstance(value, (ipaddress._IPAddressBase,)):
        return inet_text(str(value))
    return value
