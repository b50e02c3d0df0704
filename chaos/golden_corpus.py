"""The golden corpus of bad records: `tests/golden/bad-records/records.json`, and what no line of a file can be.

Owns: how the corpus is spelled, and the two arrangements in which it is sent. Never: decides a verdict; the corpus names it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from .golden_cases import GOLDEN

BURST = 300
BURST_BYTES = 4 << 20


class BadRecord(NamedTuple):
    name: str
    value: bytes | None
    verdict: str


def arrangements() -> dict[str, list[BadRecord]]:
    return {"bad records, each alone": corpus(), "bad records in bursts of 100 %": in_bursts(corpus())}


def corpus() -> list[BadRecord]:
    """The corpus of `try`, and what no line of a file can be: no value, and a future that the broker's clock tells."""
    raw = json.loads((GOLDEN / "bad-records" / "records.json").read_text(encoding="utf-8"))
    # Why: against a broker's timestamp that event is from the future; `future` below is the same on purpose.
    held = [case for case in raw if not case["name"].startswith("future date")]
    ahead = datetime.now(UTC) + timedelta(hours=1)
    future = json.dumps({"at": ahead.strftime("%Y-%m-%dT%H:%M:%SZ"), "page": "/a"}).encode()
    extra = [
        BadRecord("no value", None, "NULL_VALUE"),
        BadRecord("an hour ahead of the broker", future, "FUTURE_EVENT"),
    ]
    return [BadRecord(case["name"], value_of(case), case["verdict"]) for case in held] + extra


def value_of(case: dict) -> bytes:
    value = case.get("value", "").encode() + bytes.fromhex(case.get("hex", ""))
    for text, times in filter(None, (case.get("repeat"), case.get("repeat_then"))):
        value += text.encode() * times
    return value + case.get("end", "").encode()


def in_bursts(records: list[BadRecord]) -> list[BadRecord]:
    """Nothing but this record, many times, then the next; no good record in between."""
    bad = [record for record in records if record.verdict != "accepted"]
    return [one for one in bad for _ in range(min(BURST, max(3, BURST_BYTES // (len(one.value or b"") + 1))))]
