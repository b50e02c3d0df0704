"""Windows, lateness, watermark and aggregates, on the borders."""

from __future__ import annotations

import pytest

from chaos.referee import instant
from chaos.referee.accumulator import sum_column
from chaos.referee.expression import Typed
from chaos.referee.percentile import Percentile
from chaos.referee.pipeline import Unsupported

from .worlds import FIFTY_AT, TEXT, World, event


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
    text = TEXT.replace("view_count: count(*)", "view_count: count(*)\n      late: late_rows()")
    rows = World(text).add(timed("00:01:30"), timed("00:00:30"), timed("00:01:31")).rows()
    assert rows[(at("00:00:00"), "/products")][1:3] == (1, 1)
    assert rows[(at("00:01:00"), "/products")][1:3] == (2, 0)


def test_failed_counting_checks_are_counted_over_accepted_records() -> None:
    state = World().add(event(amount=-1), event(amount=0, page_url="x"), event(amount=1)).state()
    assert state.failed_checks == {"amount_positive": 1}
    assert (state.accepted, state.dead) == (2, 1)


# -- sliding windows -----------------------------------------------------------------------------------------------------

SLIDING = TEXT.replace("window: { tumble: 1m }", "window: { slide: 1m, size: 5m }").replace(
    "view_count: count(*)",
    "view_count: count(*)\n      users: approx_distinct(user_id)\n      late: late_rows()"
    '\n      large_users: "approx_distinct(user_id) filter (where amount > 100)"',
)


def sliding(*records: dict) -> World:
    return World(SLIDING).add(*records)


def figures(world: World) -> dict[str, tuple]:
    """Window start to count, users, late, users of large amounts."""
    return {instant.to_text(key[0])[11:16]: row[1:5] for key, row in world.rows().items()}


def test_fifty_page_views_make_one_tumbling_and_five_sliding_rows_of_fifty() -> None:
    fifty = [event(FIFTY_AT, user_id=f"user{i}") for i in range(50)]
    (tumbling,) = World().add(*fifty).rows().values()
    assert tumbling[1] == 50
    rows = sliding(*fifty).rows()
    assert [key[0] for key in rows] == [at(f"01:{minute}:00") for minute in (14, 15, 16, 17, 18)]
    for (start, page), row in rows.items():
        assert (page, row[0]) == ("/products", start + 5 * instant.MINUTE)
        assert row[1:5] == (50, 50, 0, 0)


def test_distinct_counts_obey_filters_and_repeats() -> None:
    found = sliding(
        timed("01:18:00", user_id="a", amount=500),
        timed("01:18:00", user_id="a", amount=1),
        timed("01:18:59", user_id="", amount=101),
        timed("01:19:00", user_id="b"),
    )
    assert figures(found) == {
        "01:14": (3, 2, 0, 2),
        "01:15": (4, 3, 0, 2),
        "01:16": (4, 3, 0, 2),
        "01:17": (4, 3, 0, 2),
        "01:18": (4, 3, 0, 2),
        "01:19": (1, 1, 0, 0),
    }


def test_a_record_too_late_for_some_windows_is_counted_in_the_others_and_partly_late() -> None:
    """Delay 10 s, lateness 1 m: the watermark is 10:07:20. Of the windows that hold 10:04:30, [10:00, 10:05) and
    [10:01, 10:06) are too late (10:06:00, 10:07:00 <= 10:07:20), [10:02, 10:07) is late, the others are neither."""
    found = sliding(timed("10:07:30", user_id="a"), timed("10:04:30", user_id="b"))
    assert found.state().aggregates["page_view_counts"] == {"matched": 2, "counted": 2, "partly_late": 1}
    assert figures(found) == {
        "10:02": (1, 1, 1, 0),
        "10:03": (2, 2, 0, 0),
        "10:04": (2, 2, 0, 0),
        "10:05": (1, 1, 0, 0),
        "10:06": (1, 1, 0, 0),
        "10:07": (1, 1, 0, 0),
    }
    assert found.referee().sources["events"].late_stream.expected == {}


def test_a_record_too_late_for_all_windows_goes_to_the_late_topic_with_its_last_window() -> None:
    """The last window that holds 10:04:30 ends at 10:09:00, and is too late from a watermark of 10:10:00 on."""
    almost = sliding(timed("10:10:09.999999"), timed("10:04:30"))
    assert almost.state().aggregates["page_view_counts"] == {"matched": 2, "counted": 2, "partly_late": 1}
    found = sliding(timed("10:10:10"), timed("10:04:30"))
    assert found.state().aggregates["page_view_counts"] == {"matched": 2, "counted": 1, "too_late": 1}
    (letter,) = found.referee().sources["events"].late_stream.expected.values()
    assert letter.own["late_by_ms"] == "60000"
    assert letter.own["watermark"] == "2026-01-30T10:10:00.000000Z"


def test_sketches_merge_over_partitions() -> None:
    world = World(SLIDING, partitions=2)
    for partition in (0, 1):
        world.add(*[event(user_id=f"user{i + 30 * partition}") for i in range(50)], partition=partition)
    assert {row[1:3] for row in world.rows().values()} == {(100, 80)}


# -- exact distinct counts and percentiles -------------------------------------------------------------------------------------

SHARES = TEXT.replace(
    "view_count: count(*)",
    'users: count(distinct user_id)\n      amounts: "count(distinct amount) filter (where amount > 1)"'
    '\n      median: approx_percentile(amount, 0.5)\n      high: "approx_percentile(price, 0.9)"',
)


def shares_of(*events: dict) -> tuple:
    (row,) = World(SHARES).add(*events).rows().values()
    return row[1:5]


def test_distinct_values_are_counted_exactly() -> None:
    events = [event(user_id=f"user{i % 1_500}", amount=i % 7) for i in range(4_000)]
    assert shares_of(*events, event(user_id="", amount=None))[:2] == (1_501, 5)
    assert shares_of(event(user_id="a"))[:2] == (1, 0)


def test_a_percentile_is_that_of_the_lower_rank() -> None:
    """Rank floor(q * (n - 1)) from 0: of 1..10 the median is 5, of ten prices the 0.9-quantile the ninth."""
    events = [event(amount=i, price=i / 2) for i in range(10, 0, -1)]
    assert shares_of(*events)[2:] == (5.0, 4.5)
    assert shares_of(event())[2:] == (None, None)


@pytest.mark.parametrize(
    ("found", "accepted"),
    [
        (5.0, True),
        (5.05, True),
        (4.95, True),
        (5.06, False),
        (4.94, False),
        (6.0, False),
        (5, False),
        (None, False),
    ],
)
def test_a_percentile_may_be_off_by_one_percent(found: object, accepted: bool) -> None:
    made = World(SHARES).add(*[event(amount=i) for i in range(1, 11)])
    (aggregate, *_) = made.referee().sources["events"].aggregates
    (states,) = aggregate.rows.values()
    assert aggregate.columns[2].agrees(states[2], found) is accepted


def test_percentiles_of_zero_and_of_negative_values() -> None:
    made = World(SHARES).add(*[event(price=price) for price in (-8.0, -4.0, 0.0)])
    (aggregate, *_) = made.referee().sources["events"].aggregates
    (states,) = aggregate.rows.values()
    assert aggregate.columns[3].finish(states[3]) == -4.0
    assert [aggregate.columns[3].agrees(states[3], found) for found in (-4.03, -4.05, 4.0)] == [
        True,
        False,
        False,
    ]


def test_a_rank_that_rounding_blurs_may_be_either() -> None:
    """0.29 * 100 is 28.999999999999996."""
    percentile = Percentile(0.29)
    values = list(range(0, 10_100, 100))
    assert [percentile.accepts(values, float(found)) for found in (2_800, 2_900, 3_000)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "text", ["approx_percentile(user_id, 0.5)", "approx_percentile(amount)", "sum(distinct amount)"]
)
def test_what_is_not_judged_is_refused(text: str) -> None:
    with pytest.raises(Unsupported):
        World(TEXT.replace("count(*)", text, 1)).referee()


def test_a_sum_whose_parts_leave_the_range_may_be_whatever_its_order_gave() -> None:
    column = sum_column("total", Typed("double", lambda row: row), lambda row: row)
    state = column.initial
    for value in (1e308, 1e308, -1e308):
        state = column.add(state, value)
    assert column.agrees(state, float("inf")) and column.agrees(state, 1e308)
    assert not column.agrees(state, None)
    assert not column.agrees(column.add(None, 1e307), float("inf"))
