"""A table of records: every declared field and each field that is set, a row a record.

Owns: which rows must be there. With a key the first record of each (DO NOTHING): of one partition that is the first by offset,
of several the first of any of them, since their order is nobody's promise. Without a key every record, as a multiset.
Never: keeps rows; a row is compared by a hash of its values, commit times left out (they come from a clock).
Data: `expect` from the judge, `FoundRow` from the database -> violations. Tested: `tests/test_record_table.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from . import instant
from .commit_times import CommitTimes
from .expression import Typed
from .pipeline import Field, TableOutput, Unsupported
from .violation import Violation, shorten


class Origin(NamedTuple):
    partition: int
    offset: int
    signature: int


class FoundRow(NamedTuple):
    """`times` are the values of its commit-time columns, in microseconds; `shown` is for reports, where there is no key."""

    key: tuple
    signature: int
    times: tuple
    shown: str


class RecordTable:
    """`fields` are the source's; `set` fields of other names stand behind them, typed by their expressions."""

    def __init__(
        self, output: TableOutput, fields: tuple[Field, ...], added: list[tuple[str, Typed]]
    ) -> None:
        self.name, self.table = output.name, output.table
        self.added = dict(added)
        self.fields = [field.name for field in fields]
        self.columns = [*self.fields, *(name for name, _ in added if name not in self.fields)]
        types = {field.name: field.type for field in fields} | {name: one.type for name, one in added}
        self.clocks = [at for at, name in enumerate(self.columns) if types[name] == "commit_time"]
        self.json_columns = {name for name in self.columns if types[name] == "json"}
        missing = set(output.key) - set(self.columns)
        if missing:
            raise Unsupported(f"records.{output.name}.to.key {sorted(missing)}: no such column")
        self.key_places = [self.columns.index(name) for name in output.key]
        self.first: dict[tuple, list[Origin]] = {}
        self.passed_over: dict[tuple, set[int]] = {}
        self.every: dict[int, list[Origin]] = {}
        self.commit_times = CommitTimes(f"table {self.table}")

    # -- expected ----------------------------------------------------------------------------------------------------

    def evaluate(self, row: list) -> dict[str, object]:
        """The values of the fields that are set. May raise `ExpressionError`."""
        return {name: typed.evaluate(row) for name, typed in self.added.items()}

    def expect(self, partition: int, offset: int, row: list, added: dict[str, object]) -> None:
        given = {**dict(zip(self.fields, row, strict=True)), **added}
        found = self.digest(tuple(given[name] for name in self.columns))
        origin = Origin(partition, offset, found.signature)
        if not self.key_places:
            self.every.setdefault(found.signature, []).append(origin)
            return
        candidates = self.first.setdefault(found.key, [])
        if all(one.partition != partition for one in candidates):
            candidates.append(origin)
        elif found.signature not in {one.signature for one in candidates}:
            self.passed_over.setdefault(found.key, set()).add(found.signature)

    def due(self) -> int:
        """How many rows there must be."""
        return len(self.first) if self.key_places else sum(map(len, self.every.values()))

    def digest(self, cells: tuple) -> FoundRow:
        """A row by its values in the order of `columns`, as the judge keeps them."""
        key = tuple([cells[at] for at in self.key_places])
        times = tuple([cells[at] for at in self.clocks])
        plain = [
            frozen(cell) if name in self.json_columns else cell
            for name, cell in zip(self.columns, cells, strict=True)
        ]
        for at in self.clocks:
            plain[at] = None
        shown = "" if self.key_places else shorten(cells)
        return FoundRow(key, hash(tuple([(type(cell), cell) for cell in plain])), times, shown)

    # -- compared ----------------------------------------------------------------------------------------------------

    def compare(self, rows: list[FoundRow]) -> Iterator[Violation]:
        """Every row of the table in one snapshot."""
        self.commit_times = CommitTimes(f"table {self.table}")
        yield from self.compare_keyed(rows) if self.key_places else self.compare_every(rows)

    def compare_keyed(self, rows: list[FoundRow]) -> Iterator[Violation]:
        seen: set[tuple] = set()
        for row in rows:
            where = f"table {self.table} row {shorten(row.key)}"
            if row.key in seen:
                yield Violation("duplicated", where, "more than one row of this key")
                continue
            seen.add(row.key)
            origins = [one for one in self.first.get(row.key, ()) if one.signature == row.signature]
            if origins:
                yield from self.check_times(row, origins, where)
            elif row.signature in self.passed_over.get(row.key, ()):
                yield Violation("stale", where, "it is a later record of its key")
            else:
                yield Violation("phantom", where, "no record explains its values")
        for key in self.first.keys() - seen:
            places = ", ".join(f"{one.partition}@{one.offset}" for one in self.first[key])
            yield Violation(
                "lost", f"table {self.table} row {shorten(key)}", f"no such row, due from {places}"
            )

    def compare_every(self, rows: list[FoundRow]) -> Iterator[Violation]:
        there: Counter = Counter()
        for row in rows:
            there[row.signature] += 1
            origins = self.every.get(row.signature, [])
            where = f"table {self.table}"
            if there[row.signature] <= len(origins):
                yield from self.check_times(row, origins, where)
            else:
                word = "duplicated" if origins else "phantom"
                yield Violation(word, where, f"{there[row.signature]} rows, due {len(origins)}: {row.shown}")
        for signature, origins in self.every.items():
            if there[signature] < len(origins):
                places = ", ".join(f"{one.partition}@{one.offset}" for one in origins)
                detail = f"{there[signature]} rows of {len(origins)}, due from {places}"
                yield Violation("lost", f"table {self.table}", detail)

    def check_times(self, row: FoundRow, origins: list[Origin], where: str) -> Iterator[Violation]:
        """All columns of one clock say the same; whose epoch it was is known where one record alone explains the row."""
        if not row.times:
            return
        if len(set(row.times)) > 1 or type(row.times[0]) is not int:
            yield Violation("stale", where, f"no commit time: {row.times} {row.shown}")
        elif len(origins) == 1:
            self.commit_times.note(origins[0].partition, origins[0].offset, instant.to_text(row.times[0]))


def frozen(value: object) -> object:
    """A JSON value as something that can be hashed: PostgreSQL keeps no order of keys and no spelling of numbers."""
    if isinstance(value, dict):
        return ("object", frozenset((key, frozen(one)) for key, one in value.items()))
    if isinstance(value, list):
        return ("array", tuple(frozen(one) for one in value))
    if type(value) in (int, float):
        try:
            return ("number", float(value))
        except OverflowError:
            return ("number", "huge")
    return (type(value).__name__, value)
