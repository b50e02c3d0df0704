"""Windows, lateness, watermark and aggregates, on the borders."""

from __future__ import annotations

from chaos.referee import instant

from .worlds import FIFTY_AT, World, event


def at(text: str) -> int:
    return instant.parse(f"2026-01-30T{text}Z")


def timed(text: str, **fields: object) -> dict:
    return event(f"2026-01-30T{text}Z", **fields)


def test_fifty_page_views_of_one_instant_make_one_row_of_fifty() -> None:
    rows = World().add(*[event(FIFTY_AT, user_id=f"user{i}") for i in range(50)]).rows()
    assert list(rows) == [(at("01:18:00"), "/products")]
    assert rows[(at("01:18:00"), "/products")][:2] == (at("01:19:00"), 50)


def test_windows_are_half_open() -> None:
    rows = World().add(timed("01:18:59.999999"), timed("01:19:00")).rows()
    assert [key[0] for key in rows] == [at("01:18:00"), at("01:19:00")]


def test_too_late_begins_where_end_plus_lateness_meets_the_watermark() -> None:
    """Window [00:00, 00:01), lateness 1 m, delay 10 s: too late from a watermark of 00:02:00 on."""
    world = World().add(timed("00:02:09.999999"), timed("00:00:30"))
    assert dict(world.state().aggregates["page_view_counts"]) == {"matched": 2, "counted": 2}
    world = World().add(timed("00:02:10"), timed("00:00:30"))
    assert dict(world.state().aggregates["page_view_counts"]) == {"matched": 2, "counted": 1, "too_late": 1}


def test_a_record_is_judged_by_the_watermark_before_it() -> None:
    counts = World().add(timed("00:00:30"), timed("09:00:00"), timed("00:00:30")).state()
    assert counts.aggregates["page_view_counts"]["too_late"] == 1
    assert counts.accepted == 3


def test_dead_records_move_no_watermark() -> None:
    counts = World().add(timed("09:00:00", page_url="x"), timed("00:00:30")).state()
    assert counts.aggregates["page_view_counts"] == {"matched": 1, "counted": 1}
    assert counts.max_event_time == at("00:00:30")


def test_watermarks_are_per_partition() -> None:
    world = World(partitions=2).add(timed("09:00:00")).add(timed("00:00:30"), partition=1)
    assert world.state(1).aggregates["page_view_counts"]["too_late"] == 0
    assert len(world.rows()) == 2


def test_rows_merge_over_partitions() -> None:
    world = World(partitions=3)
    for partition in range(3):
        world.add(*[event(amount=partition)] * (partition + 1), partition=partition)
    (row,) = world.rows().values()
    assert row[1:7] == (6, 0, 8, 0, 2, 8 / 6)


def test_aggregates_follow_the_null_rules_of_sql() -> None:
    (row,) = World().add(event(), event()).rows().values()
    assert row[1:] == (2, 0, None, None, None, None, None, None)


def test_sum_of_bigint_is_exact_beyond_i64() -> None:
    (row,) = World().add(*[event(amount=(1 << 63) - 1)] * 3).rows().values()
    assert row[3] == 3 * ((1 << 63) - 1)


def test_late_rows_counts_late_but_counted() -> None:
    from .worlds import TEXT

    text = TEXT.replace("view_count: count(*)", "view_count: count(*)\n      late: late_rows()")
    rows = World(text).add(timed("00:01:30"), timed("00:00:30"), timed("00:01:31")).rows()
    assert rows[(at("00:00:00"), "/products")][1:3] == (1, 1)
    assert rows[(at("00:01:00"), "/products")][1:3] == (2, 0)


def test_failed_counting_checks_are_counted_over_accepted_records() -> None:
    state = World().add(event(amount=-1), event(amount=0, page_url="x"), event(amount=1)).state()
    assert state.failed_checks == {"amount_positive": 1}
    assert (state.accepted, state.dead) == (2, 1)
