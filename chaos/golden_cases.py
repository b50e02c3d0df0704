"""The golden cases that are a log and its outcome: `tests/golden/CASE/` with `pipeline.yaml`, `events.ndjson`, `expected.json`.

Owns: their form. The lines are the records of one partition, offset = line number from 0, key null, no timestamp. `expected.json`
is what `try --output json` prints, as far as it goes: rows in the order of the table's key, instants as RFC 3339 texts.
Never: computes an outcome; those were worked out by hand from the semantics page.
Tested: `tests/test_golden_cases.py` (the referee agrees).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from .referee import instant
from .servers import CHECKOUT

GOLDEN = CHECKOUT / "tests" / "golden"


@dataclass(frozen=True)
class GoldenCase:
    name: str
    values: list[bytes]
    expected: dict

    @property
    def pipeline(self) -> Path:
        return GOLDEN / self.name / "pipeline.yaml"


def names() -> list[str]:
    return sorted(file.parent.name for file in GOLDEN.glob("*/expected.json"))


def read(name: str) -> GoldenCase:
    lines = (GOLDEN / name / "events.ndjson").read_bytes().split(b"\n")
    expected = json.loads((GOLDEN / name / "expected.json").read_text(encoding="utf-8"))
    return GoldenCase(name, lines[:-1] if lines[-1] == b"" else lines, expected)


def spell_row(columns: list[str], cells: tuple) -> dict[str, object]:
    """A row as the file spells it; instants by the judge are numbers of columns that end in `_start`, `_end` or `_time`."""
    return {name: spell_cell(name, cell) for name, cell in zip(columns, cells, strict=True)}


def spell_cell(name: str, cell: object) -> object:
    if isinstance(cell, datetime):
        return instant.to_text(instant.of_datetime(cell))
    if isinstance(cell, Decimal):
        return int(cell)
    if type(cell) is int and name.endswith(("_start", "_end", "_time")):
        return instant.to_text(cell)
    return cell
