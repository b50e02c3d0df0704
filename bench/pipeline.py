"""The pipeline file of a measurement: `w1.yaml` with outputs added or taken away."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path

import yaml

from bench.corner import Corner
from bench.program import millstream

FILE = Path(__file__).parent / "w1.yaml"

ACTIVE_USERS = {
    "from": "events",
    "window": {"slide": "1m", "size": "5m"},
    "select": {"active_user_count": "approx_distinct(user_id)"},
    "to": {"table": "active_users", "key": ["window_start"]},
}
USER_SESSIONS = {
    "from": "events",
    "window": {"session": "10m"},
    "by": ["user_id"],
    "select": {"page_views": "count(*) filter (where event_type = 'page_view')", "events": "count(*)"},
    "to": {"table": "user_sessions", "key": ["user_id", "session_start_time"]},
}
ADDED = {"B": ("active_users", ACTIVE_USERS), "C": ("user_sessions", USER_SESSIONS)}
OUTPUTS = {
    "A": "page views per minute and page -> PostgreSQL",
    "B": "distinct users, 5 min by 1 min -> PostgreSQL",
    "C": "sessions of a user, 10 min apart at most -> PostgreSQL",
    "D": "every event with its processing time -> Kafka",
}


class NotSupported(Exception):
    """The program at hand refuses the file."""


def with_outputs(letters: str) -> dict:
    """W1 with those of its outputs that the letters name."""
    pipeline = yaml.safe_load(FILE.read_text())
    if "A" not in letters:
        del pipeline["aggregates"]["page_view_counts"]
    for letter, (name, aggregate) in ADDED.items():
        if letter in letters:
            pipeline["aggregates"][name] = copy.deepcopy(aggregate)
    if "D" not in letters:
        del pipeline["records"]
    if not pipeline["aggregates"]:
        del pipeline["aggregates"]
    return pipeline


def remembering(pipeline: dict) -> dict:
    """The same, and every id is remembered for an hour of event time."""
    (source,) = pipeline["sources"].values()
    source["fields"]["event_id"] = "text!"
    source["dedup"] = {"key": ["event_id"], "within": "1h"}
    return pipeline


def through_hop(pipeline: dict) -> dict:
    """The same, and events are copied through an internal topic by user first, as if they had no key."""
    (source,) = pipeline["sources"].values()
    source["repartition_by"] = source.pop("keyed_by")
    return pipeline


def by_user() -> dict:
    """One row and one entry of state a user, in a single window: the number of users is the number of keys."""
    pipeline = with_outputs("A")
    counts = pipeline["aggregates"]["page_view_counts"]
    counts |= {"by": ["user_id"], "window": {"tumble": "1d"}}
    del counts["where"]
    counts["to"] = {"table": "page_view_counts", "key": ["window_start", "user_id"]}
    return pipeline


def sliding(minutes: int) -> dict:
    """Page views in windows of so many minutes, a new one every minute."""
    pipeline = with_outputs("A")
    window = {"tumble": "1m"} if minutes == 1 else {"slide": "1m", "size": f"{minutes}m"}
    pipeline["aggregates"]["page_view_counts"]["window"] = window
    return pipeline


def write(pipeline: dict, corner: Corner) -> Path:
    """Writes the file into the corner's folder, once `millstream validate` takes it."""
    path = corner.folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    done = subprocess.run(
        [millstream(), "validate", str(path)],
        capture_output=True,
        text=True,
        env=corner.environment(),
        check=False,
    )
    if done.returncode != 0:
        raise NotSupported(done.stderr.strip())
    return path
