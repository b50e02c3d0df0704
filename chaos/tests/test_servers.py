"""The referee on real servers, with a stand-in that writes right and wrong outputs.

They fail where no servers answer; `./dev test` starts them first.
"""

from __future__ import annotations

import re

import psycopg
import pytest

from chaos.arena import Arena
from chaos.options import PIPELINES
from chaos.referee.expression import compile_expression, parse_expression
from chaos.referee.inspection import Inspection
from chaos.servers import Servers

from . import test_expression
from .fake_processor import FakeProcessor

EVENTS = 4_000


pytestmark = pytest.mark.usefixtures("needs_servers")


@pytest.fixture(params=["kill-loop", "sliding", "sessions", "dedup"])
def arena(request):
    title = re.sub("[^a-z]+", "-", request.node.name)[:40].strip("-")
    made = Arena(seed=1, title=title, pipeline=PIPELINES / f"{request.param}.yaml")
    made.inspection.coverage_seconds = 1.0
    yield made
    made.close(keep=False)


def written(arena: Arena, spoil=list) -> FakeProcessor:
    arena.loader().send_all(EVENTS)
    fake = FakeProcessor(arena)
    fake.read()
    fake.write_kafka(spoil)
    fake.write_postgres()
    return fake


def execute(arena: Arena, *statements: str) -> None:
    with psycopg.connect(arena.environment["DATABASE_URL"], autocommit=True) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement


def test_right_outputs_are_green_and_spoiled_tables_are_not(arena: Arena) -> None:
    written(arena)
    assert arena.inspection.while_running().violations == []
    report = arena.inspection.at_end()
    assert report.violations == []
    assert report.counts["read"] == EVENTS
    (table,) = {"page_view_counts", "hits_per_minute"} & {one.table for one in arena.plan.aggregates}
    count, page = ("view_count", "page_url") if table == "page_view_counts" else ("hits", "url")
    for statement, word in (
        (f"UPDATE {table} SET {count} = {count} + 1 WHERE {page} = '/page/1'", "duplicated"),
        (f"UPDATE {table} SET {count} = {count} - 1 WHERE {page} = '/page/1'", None),
        ("UPDATE millstream.finality SET final_through = final_through + interval '1 us'", "premature"),
        ("UPDATE millstream.finality SET final_through = final_through - interval '2 us'", "stale"),
        ("UPDATE millstream.finality SET final_through = final_through + interval '1 us'", None),
        ("DELETE FROM millstream.dead_letters WHERE reason = 'NULL_VALUE'", "lost"),
    ):
        execute(arena, statement)
        assert arena.inspection.at_end().words == ([word] if word else [])


NEWEST = "CREATE OR REPLACE VIEW user_sessions_latest AS SELECT DISTINCT ON (user_id) * FROM user_sessions"
SPOILT_SESSIONS = [
    (
        "UPDATE user_sessions SET session_end_time = session_end_time - interval '1 us'",
        "UPDATE user_sessions SET session_end_time = session_end_time + interval '1 us'",
        ["stale"],
    ),
    (
        "INSERT INTO short_visits SELECT session_start_time, session_end_time, session_duration_seconds, 'nobody',"
        " event_count, amount_greatest, late_count FROM short_visits LIMIT 1",
        "DELETE FROM short_visits WHERE user_id = 'nobody'",
        ["phantom"],
    ),
    (
        f"{NEWEST} ORDER BY user_id, session_start_time",
        f"{NEWEST} ORDER BY user_id, session_start_time DESC",
        ["stale"],
    ),
]
ONE_PAGE = "WHERE url = '/page/1'"
SPOILT_RECORDS = [
    (
        f"UPDATE clickstream_events SET written_at = written_at + interval '1 s' {ONE_PAGE}",
        f"UPDATE clickstream_events SET written_at = written_at - interval '1 s' {ONE_PAGE}",
        ["stale", "torn"],
    ),
    (
        f"UPDATE clickstream_events SET amount = amount + 1 {ONE_PAGE}",
        f"UPDATE clickstream_events SET amount = amount - 1 {ONE_PAGE}",
        ["phantom"],
    ),
    (
        f"UPDATE clickstream_events SET event_id = 'x' || event_id {ONE_PAGE}",
        f"UPDATE clickstream_events SET event_id = substr(event_id, 2) {ONE_PAGE}",
        ["lost", "phantom"],
    ),
    (
        f"INSERT INTO clickstream_journal SELECT * FROM clickstream_journal {ONE_PAGE}",
        "DELETE FROM clickstream_journal"
        " WHERE xmin::text::bigint = (SELECT max(xmin::text::bigint) FROM clickstream_journal)",
        ["duplicated"],
    ),
]


@pytest.mark.parametrize(
    ("arena", "spoils"),
    [("sessions", SPOILT_SESSIONS), ("dedup", SPOILT_RECORDS)],
    ids=["sessions", "records"],
    indirect=["arena"],
)
def test_spoiled_sessions_and_record_tables(arena: Arena, spoils: list[tuple]) -> None:
    written(arena)
    for spoil, mend, words in spoils:
        execute(arena, spoil)
        assert arena.inspection.at_end().words == words, spoil
        execute(arena, mend)
        assert arena.inspection.at_end().words == [], mend


def test_records_that_follow_are_stuck_only_at_the_end(arena: Arena) -> None:
    written(arena)
    arena.loader().send_all(100)
    assert arena.inspection.while_running().violations == []
    assert arena.inspection.at_end().words == ["stuck"]


def test_progress_ahead_of_rows_is_lost_and_back_is_stale(arena: Arena) -> None:
    written(arena)
    assert arena.inspection.while_running().green
    execute(arena, "UPDATE millstream.progress SET next = next - 1 WHERE partition = 0")
    assert arena.inspection.while_running().words == ["stale"]
    fresh = Inspection(arena.plan)
    assert "phantom" in fresh.while_running().words
    fresh.close()


SPOILT_TOPICS = [("bad-data", spoil) for spoil in ("lost", "duplicated", "reordered", "phantom")]
SPOILT_TOPICS += [("late", spoil) for spoil in ("lost", "duplicated")]


@pytest.mark.parametrize(("topic", "spoil"), SPOILT_TOPICS)
def test_spoiled_topics(arena: Arena, topic: str, spoil: str) -> None:
    def change(messages: list[tuple]) -> list[tuple]:
        at = next(i for i, message in enumerate(messages) if message[4] and message[0].endswith(f".{topic}"))
        if spoil == "lost":
            return messages[:at] + messages[at + 1 :]
        if spoil == "duplicated":
            return [*messages, messages[at]]
        if spoil == "reordered":
            return messages[::-1]
        return [*messages, (*messages[at][:3], b"foreign", messages[at][4][:2])]

    written(arena, change)
    assert arena.inspection.at_end().words == [spoil]


def test_expressions_mean_what_postgresql_means() -> None:
    row = """SELECT * FROM (VALUES ('Grün_%' COLLATE "C", 7::bigint, 2.5::double precision, true,
             timestamptz '2026-01-30T13:18:10.5Z', null::text)) AS r (t, n, d, b, at, nothing)"""
    texts = [one.strip() for line in test_expression.TRUE.strip().splitlines() for one in line.split(" | ")]
    with psycopg.connect(Servers().database_url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        for text in texts:
            if "ilike" in text or "split_part" in text and "-1" in text:
                continue
            found = connection.execute(f"SELECT {text} FROM ({row}) AS row").fetchone()[0]
            ours = compile_expression(parse_expression(text), test_expression.SCHEMA).evaluate(
                test_expression.ROW
            )
            assert (found, ours) == (True, True), text
