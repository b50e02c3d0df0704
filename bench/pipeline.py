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
OUTPUTS = {
    "A": "page views per minute and page -> PostgreSQL",
    "B": "distinct users, 5 min by 1 min -> PostgreSQL",
    "D": "every event with its processing time -> Kafka",
}


class NotSupported(Exception):
    """The program at hand refuses the file."""


def with_outputs(letters: str) -> dict:
    """W1 with those of its outputs that the letters name."""
    pipeline = yaml.safe_load(FILE.read_text())
    if "A" not in letters:
        del pipeline["aggregates"]["page_view_counts"]
    if "B" in letters:
        pipeline["aggregates"]["active_users"] = copy.deepcopy(ACTIVE_USERS)
    if "D" not in letters:
        del pipeline["records"]
    if not pipeline["aggregates"]:
        del pipeline["aggregates"]
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
