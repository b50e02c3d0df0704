"""The load has everything in it that the kill loop must get right."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from chaos.generator import Generator
from chaos.referee import pipeline
from chaos.referee.judge import Record
from chaos.referee.referee import Referee

REASONS = {
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
    "EXPRESSION_ERROR",
    "KEY_TOO_LONG",
}
PIPELINE = Path(__file__).parents[1] / "pipelines" / "kill-loop.yaml"


def test_every_kind_occurs() -> None:
    plan = pipeline.load(PIPELINE, {"DATABASE_URL": "unused"})
    referee = Referee(plan)
    (topic,) = referee.sources
    start = datetime(2026, 1, 30, tzinfo=UTC)
    now = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
    generator = Generator(1, start, 1)
    state = referee.begin((topic, 0), 0)
    for offset in range(20_000):
        event = generator.next()
        record = Record(offset, now, event.key, event.value, tuple(event.headers))
        referee.advance((topic, 0), [record])
    assert set(state.dead_by_reason) == REASONS
    counts = state.aggregates["page_view_counts"]
    assert counts["too_late"] > 100 and counts["counted"] > 5_000
    assert state.failed_checks["amount_is_positive"] > 100
    assert 0.02 < state.dead / state.read < 0.08


def test_a_seed_is_a_load() -> None:
    start = datetime(2026, 1, 30, tzinfo=UTC)
    first, second = Generator(7, start, 4), Generator(7, start, 4)
    assert [first.next() for _ in range(1000)] == [second.next() for _ in range(1000)]
