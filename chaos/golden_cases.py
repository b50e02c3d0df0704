"""The golden cases, of two forms: a log and its outcome (`tests/golden/CASE/` with `pipeline.yaml`, `events.ndjson`,
`expected.json`), or a file with tests in it (`tests` of `pipeline.yaml`).

Owns: their form. The lines are the records of one partition, offset = line number from 0, key null, no timestamp. `expected.json`
is what `try --output json` prints, as far as it goes: rows in the order of the table's key, instants as RFC 3339 texts. A test's
rows stand in any order and name the columns that they are about.
Never: computes an outcome; those were worked out by hand from the semantics page.
Tested: `tests/test_golden_cases.py` (the referee agrees).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import yaml

from .referee import instant
from .servers import CHECKOUT

GOLDEN = CHECKOUT / "tests" / "golden"


@dataclass(frozen=True)
class GoldenCase:
    values: list[bytes]
    expected: dict


@dataclass(frozen=True)
class FileTest:
    """`expect`: by aggregate, its rows, or `rows` and how many there are."""

    title: str
    values: list[bytes]
    expect: dict[str, list[dict] | dict[str, int]]

    def is_met(self, aggregate: str, found: list[dict]) -> bool:
        """Whether these are the aggregate's rows, as `spell_row` has them."""
        due = self.expect[aggregate]
        if isinstance(due, dict):
            return len(found) == due["rows"]
        left = list(found)
        for row in due:
            wanted = {name: spell_expected(name, cell) for name, cell in row.items()}
            same = next((one for one in left if wanted.items() <= one.items()), None)
            if same is None:
                return False
            left.remove(same)
        return not left


def names() -> list[str]:
    return sorted(file.parent.name for file in GOLDEN.glob("*/expected.json"))


def read(name: str) -> GoldenCase:
    lines = (GOLDEN / name / "events.ndjson").read_bytes().split(b"\n")
    expected = json.loads((GOLDEN / name / "expected.json").read_text(encoding="utf-8"))
    return GoldenCase(lines[:-1] if lines[-1] == b"" else lines, expected)


def names_of_tested() -> list[str]:
    return sorted(file.parent.name for file in GOLDEN.glob("*/pipeline.yaml") if raw_tests(file))


def file_tests(name: str) -> list[FileTest]:
    found = []
    for raw in raw_tests(GOLDEN / name / "pipeline.yaml"):
        ((_, events),) = raw["given"].items()
        values = [json.dumps(event).encode() for one in events for event in repeated(one)]
        found.append(FileTest(raw["name"], values, raw["expect"]))
    return found


def raw_tests(file: Path) -> list[dict]:
    return yaml.safe_load(file.read_text(encoding="utf-8")).get("tests") or []


def repeated(raw: dict) -> Iterator[dict]:
    """`{i}` in a repeated event's texts counts from 0."""
    fields = {name: value for name, value in raw.items() if name != "repeat"}
    for number in range(raw.get("repeat", 1)):
        yield {
            name: value.replace("{i}", str(number)) if isinstance(value, str) and "repeat" in raw else value
            for name, value in fields.items()
        }


def spell_row(columns: list[str], cells: tuple) -> dict[str, object]:
    """A row as the file spells it; instants by the judge are numbers of columns that end in `_start`, `_end` or `_time`."""
    return {name: spell_cell(name, cell) for name, cell in zip(columns, cells, strict=True)}


def is_instant(name: str) -> bool:
    return name.endswith(("_start", "_end", "_time"))


def spell_expected(name: str, cell: object) -> object:
    return instant.to_text(instant.parse(cell)) if is_instant(name) else cell


def spell_cell(name: str, cell: object) -> object:
    if isinstance(cell, datetime):
        return instant.to_text(instant.of_datetime(cell))
    if isinstance(cell, Decimal):
        return int(cell)
    if type(cell) is int and is_instant(name):
        return instant.to_text(cell)
    return cell
