"""The points that a fault build reports, and which of them lie inside what.

Owns: the classes by which kills are counted. Data: the phase file, one line `<point> <arrival>` padded to 64 bytes.
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


@dataclass(frozen=True)
class Phase:
    point: str
    arrival: int


def read(path: Path) -> Phase | None:
    """None before the first point, and for a line that is being written."""
    try:
        parts = path.read_bytes()[:64].split()
    except FileNotFoundError:
        return None
    if len(parts) != 2 or not parts[1].isdigit():
        return None
    return Phase(parts[0].decode(), int(parts[1]))


def classes_of(point: str | None) -> list[str]:
    found = [name for name, points in CLASSES.items() if point in points]
    return found or [ELSEWHERE]
