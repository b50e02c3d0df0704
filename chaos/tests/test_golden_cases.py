"""The outcomes worked out by hand are those of the referee."""

from __future__ import annotations

import pytest

from chaos import golden_cases
from chaos.golden_cases import GoldenCase
from chaos.referee import pipeline
from chaos.referee.aggregate import AggregateJudge
from chaos.referee.judge import PartitionState, Record, SourceJudge
from chaos.referee.referee import Referee

COUNTS = ("matched", "counted", "too_late", "partly_late")


def judged(case: GoldenCase) -> tuple[SourceJudge, PartitionState]:
    referee = Referee(pipeline.load(case.pipeline, {}))
    ((topic, source),) = referee.sources.items()
    state = referee.begin((topic, 0), 0)
    referee.advance((topic, 0), [Record(at, None, None, value) for at, value in enumerate(case.values)])
    return source, state


def rows_of(aggregate: AggregateJudge) -> list[dict]:
    columns = [aggregate.time_column, *(name for name, _ in aggregate.definition.by), *aggregate.end_columns]
    columns += [column.name for column in aggregate.columns]
    rows = []
    for key, states in aggregate.rows.items():
        cells = [column.finish(state) for column, state in zip(aggregate.columns, states, strict=True)]
        rows.append(golden_cases.spell_row(columns, (*key, *aggregate.ends(key), *cells)))
    return sorted(rows, key=lambda row: [row[name] for name in aggregate.definition.key])


def test_the_cases_are_found() -> None:
    assert golden_cases.names() == ["dedup", "sessions", "sessions-max-duration"]


@pytest.mark.parametrize("name", golden_cases.names())
def test_the_referee_agrees(name: str) -> None:
    case = golden_cases.read(name)
    source, state = judged(case)
    (verdict,) = case.expected["verdicts"]
    for count in ("read", "accepted", "duplicate", "dead"):
        assert getattr(state, count) == verdict[count], count
    assert dict(state.dead_by_reason) == verdict["dead_by_reason"]
    assert case.expected["checks"] == {source.source.name: dict(state.failed_checks)}
    assert case.expected["aggregates"].keys() == {one.name for one in source.aggregates}
    for aggregate in source.aggregates:
        due = case.expected["aggregates"][aggregate.name]
        assert {count: state.aggregates[aggregate.name][count] for count in COUNTS} == {
            count: due[count] for count in COUNTS
        }
        assert rows_of(aggregate) == due["rows"]


@pytest.mark.parametrize("name", golden_cases.names())
def test_late_letters(name: str) -> None:
    case = golden_cases.read(name)
    source, _ = judged(case)
    found = [
        (partition, offset, aggregate, letter.own["watermark"], int(letter.own["late_by_ms"]))
        for (partition, offset, aggregate), letter in source.late_stream.expected.items()
    ]
    due = case.expected["late"]
    names = ("partition", "offset", "aggregate", "watermark", "late_by_ms")
    assert found == [tuple(one[part] for part in names) for one in due]
