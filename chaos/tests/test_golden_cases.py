"""The outcomes worked out by hand are those of the referee."""

from __future__ import annotations

import pytest

from chaos import golden_cases
from chaos.golden_cases import GOLDEN, FileTest
from chaos.referee import pipeline
from chaos.referee.aggregate import AggregateJudge
from chaos.referee.judge import PartitionState, SourceJudge
from chaos.referee.record import Record
from chaos.referee.referee import Referee

COUNTS = ("matched", "counted", "too_late", "partly_late")
TESTS = {
    f"{name}: {test.title}": (name, test)
    for name in golden_cases.names_of_tested()
    for test in golden_cases.file_tests(name)
}


def judged(name: str, values: list[bytes]) -> tuple[SourceJudge, PartitionState]:
    referee = Referee(pipeline.load(GOLDEN / name / "pipeline.yaml", {}))
    ((topic, source),) = referee.sources.items()
    state = referee.begin((topic, 0), 0)
    referee.advance((topic, 0), [Record(at, None, None, value) for at, value in enumerate(values)])
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
    assert golden_cases.names_of_tested() == ["fifty-views", "session-rules"]
    others = {file.name for file in GOLDEN.iterdir()} - {
        *golden_cases.names(),
        *golden_cases.names_of_tested(),
    }
    assert others == {"bad-records"}


@pytest.mark.parametrize(("name", "test"), TESTS.values(), ids=TESTS)
def test_the_referee_agrees_with_the_tests_of_files(name: str, test: FileTest) -> None:
    source, _ = judged(name, test.values)
    rows = {one.name: rows_of(one) for one in source.aggregates}
    assert test.expect and all(test.is_met(aggregate, rows[aggregate]) for aggregate in test.expect)


def test_rows_that_are_not_those_of_a_test_do_not_meet_it() -> None:
    due = [{"n": 1, "window_start": "2026-01-30T01:00:00Z"}, {"n": 1}]
    listed, counted = FileTest("listed", [], {"a": due}), FileTest("counted", [], {"a": {"rows": 2}})
    first, second = {"n": 1, "m": 7, "window_start": "2026-01-30T01:00:00.000000Z"}, {"n": 1, "m": 8}
    for rows, met in (
        ([first, second], True),
        ([first], False),
        ([first, second, second], False),
        ([second, second], False),
        ([first, {**second, "n": 2}], False),
    ):
        assert listed.is_met("a", rows) is met
        assert counted.is_met("a", rows) is (len(rows) == 2)


@pytest.mark.parametrize("name", golden_cases.names())
def test_the_referee_agrees(name: str) -> None:
    case = golden_cases.read(name)
    source, state = judged(name, case.values)
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
    source, _ = judged(name, case.values)
    found = [
        (partition, offset, aggregate, letter.own["watermark"], int(letter.own["late_by_ms"]))
        for (partition, offset, aggregate), letter in source.late_stream.expected.items()
    ]
    due = case.expected["late"]
    names = ("partition", "offset", "aggregate", "watermark", "late_by_ms")
    assert found == [tuple(one[part] for part in names) for one in due]
