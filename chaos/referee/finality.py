"""What the view of final rows claims, against the logs, and against what becomes of those rows.

Owns: which claims are right for watermarks, and the rows that were called final. Never: a clock; the snapshot tells when it was
taken, and a partition's records when it was last fed. Whether a partition is left out as idle is the processor's to see; here it
only may be, if it was fed nothing for so long, and the claim must be right with some of these left out, or none.
Data: `check(snapshot, standings)` per snapshot -> violations. Tested: `tests/test_finality.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from . import instant
from .aggregate import AggregateJudge, SessionAggregate
from .snapshot import Final, Place, Snapshot
from .violation import Violation, shorten

# Clocks of producers, broker and database, and a look at the clock that comes late.
SLACK = 2 * instant.SECOND


class Standing(NamedTuple):
    """A partition at a snapshot. Without a progress row `next` is 0. `last_fed` is its last record's Kafka timestamp, in
    microseconds; `behind` says that records have been waiting there for long."""

    place: Place
    next: int
    watermark: int | None
    last_fed: int | None
    behind: bool = False
    taken: bool = True

    def may_be_idle(self, now: int, idle_after: int) -> bool:
        quiet = self.last_fed is None or now - self.last_fed >= idle_after - SLACK
        return self.taken and quiet and not self.behind


class Called(NamedTuple):
    """The rows that were final at a snapshot, and how far the partitions were that may have been left out."""

    through: int
    rows: dict[tuple, tuple]
    left_out: dict[Place, int]


class FinalityJudge:
    """Of one aggregate. Behind a hop, where watermarks arrive later, a claim may lag (`exact` is false)."""

    def __init__(self, aggregate: AggregateJudge, idle_after: int, exact: bool = True) -> None:
        self.aggregate, self.idle_after, self.exact = aggregate, idle_after, exact
        sessions = isinstance(aggregate, SessionAggregate)
        self.gap = aggregate.window.gap if sessions else None
        self.after_end = 2 * aggregate.window.gap if sessions else 0
        self.where = f"finality of {aggregate.name}"
        self.called: Called | None = None

    def check(self, snapshot: Snapshot, standings: list[Standing]) -> Iterator[Violation]:
        idle = {one.place for one in standings if one.may_be_idle(snapshot.taken, self.idle_after)}
        found = snapshot.finality.get(self.aggregate.name)
        yield from self.changed(snapshot)
        self.called = None
        if found is None:
            yield Violation("lost", self.where, "no row in the view")
            return
        yield from self.claim(found, standings, idle)
        if found.through is not None:
            rows = self.rows_through(snapshot, found.through)
            left_out = {one.place: one.next for one in standings if one.place in idle}
            self.called = Called(found.through, rows, left_out)

    def claim(self, found: Final, standings: list[Standing], idle: set[Place]) -> Iterator[Violation]:
        if found.session_gap != self.gap:
            yield Violation("phantom", self.where, f"session_gap is {found.session_gap}, due {self.gap}")
        due = right_claims(standings, idle)
        lateness = self.aggregate.definition.allowed_lateness
        due = {None if mark is None else mark - lateness for mark in due}
        known = [mark for mark in due if mark is not None]
        behind = found.through is None or known and found.through <= max(known)
        if found.through in due or behind and not self.exact:
            return
        if found.through is None:
            word = "stale"
        else:
            word = "stale" if known and found.through < min(known) else "premature"
        spelled = " or ".join(sorted(map(spell, due)))
        yield Violation(word, self.where, f"through {spell(found.through)}, due {spelled}")

    def rows_through(self, snapshot: Snapshot, through: int) -> dict[tuple, tuple]:
        """Those of the table that are final. A row begins with the end of its window or session."""
        table = snapshot.tables.get(self.aggregate.name, {})
        return {
            key: row
            for key, row in table.items()
            if type(row[0]) is int and row[0] + self.after_end <= through
        }

    def changed(self, snapshot: Snapshot) -> Iterator[Violation]:
        """A row that was called final is as it was, and has no new neighbours, unless a partition that was left out woke up."""
        if self.called is None:
            return
        through, before, left_out = self.called
        woken = [place for place, next_offset in left_out.items() if moved(snapshot, place, next_offset)]
        if woken:
            return
        table = snapshot.tables.get(self.aggregate.name, {})
        new = self.rows_through(snapshot, through).keys() - before.keys()
        for key in [*(key for key, row in before.items() if table.get(key) != row), *new]:
            where = f"table {self.aggregate.definition.table} row {shorten(key)}"
            there = f"is {shorten(table.get(key))}, was {shorten(before.get(key))}"
            yield Violation("premature", where, f"changed though final through {spell(through)}: {there}")


def right_claims(standings: list[Standing], idle: set[Place]) -> set[int | None]:
    """The watermark that counts, for each choice of partitions to leave out among those that may be idle."""
    busy = [one.watermark for one in standings if one.place not in idle]
    quiet = [one.watermark for one in standings if one.place in idle]
    if None in busy or not standings:
        return {None}
    if busy:
        least = min(busy)
        return {least, *(mark for mark in quiet if mark is None or mark < least)}
    return set(quiet)


def moved(snapshot: Snapshot, place: Place, before: int) -> bool:
    found = snapshot.progress.get(place)
    return found is None or found.next != before


def spell(micros: int | None) -> str:
    return "nothing" if micros is None else instant.to_text(micros)
