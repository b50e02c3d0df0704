"""The load has everything in it that the kill loop must get right."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from chaos.generator import Event, Generator, Shares
from chaos.options import PIPELINES
from chaos.referee import pipeline
from chaos.referee.aggregate import SessionAggregate
from chaos.referee.judge import PartitionState, SourceJudge
from chaos.referee.record import Record
from chaos.referee.referee import Referee
from chaos.shape import Shape

COMMON_REASONS = {
    "NULL_VALUE",
    "TOO_LARGE",
    "NOT_UTF8",
    "NOT_JSON",
    "MISSING_FIELD",
    "WRONG_TYPE",
    "BAD_TIMESTAMP",
    "OUT_OF_RANGE",
    "NUL_CHARACTER",
    "FUTURE_EVENT",
    "CHECK_FAILED:url_is_path",
    "KEY_TOO_LONG",
}
REASONS = {
    "kill-loop": COMMON_REASONS | {"EXPRESSION_ERROR"},
    "sliding": COMMON_REASONS | {"EXPRESSION_ERROR"},
    "sessions": COMMON_REASONS,
    "dedup": COMMON_REASONS,
}
START = datetime(2026, 1, 30, tzinfo=UTC)
NOW = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
EVENTS = 12_000
# Of event time so much that dedup has forgotten the first.
LONG = 20_000


def plan_of(name: str) -> pipeline.Pipeline:
    return pipeline.load(PIPELINES / f"{name}.yaml", {"DATABASE_URL": "unused"})


def generator_of(name: str, seed: int = 1, partitions: int = 1, shares: Shares = Shares()) -> Generator:
    plan = plan_of(name)
    return Generator(Shape.of(plan, next(iter(plan.sources.values()))), seed, START, partitions, shares)


def judged(
    name: str, partitions: int = 1, shares: Shares = Shares(), events: int = EVENTS
) -> tuple[SourceJudge, list[PartitionState]]:
    referee = Referee(plan_of(name))
    ((topic, source),) = referee.sources.items()
    states = [referee.begin((topic, number), 0) for number in range(partitions)]
    generator = generator_of(name, partitions=partitions, shares=shares)
    for _ in range(events):
        event = generator.next()
        state = states[event.partition]
        source.judge(state, Record(state.next, NOW, event.key, event.value, tuple(event.headers)))
    return source, states


@pytest.mark.parametrize("name", REASONS)
def test_every_kind_occurs(name: str) -> None:
    source, (state,) = judged(name)
    assert set(state.dead_by_reason) == REASONS[name]
    assert 0.02 < state.dead / state.read < 0.08
    assert state.failed_checks["amount_is_positive"] > 100
    for aggregate in source.aggregates:
        counts = state.aggregates[aggregate.name]
        assert counts["too_late"] > 100 and counts["counted"] > 5_000, aggregate.name


@pytest.mark.parametrize("name", REASONS)
def test_without_bad_ones_nothing_is_dead(name: str) -> None:
    _, (state,) = judged(name, shares=Shares(bad=0.0), events=3_000)
    assert state.dead == 0


@pytest.mark.parametrize("name", REASONS)
def test_a_seed_is_a_load(name: str) -> None:
    first, second = generator_of(name, 7, 4), generator_of(name, 7, 4)
    assert [first.next() for _ in range(1000)] == [second.next() for _ in range(1000)]


# -- sessions --------------------------------------------------------------------------------------------------------------


def aggregate_named(source: SourceJudge, name: str) -> SessionAggregate:
    (found,) = (one for one in source.aggregates if one.name == name)
    return found


def test_sessions_meet_their_borders() -> None:
    """Steps of the gap exactly and of a microsecond more; late rows; sessions of one record, of many, and too long."""
    source, _ = judged("sessions", partitions=4)
    sessions = aggregate_named(source, "user_sessions")
    assert sessions.owners.keys() and len({owner.partition for owner in sessions.owners.values()}) == 4
    gap, steps = sessions.window.gap, Counter()
    for owner in sessions.owners.values():
        times = sorted(entry.time for entry in owner.model.entries)
        steps.update(after - before for before, after in zip(times, times[1:], strict=False))
    assert steps[gap] > 50 and steps[gap + 1] > 50
    rows = sessions.rows
    late = [column.name for column in sessions.columns].index("late_count")
    assert sum(states[late] for states in rows.values()) > 50
    sizes = Counter(states[0] for states in rows.values())
    assert sizes[1] > 150 and sum(count for size, count in sizes.items() if size > 5) > 50
    cut = aggregate_named(source, "short_visits")
    assert max(cut.ends(key)[0] - key[0] for key in cut.rows) <= cut.longest
    assert max(sessions.ends(key)[0] - key[0] for key in rows) > cut.longest


def test_sessions_are_bridged() -> None:
    """A record that makes one session of two leaves one row less behind."""
    referee = Referee(plan_of("sessions"))
    ((topic, source),) = referee.sources.items()
    state, generator = referee.begin((topic, 0), 0), generator_of("sessions", shares=Shares(bad=0.0))
    sessions, before, bridged = aggregate_named(source, "user_sessions"), 0, 0
    for offset in range(3_000):
        event = generator.next()
        source.judge(state, Record(offset, NOW, event.key, event.value))
        rows = len(sessions.rows)
        bridged += rows < before
        before = rows
    assert bridged > 10


def test_a_keyed_source_has_each_user_in_one_partition() -> None:
    generator = generator_of("sessions", partitions=4, shares=Shares(bad=0.0))
    events = [generator.next() for _ in range(5_000)]
    places: dict[bytes, set[int]] = {}
    for event in events:
        if event.key is not None:
            places.setdefault(event.key, set()).add(event.partition)
    assert len(places) > 500 and all(len(found) == 1 for found in places.values())
    assert {event.partition for event in events} == {0, 1, 2, 3}


# -- copies ----------------------------------------------------------------------------------------------------------------


def test_copies_come_before_and_after_dedup_forgets() -> None:
    source, states = judged("dedup", partitions=4, events=LONG)
    accepted = sum(state.accepted for state in states)
    duplicates = sum(state.duplicate for state in states)
    raw, journal = source.tables
    assert duplicates > 400
    assert journal.due() == accepted
    assert accepted - raw.due() > 20
    both = [origins for origins in raw.first.values() if len({one.partition for one in origins}) > 1]
    assert len(both) > 5 and len(raw.passed_over) > 5


def test_values_are_there() -> None:
    """Optional fields too, in a part of the events."""
    generator = generator_of("dedup", shares=Shares(bad=0.0))
    events: list[Event] = [generator.next() for _ in range(500)]
    for name in ("referrer", "ip", "visit", "details", "received_at"):
        having = sum(b'"' + name.encode() + b'":' in event.value for event in events)
        assert 50 < having < 450, name
