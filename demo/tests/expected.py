"""What two real logs come to, by sets and sums in Python, and the counts that their notice gives.

Data: the messages of a log -> page views, active users, sessions, clicks and hits. `test_logs` holds `try` to them, `test_logs_on_servers` the whole way.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from demo import events, nasa
from demo.events import Message

MINUTE = timedelta(minutes=1)
# A sketch counts up to 384 values one by one; beyond that its standard error is 1.6 %.
EXACT_BELOW = 200
TOLERANCE = 0.03
NOTICE = {
    "apache": {"page_view": 4_307, "asset": 5_436, "error": 208, "probe": 43, "submit": 5},
    "nasa": {"page_view": 9_670, "asset": 20_982, "error": 221, "probe": 95, "submit": 1},
}
USERS = {"apache": 1_861, "nasa": 2_365}
SESSIONS = {"apache": 3_223, "nasa": 2_989}
GAP = timedelta(minutes=30)
# What the table of each file has beside its key, in the order of `sessions_of`.
OWN_COLUMNS = ("session_end_time", "session_duration_seconds")
SESSION_COLUMNS = {
    "user-activity": OWN_COLUMNS,
    "enriched-activity": OWN_COLUMNS,
    "user-sessions": (*OWN_COLUMNS, "events", "page_views", "pages"),
}
# As the notice has them, and what follows from its lines: distinct ids; minutes with a click, and pairs of minute and URL.
DISTINCT = {"apache": 9_980, "nasa": 30_968}
WINDOWS_AND_PAIRS = {"apache": (84, 5_648), "nasa": (766, 21_057)}
LOGS = {"apache": (events.messages, events.LINES), "nasa": (nasa.messages, nasa.LINES)}


def parsed(sent: list[Message]) -> Iterator[tuple[datetime, dict]]:
    for message in sent:
        if message.key is not None:
            event = json.loads(message.value)
            yield datetime.fromisoformat(event["event_time"]), event


def views_of(sent: list[Message]) -> Counter:
    """Page views by minute and URL."""
    views = [(time, event) for time, event in parsed(sent) if event["event_type"] == "page_view"]
    return Counter((time.replace(second=0), event["page_url"]) for time, event in views)


def users_of(sent: list[Message]) -> dict[datetime, set[str]]:
    """By the start of each window of five minutes that slides by one."""
    users = defaultdict(set)
    for time, event in parsed(sent):
        for back in range(5):
            users[time.replace(second=0) - back * MINUTE].add(event["user_id"])
    return users


def assert_about(found: int, distinct: int) -> None:
    if distinct < EXACT_BELOW:
        assert found == distinct
    else:
        assert abs(found - distinct) <= TOLERANCE * distinct


def runs(times: list[datetime]) -> Iterator[list[datetime]]:
    """The times of one user, cut where the pause is longer than the gap."""
    run: list[datetime] = []
    for time in sorted(times):
        if run and time - run[-1] > GAP:
            yield run
            run = []
        run.append(time)
    yield run


def sessions_of(sent: list[Message]) -> dict[tuple[str, datetime], tuple]:
    """By user and start: end, duration in seconds, events, page views, pages."""
    seen = defaultdict(list)
    for time, event in parsed(sent):
        seen[event["user_id"]].append((time, event))
    found = {}
    for user, events_of_user in seen.items():
        for run in runs([time for time, _ in events_of_user]):
            inside = [event for time, event in events_of_user if run[0] <= time <= run[-1]]
            views = [event["page_url"] for event in inside if event["event_type"] == "page_view"]
            seconds = int((run[-1] - run[0]).total_seconds())
            found[user, run[0]] = (run[-1], seconds, len(inside), len(views), len(set(views)))
    return found


def clicks_of(sent: list[Message]) -> dict[str, tuple[datetime, dict]]:
    """The first event of each id."""
    first: dict[str, tuple[datetime, dict]] = {}
    for time, event in parsed(sent):
        first.setdefault(event["event_id"], (time, event))
    return first


def hits_of(clicks: dict[str, tuple[datetime, dict]]) -> Counter:
    """By minute and URL."""
    return Counter((time.replace(second=0), event["page_url"]) for time, event in clicks.values())


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
