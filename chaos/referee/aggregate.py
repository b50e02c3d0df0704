"""What one aggregate expects: its rows, and what each record adds to them.

Owns: `where`, `by`, the selected columns, lateness by windows and by sessions, and the columns in which a row says where it
lies in time. Never: a verdict, a watermark; they come with the record.
Data: `contribution(row)` evaluates, `count(...)` adds; then `rows`: (start, by values...) to one accumulator a column.
Tested: `tests/test_judge.py`, `tests/test_sessions.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from . import accumulator, instant
from .expression import Typed, compile_expression, parse_expression
from .expression.compiler import coerce
from .pipeline import Aggregate, Sessions
from .sessions import Entry, OrderedSessions, Session, SessionWindow, SortedSessions
from .window import Window

OTHER_KEY_BYTES = 8


class Contribution(NamedTuple):
    aggregate: AggregateJudge
    by: tuple
    arguments: list


class Arrival(NamedTuple):
    """Where and when a record came: its event time, and its partition's watermark before it. `forgets` is what no later record
    of that partition is judged by less than; None where that is not known."""

    partition: int
    event_time: int
    watermark: int | None
    forgets: int | None


class AggregateJudge:
    """What windows and sessions have in common. `time_column` comes first in a row's key, `end_columns` behind it."""

    time_column: str
    end_columns: tuple[str, ...]

    def __init__(self, aggregate: Aggregate, schema: dict[str, tuple[int, str]]) -> None:
        self.name, self.definition = aggregate.name, aggregate
        self.where = boolean(aggregate.where, schema) if aggregate.where else None
        self.by: list[Typed] = [compiled(text, schema) for _, text in aggregate.by]
        self.by_functions = [typed.evaluate for typed in self.by]
        self.columns = [accumulator.compile_column(name, text, schema) for name, text in aggregate.select]
        self.arguments = [column.argument for column in self.columns]
        self.initial = [column.initial for column in self.columns]

    @property
    def rows(self) -> dict[tuple, list]:
        raise NotImplementedError

    def ends(self, key: tuple) -> tuple[int, ...]:
        """The values of `end_columns` in the row of this key."""
        raise NotImplementedError

    def count(self, counts: Counter, arrival: Arrival, contribution: Contribution) -> int | None:
        """Adds and counts. The end of the latest window if the record is too late for all, else None."""
        raise NotImplementedError

    def lateness(self, event_time: int, watermark: int | None) -> object:
        """How late such a record is, wherever it would count: equal answers have equal effects."""
        raise NotImplementedError

    def contribution(self, row: list) -> Contribution | None:
        """What this row would add; None where `where` is not true. May raise `ExpressionError`."""
        if self.where is not None and self.where(row) is not True:
            return None
        by = tuple([function(row) for function in self.by_functions])
        return Contribution(self, by, [argument(row) for argument in self.arguments])

    def key_bytes(self, by: tuple) -> int:
        sizes = (
            len(value.encode("utf-8")) if typed.type == "text" and value is not None else OTHER_KEY_BYTES
            for typed, value in zip(self.by, by, strict=True)
        )
        return sum(sizes)

    def fold(self, states: list, late: bool, arguments: list) -> None:
        for index, value in enumerate(arguments):
            if value is not None:
                column = self.columns[index]
                if late or not column.counts_late:
                    states[index] = column.add(states[index], value)

    def latest(self) -> dict[tuple, tuple]:
        """By values to the key of their newest row."""
        newest: dict[tuple, tuple] = {}
        for key in self.rows:
            if key > newest.get(key[1:], ()):
                newest[key[1:]] = key
        return newest


class WindowAggregate(AggregateJudge):
    time_column, end_columns = "window_start", ("window_end",)

    def __init__(self, aggregate: Aggregate, schema: dict[str, tuple[int, str]]) -> None:
        super().__init__(aggregate, schema)
        self.window = Window(aggregate.window.size, aggregate.window.slide, aggregate.allowed_lateness)
        self.found: dict[tuple, list] = {}

    @property
    def rows(self) -> dict[tuple, list]:
        return self.found

    def ends(self, key: tuple) -> tuple[int, ...]:
        return (self.window.end(key[0]),)

    def lateness(self, event_time: int, watermark: int | None) -> object:
        window = self.window
        return [
            (window.is_late(start, watermark), window.is_too_late(start, watermark))
            for start in window.starts(event_time)
        ]

    def count(self, counts: Counter, arrival: Arrival, contribution: Contribution) -> int | None:
        window, watermark = self.window, arrival.watermark
        starts = window.starts(arrival.event_time)
        open_starts = starts
        if watermark is not None and arrival.event_time < watermark:
            open_starts = [start for start in starts if not window.is_too_late(start, watermark)]
        if not open_starts:
            return window.end(starts[-1])
        counts["counted"] += 1
        if len(open_starts) < len(starts):
            counts["partly_late"] += 1
        for start in open_starts:
            key = (start, *contribution.by)
            states = self.found.get(key)
            if states is None:
                states = self.found[key] = list(self.initial)
            self.fold(states, window.is_late(start, watermark), contribution.arguments)
        return None


class Owner:
    """One key's sessions: those that may still change, by a model, and the keys of their rows."""

    __slots__ = ("partition", "watermark", "model", "shown")

    def __init__(self, partition: int, model: SortedSessions | OrderedSessions) -> None:
        self.partition, self.watermark, self.model = partition, None, model
        self.shown: list[tuple] = []


class SessionAggregate(AggregateJudge):
    """Rows are brought up to date when they are asked for: at any prefix of the log, and again later."""

    time_column, end_columns = "session_start_time", ("session_end_time", "session_duration_seconds")

    def __init__(self, aggregate: Aggregate, schema: dict[str, tuple[int, str]]) -> None:
        super().__init__(aggregate, schema)
        self.window = SessionWindow(aggregate.window.gap, aggregate.allowed_lateness)
        self.longest = aggregate.window.max_duration
        self.owners: dict[tuple, Owner] = {}
        self.changed: set[tuple] = set()
        self.found: dict[tuple, list] = {}
        self.last_times: dict[tuple, int] = {}

    @property
    def rows(self) -> dict[tuple, list]:
        for by in self.changed:
            self.renew(by, self.owners[by])
        self.changed.clear()
        return self.found

    def ends(self, key: tuple) -> tuple[int, ...]:
        last = self.last_times[key]
        return (last, (last - key[0]) // instant.SECOND)

    def lateness(self, event_time: int, watermark: int | None) -> object:
        return self.window.is_late(event_time, watermark), self.window.is_too_late(event_time, watermark)

    def count(self, counts: Counter, arrival: Arrival, contribution: Contribution) -> int | None:
        """Raises ValueError where a key's records lie in two partitions: their order is then nobody's promise."""
        time, watermark, by = arrival.event_time, arrival.watermark, contribution.by
        if self.window.is_too_late(time, watermark):
            return self.window.end(time)
        counts["counted"] += 1
        owner = self.owners.get(by)
        if owner is None:
            owner = self.owners[by] = Owner(arrival.partition, self.new_model())
        if owner.partition != arrival.partition:
            places = f"partitions {owner.partition} and {arrival.partition}"
            raise ValueError(
                f"aggregate {self.name}: key {by} lies in {places}, the source is not keyed by it"
            )
        owner.model.add(Entry(time, self.window.is_late(time, watermark), contribution.arguments))
        owner.watermark = arrival.forgets
        self.changed.add(by)
        return None

    def new_model(self) -> SortedSessions | OrderedSessions:
        if self.longest is None:
            return SortedSessions(self.window.gap)
        return OrderedSessions(self.window.gap, self.longest)

    def renew(self, by: tuple, owner: Owner) -> None:
        """Rows of sessions that no record can reach any more stay as they are, and their records are let go."""
        for key in owner.shown:
            del self.found[key], self.last_times[key]
        owner.shown = []
        for session in owner.model.sessions():
            key = (session.start, *by)
            self.found[key], self.last_times[key] = self.states_of(session), session.end
            if self.window.is_settled(session.end, owner.watermark):
                owner.model.forget(session)
            else:
                owner.shown.append(key)

    def states_of(self, session: Session) -> list:
        states = list(self.initial)
        for entry in session.entries:
            self.fold(states, entry.late, entry.arguments)
        return states


def judge_of(aggregate: Aggregate, schema: dict[str, tuple[int, str]]) -> AggregateJudge:
    kind = SessionAggregate if isinstance(aggregate.window, Sessions) else WindowAggregate
    return kind(aggregate, schema)


def compiled(text: str, schema: dict[str, tuple[int, str]]) -> Typed:
    return compile_expression(parse_expression(text), schema)


def boolean(text: str, schema: dict[str, tuple[int, str]]):
    return coerce(compiled(text, schema), "boolean").evaluate
