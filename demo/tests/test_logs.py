"""Two real logs through the activity pipelines by `millstream try`, against sets and sums in Python."""

import json
import os
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from demo import events, nasa
from demo.events import Message
from demo.world import CHECKOUT

MINUTE = timedelta(minutes=1)
NOTICE = {
    "apache": {"page_view": 4_307, "asset": 5_436, "error": 208, "probe": 43, "submit": 5},
    "nasa": {"page_view": 9_670, "asset": 20_982, "error": 221, "probe": 95, "submit": 1},
}
USERS = {"apache": 1_861, "nasa": 2_365}
SESSIONS = {"apache": 3_223, "nasa": 2_989}
GAP = timedelta(minutes=30)
# As the notice has them, and what follows from its lines: distinct ids; minutes with a click, and pairs of minute and URL.
DISTINCT = {"apache": 9_980, "nasa": 30_968}
WINDOWS_AND_PAIRS = {"apache": (84, 5_648), "nasa": (766, 21_057)}
LOGS = {"apache": (events.messages, events.LINES), "nasa": (nasa.messages, nasa.LINES)}
# A sketch counts up to 384 values one by one; beyond that its standard error is 1.6 %.
EXACT_BELOW = 200
TOLERANCE = 0.03
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


def parsed(sent: list[Message]) -> Iterator[tuple[datetime, dict]]:
    for message in sent:
        if message.key is not None:
            event = json.loads(message.value)
            yield datetime.fromisoformat(event["event_time"]), event


def assert_about(found: int, distinct: int) -> None:
    if distinct < EXACT_BELOW:
        assert found == distinct
    else:
        assert abs(found - distinct) <= TOLERANCE * distinct


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("pipeline", ["user-activity", "enriched-activity", "user-sessions"])
def test_a_real_log_gives_its_page_views_and_active_users(pipeline: str, log: str):
    messages, lines = LOGS[log]
    sent = list(messages())
    report = tried(CHECKOUT / "pipelines" / f"{pipeline}.yaml", sent)
    dead = sum(message.key is None for message in sent)
    verdict = report["verdicts"][0]
    assert (verdict["read"], verdict["accepted"], verdict["dead"]) == (lines, lines - dead, dead)

    views: Counter = Counter()
    users = defaultdict(set)
    for time, event in parsed(sent):
        minute = time.replace(second=0)
        if event["event_type"] == "page_view":
            views[minute, event["page_url"]] += 1
        for back in range(5):
            users[minute - back * MINUTE].add(event["user_id"])

    counts = report["aggregates"]["page_view_counts"]
    assert counts["counted"] == NOTICE[log]["page_view"] and counts["too_late"] == 0
    rows = {
        (datetime.fromisoformat(r["window_start"]), r["page_url"]): r["view_count"] for r in counts["rows"]
    }
    assert rows == views

    active = report["aggregates"]["active_users"]
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


def runs(times: list[datetime]) -> Iterator[list[datetime]]:
    """The times of one user, cut where the pause is longer than the gap."""
    run: list[datetime] = []
    for time in sorted(times):
        if run and time - run[-1] > GAP:
            yield run
            run = []
        run.append(time)
    yield run


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("log", LOGS)
def test_a_real_log_gives_the_sessions_of_a_sort(log: str, partitions: int):
    sent = list(LOGS[log][0]())
    report = tried(CHECKOUT / "pipelines" / "user-sessions.yaml", sent, partitions)
    seen = defaultdict(list)
    for time, event in parsed(sent):
        seen[event["user_id"]].append((time, event))
    expected = {}
    for user, events_of_user in seen.items():
        for run in runs([time for time, _ in events_of_user]):
            inside = [event for time, event in events_of_user if run[0] <= time <= run[-1]]
            views = [event["page_url"] for event in inside if event["event_type"] == "page_view"]
            seconds = int((run[-1] - run[0]).total_seconds())
            expected[user, run[0]] = (run[-1], seconds, len(inside), len(views), len(set(views)))
    assert len(expected) == SESSIONS[log] and len(seen) == USERS[log]

    sessions = report["aggregates"]["user_sessions"]
    assert sessions["too_late"] == 0 and sessions["counted"] == sum(NOTICE[log].values())
    found = {
        (row["user_id"], datetime.fromisoformat(row["session_start_time"])): (
            datetime.fromisoformat(row["session_end_time"]),
            row["session_duration_seconds"],
            row["events"],
            row["page_views"],
            row["pages"],
        )
        for row in sessions["rows"]
    }
    assert found == expected
    assert list(found) == sorted(found), "rows are sorted by the key"


def as_clicks(sent: list[Message]) -> list[Message]:
    """The events under the names that the clickstream's collectors give them."""
    names = {"event_time": "event_ts", "page_url": "url"}
    kept = {"event_id", "event_time", "user_id", "page_url", "referrer", "ip"}
    clicks = []
    for message in sent:
        if message.key is not None:
            event = {
                names.get(name, name): value
                for name, value in json.loads(message.value).items()
                if name in kept
            }
            message = Message(message.key, json.dumps(event).encode())
        clicks.append(message)
    return clicks


@pytest.mark.parametrize("log", LOGS)
def test_a_real_log_gives_each_click_once(log: str):
    messages, lines = LOGS[log]
    sent = list(messages())
    report = tried(CHECKOUT / "pipelines" / "clickstream-minute.yaml", as_clicks(sent))
    first: dict[str, tuple[datetime, dict]] = {}
    for time, event in parsed(sent):
        first.setdefault(event["event_id"], (time, event))
    dead = sum(message.key is None for message in sent)
    verdict = report["verdicts"][0]
    assert len(first) == DISTINCT[log]
    counts = [verdict[name] for name in ("read", "accepted", "duplicate", "dead")]
    assert counts == [lines, len(first), lines - dead - len(first), dead]

    hits = Counter((time.replace(second=0), event["page_url"]) for time, event in first.values())
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
