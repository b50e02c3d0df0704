"""Tables of records: the first row of each key, or every one; and each thing spoiled is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.referee.snapshot import Snapshot

from .click_worlds import CLICKS, PLAIN, cells, click, right_rows, table_of, words
from .worlds import COMMIT_TIME, TOPIC, World

MORE = {"deep": [1, {"b": 2.5, "a": None}], "big": 10**20, "on": True}


def world(text: str = CLICKS) -> World:
    made = World(text)
    made.add(click("a", n=1, ip="10.0.0.1", visit="0b0e7c3a-5f0e-4d3b-9f4e-1c2d3e4f5a6b", more=MORE))
    made.add(click("b", n=2), {**click("c"), "page": "relative"}, click("a", "10:00:01", n=9), click("d"))
    return made


@pytest.mark.parametrize("name", ["raw", "journal"])
def test_right_rows_pass(name: str) -> None:
    rows = right_rows(world(), name)
    assert [row["id"] for row in rows] == ["a", "b", "d"]
    assert words(world(), name, rows) == []
    assert words(world(), name, rows[::-1]) == []


@pytest.mark.parametrize("name", ["raw", "journal"])
def test_lost_duplicated_phantom(name: str) -> None:
    rows = right_rows(world(), name)
    assert words(world(), name, rows[1:]) == ["lost"]
    assert words(world(), name, [*rows, rows[0]]) == ["duplicated"]
    assert words(world(), name, [*rows, {**rows[0], "id": "z"}]) == ["phantom"]
    assert words(world(), name, [*rows, cells(click("c"))]) == ["phantom"]


WRONG = {
    "page": "/b",
    "n": 2,
    "at": 0,
    "ip": "10.0.0.2",
    "visit": None,
    "more": {**MORE, "on": 1},
    "day": 0,
    "tenfold": 11,
}


@pytest.mark.parametrize("column", WRONG)
def test_a_wrong_cell_is_found(column: str) -> None:
    rows = right_rows(world(), "raw")
    rows[0][column] = WRONG[column]
    assert words(world(), "raw", rows) == ["phantom"]


def test_json_is_compared_by_value() -> None:
    rows = right_rows(world(), "raw")
    rows[0]["more"] = {"on": True, "big": 1e20, "deep": [1.0, {"a": None, "b": 2.5}]}
    assert words(world(), "raw", rows) == []


def test_the_first_row_of_a_key_stays() -> None:
    made = world(PLAIN)
    rows = right_rows(made, "raw")
    assert [row["n"] for row in rows] == [1, 2, None]
    assert words(made, "raw", rows) == []
    assert words(made, "raw", [cells(click("a", "10:00:01", n=9)), *rows[1:]]) == ["stale"]
    assert len(right_rows(made, "journal")) == 4
    assert words(made, "journal", right_rows(made, "journal")) == []


def test_of_several_partitions_the_first_of_any_may_stay() -> None:
    made = World(PLAIN, partitions=2)
    made.add(click("a", n=1), click("a", n=2)).add(click("a", n=3), click("a", n=4), partition=1)
    found = [words(made, "raw", [cells(click("a", n=n))]) for n in (1, 2, 3, 4, 5)]
    assert found == [[], ["stale"], [], ["stale"], ["phantom"]]


def test_equal_records_are_a_multiset_without_a_key() -> None:
    made = World(PLAIN).add(*[click("a")] * 3)
    row = cells(click("a"))
    assert words(made, "journal", [row] * 3) == []
    assert words(made, "journal", [row] * 2) == ["lost"]
    assert words(made, "journal", [row] * 4) == ["duplicated"]
    assert words(made, "raw", [row]) == []


def snapshot_of(made: World, name: str, rows: list[dict]) -> Snapshot:
    """All else is right."""
    snapshot, referee = made.snapshot(), made.referee()
    for one in ("raw", "journal"):
        table = table_of(referee, one)
        given = rows if one == name else right_rows(made, one)
        found = [table.digest(tuple(row[column] for column in table.columns)) for row in given]
        snapshot.record_rows[one] = found
    return snapshot


def test_rows_of_a_prefix_are_compared_with_that_prefix() -> None:
    """A table that is ahead of its progress row, or behind it, is not of one transaction with it."""
    made = world()
    shorter = World(CLICKS)
    shorter.logs = {0: made.logs[0][:2]}
    ahead = snapshot_of(shorter, "raw", right_rows(made, "raw"))
    behind = snapshot_of(made, "raw", right_rows(shorter, "raw"))
    assert [one.word for one in shorter.referee().compare_snapshot(ahead)] == ["phantom"]
    assert [one.word for one in made.referee().compare_snapshot(behind)] == ["lost"]
    right = snapshot_of(shorter, "raw", right_rows(shorter, "raw"))
    assert shorter.referee().compare_snapshot(right) == []


@pytest.mark.parametrize("name", ["raw", "journal"])
def test_commit_times(name: str) -> None:
    made, rows = world(), right_rows(world(), name)
    for at, due in ((None, ["stale"]), ("soon", ["stale"]), (COMMIT_TIME + 1, [])):
        assert words(made, name, [{**rows[0], "written_at": at}, *rows[1:]]) == due
    referee = made.referee()
    snapshot = snapshot_of(made, name, [rows[0], {**rows[1], "written_at": COMMIT_TIME + 1}, rows[2]])
    assert referee.compare_snapshot(snapshot) == []
    assert {one.word for one in referee.commit_times(snapshot)} == {"stale"}
    assert {one.word for one in referee.interleaved_commit_times()} == {"torn"}
    referee, snapshot = made.referee(), snapshot_of(made, name, rows)
    assert referee.compare_snapshot(snapshot) == []
    assert referee.commit_times(snapshot) + referee.interleaved_commit_times() == []


def test_a_commit_time_of_an_older_epoch_is_not_that_of_the_last() -> None:
    made, rows = world(), right_rows(world(), "raw")
    referee = made.referee()
    snapshot = snapshot_of(made, "raw", [{**rows[0], "written_at": COMMIT_TIME - 1}, *rows[1:]])
    place = (TOPIC, 0)
    snapshot.progress[place] = replace(snapshot.progress[place], prev=1)
    assert referee.compare_snapshot(snapshot) == []
    assert referee.commit_times(snapshot) == []
