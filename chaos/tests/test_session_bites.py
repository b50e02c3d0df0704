"""The referee bites where sessions are wrong: each thing spoiled is named by the right word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.referee.snapshot import Snapshot

from .session_worlds import CUT, DAY, at, hit, world
from .worlds import TOPIC, World, letter

PLACE = (TOPIC, 0)
FIRST, SECOND = (at("10:00:00"), "u"), (at("11:00:00"), "u")


def two_users() -> World:
    """Two sessions of one user, and one of another."""
    return world(
        hit("10:00:00", amount=1),
        hit("10:20:00", amount=2),
        hit("10:10:00", amount=3),
        hit("10:05:00", "v"),
        hit("11:00:00", amount=4),
    )


def words(snapshot: Snapshot, made: World | None = None) -> set[str]:
    return {violation.word for violation in (made or two_users()).referee().compare_snapshot(snapshot)}


def test_right_outputs_pass() -> None:
    assert two_users().snapshot().tables["visits"].keys() == {FIRST, SECOND, (at("10:05:00"), "v")}
    assert words(two_users().snapshot()) == set()


CELLS = {
    "end too early": (0, lambda end: end - 1, "stale"),
    "end too late": (0, lambda end: end + 1, "phantom"),
    "duration too short": (1, lambda seconds: seconds - 1, "stale"),
    "duration too long": (1, lambda seconds: seconds + 1, "phantom"),
    "count too small": (2, lambda count: count - 1, "lost"),
    "count too large": (2, lambda count: count + 1, "duplicated"),
    "sum too small": (4, lambda total: total - 1, "lost"),
    "least": (5, lambda least: least + 1, "stale"),
    "late": (6, lambda late: late + 1, "duplicated"),
    "null": (0, lambda end: None, "phantom"),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_wrong_cell_is_found_in_table_and_view(name: str) -> None:
    index, change, word = CELLS[name]
    snapshot = two_users().snapshot()
    rows = snapshot.tables["visits"]
    rows[FIRST] = tuple(change(cell) if at == index else cell for at, cell in enumerate(rows[FIRST]))
    assert words(snapshot) == {word}
    snapshot = two_users().snapshot()
    view = snapshot.latest["visits"]
    view[("u",)] = tuple(change(cell) if at == index + 1 else cell for at, cell in enumerate(view[("u",)]))
    assert words(snapshot) == {word}


def test_rows_lost_phantom_and_repeated() -> None:
    lost, phantom, repeated = (two_users().snapshot() for _ in range(3))
    row = lost.tables["visits"].pop(FIRST)
    phantom.tables["visits"][(at("09:00:00"), "u")] = row
    repeated.repeated_rows["visits"] = [FIRST]
    assert [words(one) for one in (lost, phantom, repeated)] == [{"lost"}, {"phantom"}, {"duplicated"}]
    other = two_users().snapshot()
    other.tables["visits"][(at("10:10:00"), "v")] = row
    assert words(other) == {"phantom"}


def test_a_part_that_a_merge_replaced_is_torn() -> None:
    """The database must see the deletes and the upsert in one transaction."""
    snapshot = two_users().snapshot()
    part = (at("10:20:00"), 0, 1, 1, 2, 2, 0)
    snapshot.tables["visits"][(at("10:20:00"), "u")] = part
    assert words(snapshot) == {"torn"}
    del snapshot.tables["visits"][FIRST]
    assert words(snapshot) == {"torn", "lost"}


def test_a_merge_not_done_yet_is_stale_and_torn() -> None:
    """Progress says that the bridging record is done, the rows are those before it."""
    made = world(hit("10:00:00"), hit("10:50:00"), hit("10:25:00"))
    before = World()
    before.pipeline, before.logs = made.pipeline, {0: made.logs[0][:2]}
    snapshot = made.snapshot()
    snapshot.tables, snapshot.latest = before.snapshot().tables, before.snapshot().latest
    found = words(snapshot, made)
    assert {"stale", "torn"} <= found


def test_a_merge_done_too_early_is_found() -> None:
    made = world(hit("10:00:00"), hit("10:50:00"), hit("10:25:00"))
    before = World()
    before.pipeline, before.logs = made.pipeline, {0: made.logs[0][:2]}
    snapshot = before.snapshot()
    snapshot.tables, snapshot.latest = made.snapshot().tables, made.snapshot().latest
    assert {"phantom", "lost", "duplicated"} <= words(snapshot, before)


def test_the_view_of_newest_rows() -> None:
    lost, phantom, repeated, older = (two_users().snapshot() for _ in range(4))
    row = lost.latest["visits"].pop(("u",))
    phantom.latest["visits"][("w",)] = row
    repeated.repeated_latest["visits"] = [("u",)]
    older.latest["visits"][("u",)] = (FIRST[0], *older.tables["visits"][FIRST])
    found = [words(one) for one in (lost, phantom, repeated, older)]
    assert found == [{"lost"}, {"phantom"}, {"duplicated"}, {"stale"}]
    assert row[0] == SECOND[0]


def test_wrong_counts_of_late_records_are_found() -> None:
    made = world(hit("12:00:00", "clock"), hit("10:30:00"), hit("11:29:30"))
    snapshot = made.snapshot()
    counts = snapshot.progress[PLACE].aggregates["visits"]
    assert counts == {"matched": 3, "counted": 2, "too_late": 1}
    wrong = {"visits": {"matched": 3, "counted": 3, "too_late": 0}}
    snapshot.progress[PLACE] = replace(snapshot.progress[PLACE], aggregates=wrong)
    assert words(snapshot, made) == {"lost", "duplicated"}


def test_a_record_too_late_that_joined_all_the_same_is_found() -> None:
    made = world(hit("10:45:00"), hit("11:01:10"), hit("10:30:00"))
    joined = world(hit("10:45:00"), hit("10:30:00"), hit("11:01:10"))
    snapshot = made.snapshot()
    snapshot.tables = joined.snapshot().tables
    assert words(snapshot, made) == {"phantom", "lost"}


def test_the_late_topic() -> None:
    made = world(hit("12:00:00", "clock"), hit("10:30:00"), hit("10:20:00"))
    own = {"aggregate": "visits", "watermark": f"{DAY}11:59:50.000000Z"}
    late = [{**own, "late_by_ms": str(ms)} for ms in ((59 * 60 + 50) * 1000, (69 * 60 + 50) * 1000)]

    def found(order: list[int], **changed: str) -> list[str]:
        stream = made.referee().sources[TOPIC].late_stream
        for offset, which in enumerate(order):
            text = {**late[which], **changed}
            stream.observe(letter(stream, offset, text, made.logs[0][which + 1]))
        violations = stream.unexplained(stream.close_generation()) + stream.missing({0: 1000})
        return [violation.word for violation in violations]

    assert found([0, 1]) == []
    assert found([1]) == ["lost"]
    assert found([0, 1, 1]) == ["duplicated"]
    assert found([1, 0]) == ["reordered"]
    assert found([0, 1], late_by_ms="0") == ["phantom", "phantom"]


def test_sessions_cut_in_another_order_are_found() -> None:
    """Order matters where a longest duration cuts: rows of the same records the other way round are wrong."""
    times = ["10:00:00", "10:25:00", "10:50:00", "11:15:00"]
    text = CUT.replace("allowed_lateness: 1m", "allowed_lateness: 1d")
    made, reversed_world = (world(*map(hit, order), text=text) for order in (times, times[::-1]))
    assert words(made.snapshot(), made) == set()
    snapshot = made.snapshot()
    snapshot.tables = reversed_world.snapshot().tables
    assert {"stale", "torn", "lost"} <= words(snapshot, made)


def test_an_empty_world_expects_nothing() -> None:
    assert words(world().snapshot(), world()) == set()
