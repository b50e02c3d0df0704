"""Two real logs through the activity pipelines by `millstream try`, against sets and sums in Python."""

import json
import os
import subprocess
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import pytest

from demo.events import Message
from demo.tests.expected import (
    DISTINCT,
    LOGS,
    MINUTE,
    NOTICE,
    SESSION_COLUMNS,
    SESSIONS,
    USERS,
    WINDOWS_AND_PAIRS,
    as_clicks,
    assert_about,
    clicks_of,
    hits_of,
    parsed,
    sessions_of,
    users_of,
    views_of,
)
from demo.world import CHECKOUT

WHOLE_LOG = """
version: 1
name: whole-log
connections: { kafka: { bootstrap.servers: "localhost:9092" } }
sources:
  activity:
    topic: user_activity
    fields: { event_time: timestamp!, user_id: text!, page_url: text!, event_type: text! }
    event_time: event_time
    watermark: { delay: 2m }
aggregates:
  types:
    from: activity
    window: { tumble: 366d }
    by: [event_type]
    select: { events: count(*), users: approx_distinct(user_id) }
    to: { table: types, key: [window_start, event_type] }
  everybody:
    from: activity
    window: { tumble: 366d }
    select: { users: approx_distinct(user_id), viewers: "approx_distinct(user_id) filter (where event_type = 'page_view')" }
    to: { table: everybody, key: [window_start] }
"""


def tried(pipeline: Path, sent: list[Message], partitions: int = 1) -> dict:
    lines = b"".join(message.value + b"\n" for message in sent)
    command = [os.environ["MILLSTREAM_BIN"], "try", str(pipeline), "--input", "-", "--output", "json"]
    command += ["--partitions", str(partitions)]
    said = subprocess.run(command, input=lines, capture_output=True, check=False)
    assert said.returncode == 0, said.stderr.decode()
    return json.loads(said.stdout)


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("pipeline", ["user-activity", "enriched-activity", "user-sessions"])
def test_a_real_log_gives_its_page_views_and_active_users(pipeline: str, log: str):
    messages, lines = LOGS[log]
    sent = list(messages())
    report = tried(CHECKOUT / "pipelines" / f"{pipeline}.yaml", sent)
    dead = sum(message.key is None for message in sent)
    verdict = report["verdicts"][0]
    assert (verdict["read"], verdict["accepted"], verdict["dead"]) == (lines, lines - dead, dead)

    counts = report["aggregates"]["page_view_counts"]
    assert counts["counted"] == NOTICE[log]["page_view"] and counts["too_late"] == 0
    rows = {
        (datetime.fromisoformat(r["window_start"]), r["page_url"]): r["view_count"] for r in counts["rows"]
    }
    assert rows == views_of(sent)

    active, users = report["aggregates"]["active_users"], users_of(sent)
    assert active["counted"] == lines - dead and active["partly_late"] == 0
    assert [datetime.fromisoformat(row["window_start"]) for row in active["rows"]] == sorted(users)
    for row in active["rows"]:
        assert_about(row["active_user_count"], len(users[datetime.fromisoformat(row["window_start"])]))


@pytest.mark.parametrize("log", LOGS)
def test_a_whole_log_has_the_counts_of_its_notice(log: str, tmp_path: Path):
    pipeline = tmp_path / "whole-log.yaml"
    pipeline.write_text(WHOLE_LOG)
    sent = list(LOGS[log][0]())
    report = tried(pipeline, sent)
    users = defaultdict(set)
    for _, event in parsed(sent):
        users[event["event_type"]].add(event["user_id"])
    rows = report["aggregates"]["types"]["rows"]
    assert {row["event_type"]: row["events"] for row in rows} == NOTICE[log]
    for row in rows:
        assert_about(row["users"], len(users[row["event_type"]]))
    (everybody,) = report["aggregates"]["everybody"]["rows"]
    assert len(set().union(*users.values())) == USERS[log]
    assert_about(everybody["users"], USERS[log])
    assert_about(everybody["viewers"], len(users["page_view"]))


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("pipeline", SESSION_COLUMNS)
def test_a_real_log_gives_the_sessions_of_a_sort(pipeline: str, log: str, partitions: int):
    sent = list(LOGS[log][0]())
    report = tried(CHECKOUT / "pipelines" / f"{pipeline}.yaml", sent, partitions)
    expected = sessions_of(sent)
    assert len(expected) == SESSIONS[log] and len({user for user, _ in expected}) == USERS[log]

    sessions = report["aggregates"]["user_sessions"]
    assert sessions["too_late"] == 0 and sessions["counted"] == sum(NOTICE[log].values())
    found = {
        (row["user_id"], datetime.fromisoformat(row["session_start_time"])): (
            datetime.fromisoformat(row["session_end_time"]),
            *(row[column] for column in SESSION_COLUMNS[pipeline][1:]),
        )
        for row in sessions["rows"]
    }
    assert found == {key: row[: len(SESSION_COLUMNS[pipeline])] for key, row in expected.items()}
    assert list(found) == sorted(found), "rows are sorted by the key"


@pytest.mark.parametrize("log", LOGS)
def test_a_real_log_gives_each_click_once(log: str):
    messages, lines = LOGS[log]
    sent = list(messages())
    report = tried(CHECKOUT / "pipelines" / "clickstream-minute.yaml", as_clicks(sent))
    first = clicks_of(sent)
    dead = sum(message.key is None for message in sent)
    verdict = report["verdicts"][0]
    assert len(first) == DISTINCT[log]
    counts = [verdict[name] for name in ("read", "accepted", "duplicate", "dead")]
    assert counts == [lines, len(first), lines - dead - len(first), dead]

    hits = hits_of(first)
    assert (len({minute for minute, _ in hits}), len(hits)) == WINDOWS_AND_PAIRS[log]
    table = report["aggregates"]["clickstream_agg_minute"]
    assert (table["counted"], table["too_late"]) == (len(first), 0)
    rows = table["rows"]
    assert {(datetime.fromisoformat(row["window_start"]), row["url"]): row["hits"] for row in rows} == hits
    for row in rows:
        assert (
            datetime.fromisoformat(row["window_end"]) - datetime.fromisoformat(row["window_start"]) == MINUTE
        )

    raw = [record["value"] for record in report["records"] if record["table"] == "clickstream_events"]
    assert {row["event_id"]: (datetime.fromisoformat(row["event_ts"]), row["url"]) for row in raw} == {
        number: (time, event["page_url"]) for number, (time, event) in first.items()
    }
    assert len(raw) == len(first)
