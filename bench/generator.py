"""How fast `millstream generate` makes events, by profile: as lines that nobody keeps, and into a topic."""

from __future__ import annotations

import json
import subprocess

from bench.corner import Corner
from bench.program import ProgramFailed, millstream

PROFILES = (
    "user-activity",
    "enriched-activity",
    "clickstream-minute",
    "clickstream-10m",
    "user-sessions",
    "w1",
)
NOBODY = "/dev/null"
PARTITIONS = 3


def speeds(events: int) -> list[dict]:
    """Events per second of each profile."""
    found = []
    for profile in PROFILES:
        with Corner(PARTITIONS) as corner:
            command = [millstream(), "generate", profile, "--events", str(events), "--rate", "unlimited"]
            lines = speed(command, "--output", NOBODY)
            topic = speed(command, "--topic", corner.topics["input"])
        found.append({"profile": profile, "lines": lines, "topic": topic})
    return found


def speed(command: list[str], *target: str) -> float:
    done = subprocess.run(
        [*command, *target, "--summary", "json"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ProgramFailed(f"{' '.join(command)} ended with exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)["events_per_second"]
