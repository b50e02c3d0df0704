"""What is called final stays, is all that may be called so, and is called so in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.referee import instant
from chaos.referee.finality import SLACK, Standing, right_claims
from chaos.referee.referee import Referee
from chaos.referee.snapshot import Final, Snapshot

from .session_worlds import SESSIONS, hit
from .session_worlds import world as session_world
from .worlds import TOPIC, World, event

NOW = instant.parse("2026-02-01T00:00:00Z")
IDLE_AFTER = 30 * instant.SECOND
PLACES = [(TOPIC, 0), (TOPIC, 1)]


def at(text: str) -> int:
    return instant.parse(f"2026-01-30T{text}Z")


def world() -> World:
    """Watermarks of 09:59:50 and 10:19:50; a minute of lateness, so rows are final through 09:58:50."""
    made = World(partitions=2)
    made.add(event("2026-01-30T09:57:30Z"), event("2026-01-30T10:00:00Z"), timestamp=fed(0))
    made.add(event("2026-01-30T09:50:10Z"), event("2026-01-30T10:20:00Z"), partition=1, timestamp=fed(0))
    return made


def fed(seconds: int) -> int:
    """A Kafka timestamp so long before the snapshot."""
    return (NOW - seconds * instant.SECOND) // 1_000


def snapshot_of(made: World, through: str | None, name: str = "page_view_counts") -> Snapshot:
    snapshot = made.snapshot()
    snapshot.taken = NOW
    claim = Final(None if through is None else at(through), snapshot.finality[name].session_gap)
    snapshot.finality = dict.fromkeys(snapshot.finality, claim)
    return snapshot


def words(referee: Referee, snapshot: Snapshot, behind: set | None = None, partitions: int = 2) -> list[str]:
    found = referee.final_rows(snapshot, {TOPIC: partitions}, behind or set())
    return [one.word for one in found if "shares" not in one.where]


@pytest.mark.parametrize(
    ("through", "due"),
    [
        ("09:58:50", []),
        ("09:58:50.000001", ["premature"]),
        ("10:18:50", ["premature"]),
        ("09:58:49.999999", ["stale"]),
        (None, ["stale"]),
    ],
)
def test_the_least_watermark_counts_less_the_lateness(through: str | None, due: list[str]) -> None:
    assert words(world().referee(), snapshot_of(world(), through)) == due


def test_a_view_without_a_row_is_found() -> None:
    snapshot = snapshot_of(world(), "09:58:50")
    del snapshot.finality["page_view_counts"]
    assert words(world().referee(), snapshot) == ["lost"]
    assert words(world().referee(), Snapshot({})) == []


@pytest.mark.parametrize("through", [None, "09:58:50"])
def test_nothing_is_final_while_a_partition_has_no_watermark(through: str | None) -> None:
    """Neither while one has no progress row, nor while one had dead records only."""
    due = [] if through is None else ["premature"]
    assert words(world().referee(), snapshot_of(world(), through), partitions=3) == due
    made = World(partitions=2).add(event("2026-01-30T10:00:00Z"), timestamp=fed(0))
    made.add(None, partition=1, timestamp=fed(0))
    assert words(made.referee(), snapshot_of(made, through)) == due


@pytest.mark.parametrize(
    ("quiet", "through", "due"),
    [
        # The slower partition was fed nothing for as long as makes it idle: left out, or not yet.
        (30, "10:18:50", []),
        (30, "09:58:50", []),
        (30, "10:18:50.000001", ["premature"]),
        (30, "10:00:00", ["premature"]),
        (27, "10:18:50", ["premature"]),
        (27, "09:58:50", []),
    ],
)
def test_a_partition_that_may_be_idle_may_be_left_out(quiet: int, through: str, due: list[str]) -> None:
    made = world()
    made.logs[0] = [record._replace(timestamp=fed(quiet)) for record in made.logs[0]]
    assert words(made.referee(), snapshot_of(made, through)) == due


def test_a_partition_that_is_behind_is_not_idle() -> None:
    made = world()
    made.logs[0] = [record._replace(timestamp=fed(100)) for record in made.logs[0]]
    assert words(made.referee(), snapshot_of(made, "10:18:50")) == []
    assert words(made.referee(), snapshot_of(made, "10:18:50"), behind={PLACES[0]}) == ["premature"]


def test_where_all_may_be_idle_the_largest_may_count() -> None:
    made = world()
    made.logs = {n: [one._replace(timestamp=fed(60)) for one in log] for n, log in made.logs.items()}
    for through, due in (
        ("10:18:50", []),
        ("09:58:50", []),
        ("10:19:50", ["premature"]),
        ("09:00:00", ["stale"]),
    ):
        assert words(made.referee(), snapshot_of(made, through)) == due


def test_claims_by_partitions_that_may_be_left_out() -> None:
    def standings(*marks: int | None) -> list[Standing]:
        return [Standing((TOPIC, number), 1, mark, None) for number, mark in enumerate(marks)]

    def idle(*numbers: int) -> set:
        return {(TOPIC, number) for number in numbers}

    assert right_claims([], set()) == {None}
    assert right_claims(standings(5, 7, 9), idle()) == {5}
    assert right_claims(standings(5, 7, 9), idle(0)) == {5, 7}
    assert right_claims(standings(5, 7, 9), idle(0, 1)) == {5, 7, 9}
    assert right_claims(standings(5, 7, 9), idle(1, 2)) == {5}
    assert right_claims(standings(5, None, 9), idle(1)) == {5, None}
    assert right_claims(standings(5, None), idle(0)) == {None}
    assert right_claims(standings(5, 7, 9), idle(0, 1, 2)) == {5, 7, 9}


def test_idleness_has_a_clock_of_some_slack() -> None:
    for ago, due in ((IDLE_AFTER - SLACK, True), (IDLE_AFTER - SLACK - 1, False)):
        assert Standing(PLACES[0], 1, 0, NOW - ago).may_be_idle(NOW, IDLE_AFTER) is due
    assert not Standing(PLACES[0], 0, None, None, taken=False).may_be_idle(NOW, IDLE_AFTER)


# -- what becomes of final rows ------------------------------------------------------------------------------------------


FINAL_KEY = (at("09:57:00"), "/products")


def test_a_final_row_that_changes_is_found() -> None:
    for change in (
        lambda rows: rows.update({FINAL_KEY: (rows[FINAL_KEY][0], 2, *rows[FINAL_KEY][2:])}),
        lambda rows: rows.pop(FINAL_KEY),
        lambda rows: rows.update({(at("09:56:00"), "/new"): (at("09:57:00"), *rows[FINAL_KEY][1:])}),
    ):
        referee = world().referee()
        assert words(referee, snapshot_of(world(), "09:58:50")) == []
        later = snapshot_of(world(), "09:58:50")
        change(later.tables["page_view_counts"])
        assert words(referee, later) == ["premature"]


def test_rows_that_are_not_final_may_change() -> None:
    referee = world().referee()
    assert words(referee, snapshot_of(world(), "09:58:50")) == []
    later = snapshot_of(world(), "09:58:50")
    rows = later.tables["page_view_counts"]
    newest = (at("10:20:00"), "/products")
    rows[newest] = (rows[newest][0], 2, *rows[newest][2:])
    rows[(at("09:58:00"), "/new")] = (at("09:59:00"), *rows[FINAL_KEY][1:])
    assert words(referee, later) == []


def test_a_partition_that_wakes_up_may_amend_what_was_final_without_it() -> None:
    made = world()
    made.logs[0] = [record._replace(timestamp=fed(100)) for record in made.logs[0]]
    for advance, due in ((1, []), (0, ["premature"])):
        referee = made.referee()
        assert words(referee, snapshot_of(made, "10:18:50")) == []
        later = snapshot_of(made, "10:18:50")
        rows = later.tables["page_view_counts"]
        rows[(at("10:01:00"), "/products")] = (at("10:02:00"), *rows[FINAL_KEY][1:])
        progress = later.progress[PLACES[0]]
        later.progress[PLACES[0]] = replace(progress, next=progress.next + advance)
        assert words(referee, later) == due


def test_sessions_are_final_after_twice_the_gap() -> None:
    """A watermark of 11:59:50, a gap of 30 min, a minute of lateness: a session that ends at 10:58:50 is final."""
    made = session_world(hit("10:58:50"), hit("10:58:51", "v"), hit("12:00:00", "w"), text=SESSIONS)
    snapshot = snapshot_of(made, "11:58:50", "visits")
    assert words(made.referee(), snapshot, partitions=1) == []
    for user, start, due in (("u", "10:58:50", ["premature"]), ("v", "10:58:51", []), ("w", "12:00:00", [])):
        referee = made.referee()
        assert words(referee, snapshot_of(made, "11:58:50", "visits"), partitions=1) == []
        later = snapshot_of(made, "11:58:50", "visits")
        row = later.tables["visits"][(at(start), user)]
        later.tables["visits"][(at(start), user)] = (*row[:2], 9, *row[3:])
        assert words(referee, later, partitions=1) == due
    wrong = Final(at("11:58:50"), None)
    assert words(made.referee(), replace(snapshot, finality={"visits": wrong}), partitions=1) == ["phantom"]
