"""Which way a processor took after a fault, by what it says in its log.

Owns: the names of its log lines. Never: decides whether it ended well; the referee does.
Data: a log file from a position on -> counts. Tested: `tests/test_paths.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

RECOVERED, DROPPED, NEW_PRODUCER = "epoch recovered", "task dropped", "making a new producer"
REVOKED = "partitions revoked"
REPEATED = "no recovery"
# Of an owner that is none any more.
LET_GO = ("Fenced", "dropped", "lost")


class LogMark:
    """What the log says from now on."""

    def __init__(self, log: Path) -> None:
        self.log, self.position = log, log.stat().st_size if log.exists() else 0

    def lines(self) -> list[dict]:
        """Those that are complete; what is no JSON object is passed over."""
        with self.log.open("rb") as file:
            file.seek(self.position)
            found = file.read()
        parsed = map(parse, found[: found.rfind(b"\n") + 1].splitlines())
        return [line for line in parsed if line is not None]

    def path(self) -> str:
        """The decisions taken, of one fault: `WholeEpoch`, `OutputsOnly`, `Done`, `Fenced`; and what else was done."""
        counts = count(self.lines())
        return " + ".join(sorted(counts)) or REPEATED


def parse(line: bytes) -> dict | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def count(lines: list[dict]) -> Counter:
    counts: Counter = Counter()
    for line in lines:
        message = str(line.get("message", ""))
        if message == RECOVERED:
            counts[str(line.get("decision"))] += 1
        elif message.startswith(DROPPED):
            counts["dropped"] += 1
        elif message.endswith(NEW_PRODUCER):
            counts["new producer"] += 1
        elif message == REVOKED and line.get("lost") is True:
            counts["lost"] += 1
        elif line.get("level") == "ERROR":
            counts[f"error: {message}"] += 1
    return counts
