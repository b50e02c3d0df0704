"""The points that a fault build reports, and which of them lie inside what.

Owns: the classes by which kills are counted. Data: the phase file, for each worker a line `<point> <arrival>` padded to 64
bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BOOTSTRAP = ("bootstrap-row-inserted", "bootstrap-offset-committed", "bootstrap-marked")
TAKE = ("take-fenced", "take-group-offset-read", "take-state-opened", "take-decided")
KAFKA_OPEN = ("kafka-begun", "kafka-produced", "kafka-drained", "kafka-offsets-sent")
POSTGRES_OPEN = (
    "postgres-begun",
    "postgres-progress-updated",
    "postgres-rows-merged",
    "postgres-dead-letters-written",
    "postgres-committing",
)
DECIDED = ("postgres-committed", "kafka-committing")
AFTER = ("kafka-committed", "state-writing", "state-written")
REPLAY = ("replay-state-written",)
RECOVERY = (
    "recovery-producer-recreated",
    "recovery-progress-read",
    "recovery-group-offset-read",
    "recovery-decided",
)
OUTPUTS_ONLY = ("outputs-only-produced", "outputs-only-checked", "outputs-only-committed")
REBALANCE = ("group-revoking",)
OUTPUTS_ONLY_OPEN = ("outputs-only-produced", "outputs-only-checked")

CLASSES = {
    "open Kafka transaction": (*KAFKA_OPEN, *POSTGRES_OPEN, *DECIDED, *OUTPUTS_ONLY_OPEN),
    "open PostgreSQL transaction": POSTGRES_OPEN,
    "recovery": (*BOOTSTRAP, *TAKE, *RECOVERY, *OUTPUTS_ONLY, *REPLAY),
}
ELSEWHERE = "elsewhere"
LINE_BYTES = 64


@dataclass(frozen=True)
class Phase:
    point: str
    arrival: int

    def __str__(self) -> str:
        return f"{self.point}:{self.arrival}"


def listed(found: list[Phase]) -> str:
    return ", ".join(map(str, found)) or "before any point"


def read(path: Path) -> list[Phase]:
    """Where each worker stands. None before its first point, and for a line that is being written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = [content[at : at + LINE_BYTES].strip(b"\0").split() for at in range(0, len(content), LINE_BYTES)]
    return [Phase(line[0].decode(), int(line[1])) for line in lines if len(line) == 2 and line[1].isdigit()]


def classes_of(points: list[str]) -> list[str]:
    """Those that one of the points lies in."""
    found = [name for name, inside in CLASSES.items() if any(point in inside for point in points)]
    return found or [ELSEWHERE]
