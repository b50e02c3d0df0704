"""Duplicates: the bucket rule on its edges, what they count in, and what they do not touch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.referee.dedup import Expiry, SeenKeys

from .click_worlds import CLICKS, PLAIN, at, click
from .worlds import TOPIC, World

SECOND = 1_000_000
A, D, X = "accepted", "duplicate", "dead"


def verdicts(*events: object, text: str = CLICKS) -> list[str]:
    return World(text).add(*events).verdicts()


@pytest.mark.parametrize(
    ("within", "bucket"),
    [(10 * SECOND, SECOND), (24 * SECOND, SECOND), (24 * SECOND + 1, SECOND + 1), (50 * SECOND, 2_083_334)],
)
def test_a_bucket_is_a_24th_rounded_up_and_at_least_a_second(within: int, bucket: int) -> None:
    assert Expiry(within).bucket == bucket


def test_expiry_of_an_entry() -> None:
    """Within 48 s: buckets of 2 s. Entries of seconds 0 and 1 are gone at second 50, that of second 2 at 52."""
    expiry = Expiry(48 * SECOND)
    ten = at("10:00:00")
    seconds = [(expiry.of(ten + micros) - ten) / SECOND for micros in (-1, 0, 1_999_999, 2_000_000)]
    assert seconds == [48, 50, 50, 52]


def test_a_key_is_seen_until_the_watermark_meets_its_expiry() -> None:
    before = [click("a"), click("clock", "10:00:59.999999"), click("a", "10:00:40")]
    after = [click("a"), click("clock", "10:01:00"), click("a", "10:00:40")]
    assert verdicts(*before) == [A, A, D]
    assert verdicts(*after) == [A, A, A]


def test_the_watermark_before_the_record_counts() -> None:
    assert verdicts(click("a"), click("a", "11:00:00"), click("a", "11:00:00")) == [A, D, A]


def test_duplicates_move_the_watermark() -> None:
    made = World(CLICKS).add(click("a"), click("a", "10:01:00"))
    assert made.verdicts() == [A, D]
    assert made.state().max_event_time == at("10:01:00")


def test_a_duplicate_does_not_renew_its_key() -> None:
    assert verdicts(click("a"), click("a", "10:00:40"), click("clock", "10:01:00"), click("a")) == [
        A,
        D,
        A,
        A,
    ]


def test_an_accepted_copy_makes_an_entry_again() -> None:
    found = verdicts(click("a"), click("clock", "10:01:00"), click("a", "10:00:55"), click("a", "10:00:55"))
    assert found == [A, A, A, D]


def test_an_entry_may_be_expired_when_it_is_made() -> None:
    assert verdicts(click("clock", "10:01:00"), click("a", "09:59:00"), click("a", "09:59:00")) == [A, A, A]


def test_dead_comes_before_duplicate_and_is_not_seen() -> None:
    bad = {**click("a"), "n": "x"}
    unchecked = {**click("a"), "page": "relative"}
    raising = {**click("a"), "n": (1 << 63) - 1}
    assert verdicts(bad, unchecked, raising, click("a"), bad, click("a")) == [X, X, X, A, X, D]


def test_partitions_do_not_know_of_each_other() -> None:
    made = World(CLICKS, partitions=2).add(click("a")).add(click("a"), partition=1)
    assert [made.verdicts(number) for number in (0, 1)] == [[A], [A]]


def test_keys_are_values_not_spellings() -> None:
    visit = "0B0E7C3A-5f0e-4d3b-9f4e-1c2d3e4f5a6b"
    text = CLICKS.replace("visit: uuid", "visit: uuid!").replace("key: [id]", "key: [visit, page]", 1)
    found = verdicts(click("1", visit=visit), click("2", visit=visit.lower()), text=text)
    assert found == [A, D]
    other = [click("1", visit=visit), {**click("1", visit=visit), "page": "/b"}]
    assert verdicts(*other, text=text) == [A, A]


def test_without_dedup_nothing_is_a_duplicate() -> None:
    assert verdicts(click("a"), click("a"), text=PLAIN) == [A, A]


def test_duplicates_feed_nothing() -> None:
    made = World(CLICKS).add(click("a", n=-1), click("a", n=-1), click("b", n=5), click("a", n=7))
    state = made.state()
    assert (state.read, state.accepted, state.duplicate, state.dead) == (4, 2, 2, 0)
    assert state.failed_checks == {"n_is_positive": 1}
    assert made.rows("clicks_by_page") == {(at("10:00:00"), "/a"): (at("10:01:00"), 2, 2, 4)}
    (source,) = made.referee().sources.values()
    assert len(source.outputs[0].missing({0: len(made.logs[0])})) == 2
    assert [table.due() for table in source.tables] == [2, 2]


def test_a_processor_that_passes_a_duplicate_on_is_found() -> None:
    made = World(CLICKS).add(click("a"), click("a"), click("b"))
    place, right = (TOPIC, 0), made.snapshot()
    for changed, due in (
        ({"accepted": 3, "duplicate": 0}, {"duplicated", "lost"}),
        ({"duplicate": 0}, {"torn", "lost"}),
        ({"duplicate": 2, "accepted": 1}, {"duplicated", "lost"}),
    ):
        snapshot = made.snapshot()
        snapshot.progress[place] = replace(right.progress[place], **changed)
        spoiled = made.referee().compare_snapshot(snapshot)
        progress = [one.word for one in spoiled if one.where.startswith("progress")]
        assert set(progress) == due
    stream = made.referee().sources[TOPIC].outputs[0]
    messages = made.enriched()
    copy = messages[0]._replace(offset=2)
    for message in (*messages, copy):
        stream.observe(message)
    assert [one.word for one in stream.unexplained(stream.close_generation())] == ["duplicated"]


def test_expired_keys_are_let_go_without_a_difference() -> None:
    seen = SeenKeys(most=4)
    for number in range(100):
        assert not seen.holds((number,), number)
        seen.note((number,), number + 3, number)
    assert [number for number in range(100) if seen.holds((number,), 99)] == [97, 98, 99]
    seen.most = 1
    seen.note((100,), 103, 99)
    assert len(seen.expires) == 4
