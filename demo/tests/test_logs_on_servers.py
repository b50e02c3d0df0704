"""Two real logs through the files of `pipelines/` on real servers: topics without keys, the hop, the tables, the enriched
topic.

They fail where no servers answer, or nothing was built; `./dev test` sees to both.
"""

import os
from collections.abc import Iterator

import psycopg
import pytest
from confluent_kafka import Producer

from chaos.arena import Arena
from chaos.referee.inspection import Report
from demo.events import Message
from demo.tests.expected import (
    DISTINCT,
    LOGS,
    NOTICE,
    SESSION_COLUMNS,
    SESSIONS,
    USERS,
    WINDOWS_AND_PAIRS,
    as_clicks,
    assert_about,
    clicks_of,
    hits_of,
    sessions_of,
    users_of,
    views_of,
)
from demo.world import CHECKOUT

FLUSH_SECONDS = 120.0


@pytest.fixture(params=LOGS)
def log(request) -> str:
    return request.param


@pytest.fixture
def arena(request, log: str) -> Iterator[Arena]:
    made = Arena(1, f"{log}-{request.param}", CHECKOUT / "pipelines" / f"{request.param}.yaml")
    yield made
    made.close(keep=False)


def worked_off(arena: Arena, sent: list[Message]) -> Report:
    """Sent without keys, to the partitions in turn; drained and judged."""
    producer = Producer({"bootstrap.servers": arena.servers.bootstrap, "enable.idempotence": True})
    for number, message in enumerate(sent):
        producer.produce(arena.source.topic, message.value, partition=number % arena.partitions)
        producer.poll(0)
    assert producer.flush(FLUSH_SECONDS) == 0
    processor = arena.processor()
    processor.binary = os.environ["MILLSTREAM_BIN"]
    arena.drain(processor)
    return arena.judge_end()


def rows(arena: Arena, query: str) -> list[tuple]:
    with psycopg.connect(arena.environment["DATABASE_URL"], options="-c timezone=UTC") as connection:
        return connection.execute(query).fetchall()


def assert_sessions(arena: Arena, pipeline: str, log: str, sent: list[Message]) -> None:
    """The table has the sessions of a sort, in the columns that this file gives them."""
    columns = SESSION_COLUMNS[pipeline]
    asked = f"SELECT user_id, session_start_time, {', '.join(columns)} FROM user_sessions"
    found = {row[:2]: row[2:] for row in rows(arena, asked)}
    assert found == {key: row[: len(columns)] for key, row in sessions_of(sent).items()}
    assert len(found) == SESSIONS[log] and len({user for user, _ in found}) == USERS[log]


def verdicts(report: Report) -> list[int]:
    """How many records were read, accepted, duplicates and dead."""
    return [report.counts[name] for name in ("read", "accepted", "duplicate", "dead")]


@pytest.mark.parametrize(
    ("arena", "pipeline"), [(name, name) for name in ("user-activity", "enriched-activity")], indirect=["arena"]
)
def test_a_real_log_gives_its_page_views_active_users_and_sessions(
    arena: Arena, pipeline: str, log: str
) -> None:
    messages, lines = LOGS[log]
    sent = list(messages())
    report = worked_off(arena, sent)
    dead = sum(message.key is None for message in sent)
    assert verdicts(report) == [lines, lines - dead, 0, dead]
    assert sum(NOTICE[log].values()) == lines - dead

    views = rows(arena, "SELECT window_start, page_url, view_count FROM page_view_counts")
    assert {(start, url): count for start, url, count in views} == views_of(sent)
    assert sum(count for _, _, count in views) == NOTICE[log]["page_view"]
    active = dict(rows(arena, "SELECT window_start, active_user_count FROM active_users"))
    users = users_of(sent)
    assert active.keys() == users.keys() and len(set().union(*users.values())) == USERS[log]
    for start, found in active.items():
        assert_about(found, len(users[start]))
    assert_sessions(arena, pipeline, log, sent)
    # With the time at which each was processed, as the referee has seen.
    enriched = {name.rpartition(".")[2]: count for name, count in report.messages.items()}.get("enriched")
    assert enriched == (lines - dead if arena.plan.records else None)
    assert not any(count for name, count in report.counts.items() if name.endswith("late"))


@pytest.mark.parametrize("arena", ["user-sessions"], indirect=True)
def test_a_real_log_gives_its_sessions_behind_the_hop(arena: Arena, log: str) -> None:
    messages, lines = LOGS[log]
    sent = list(messages())
    report = worked_off(arena, sent)
    dead = sum(message.key is None for message in sent)
    assert verdicts(report) == [lines, lines - dead, 0, dead]

    assert_sessions(arena, "user-sessions", log, sent)
    assert rows(arena, "SELECT sum(events)::bigint FROM user_sessions") == [(sum(NOTICE[log].values()),)]
    assert rows(arena, "SELECT sum(view_count)::bigint FROM page_view_counts") == [
        (NOTICE[log]["page_view"],)
    ]
    late = [count for name, count in report.counts.items() if name.endswith("late")]
    assert late and not any(late)


@pytest.mark.parametrize("arena", ["clickstream-minute"], indirect=True)
def test_a_real_log_gives_each_click_once(arena: Arena, log: str) -> None:
    messages, lines = LOGS[log]
    sent = list(messages())
    report = worked_off(arena, as_clicks(sent))
    first, dead = clicks_of(sent), sum(message.key is None for message in sent)
    assert verdicts(report) == [lines, DISTINCT[log], lines - dead - DISTINCT[log], dead]

    hits = rows(arena, "SELECT window_start, url, hits FROM clickstream_agg_minute")
    assert {(start, url): count for start, url, count in hits} == hits_of(first)
    assert (len({start for start, _, _ in hits}), len(hits)) == WINDOWS_AND_PAIRS[log]
    clicks = rows(arena, "SELECT event_id, event_ts, url FROM clickstream_events")
    assert len(clicks) == DISTINCT[log]
    assert {number: (time, url) for number, time, url in clicks} == {
        number: (time, event["page_url"]) for number, (time, event) in first.items()
    }
