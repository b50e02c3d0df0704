"""The distinct count: how values are fed, and that no order of adding changes it."""

from __future__ import annotations

import random
import struct

import datasketches
import pytest

from chaos.referee.distinct import FEEDS, Distinct, sketch_of

HLL_8 = datasketches.tgt_hll_type.HLL_8


def counted(values: list) -> int:
    distinct = Distinct()
    for value in values:
        distinct.add(value)
    return distinct.estimate()


def bytes_of(value: object) -> bytes:
    sketch = datasketches.hll_sketch(12, HLL_8)
    sketch.update(value)
    return sketch.serialize_compact()


@pytest.mark.parametrize(
    ("type_name", "value", "fed"),
    [
        ("text", "user1", b"user1"),
        ("text", "Grün", "Grün".encode()),
        ("bigint", -7, struct.pack("<q", -7)),
        ("bigint", (1 << 63) - 1, struct.pack("<q", (1 << 63) - 1)),
        ("timestamp", 1_769_735_890_000_000, struct.pack("<q", 1_769_735_890_000_000)),
        ("double", 5.0, struct.pack("<d", 5.0)),
        ("double", -0.0, struct.pack("<d", 0.0)),
        ("boolean", True, b"true"),
        ("inet", "10.0.0.0/8", b"10.0.0.0/8"),
        ("date", 1, b"1970-01-02"),
    ],
)
def test_feeds(type_name: str, value: object, fed: bytes) -> None:
    assert bytes_of(FEEDS[type_name](value)) == sketch_of(fed).serialize_compact()


def test_a_uuid_is_fed_as_its_text() -> None:
    text = "0b0e7c3a-5f0e-4d3b-9f4e-1c2d3e4f5a6b"
    assert bytes_of(FEEDS["uuid"](text)) == bytes_of(text)


def test_few_values_are_counted_exactly() -> None:
    assert [counted([f"user{i % n}" for i in range(500)]) for n in (1, 2, 7, 100, 300)] == [1, 2, 7, 100, 300]


def test_the_empty_text_is_a_value_like_another() -> None:
    assert counted([""]) == counted(["", ""]) == 1
    assert counted(["", "a", "b", ""]) == 3
    many = [f"user{i}" for i in range(5_000)]
    union = datasketches.hll_union(12)
    sketch = datasketches.hll_sketch(12, HLL_8)
    for value in many:
        sketch.update(value)
    for part in (sketch, sketch_of(b"\xff"), sketch):
        union.update(part)
    assert counted(["", *many]) == counted([*many, ""]) == int(union.get_estimate() + 0.5)


@pytest.mark.parametrize("count", [10, 380, 390, 500, 3_000, 20_000])
def test_order_changes_nothing(count: int) -> None:
    values = [f"user{i}" for i in range(count)]
    found = {counted(values)}
    for seed in range(8):
        random.Random(seed).shuffle(values)
        found.add(counted(values))
    (estimate,) = found
    assert abs(estimate - count) <= 0.05 * count


def test_the_estimate_is_that_of_merged_parts() -> None:
    """Two parts, each with more values than a small sketch holds exactly, merged: the composite estimate by nature."""
    values = [f"user{i}" for i in range(4_000)]
    union = datasketches.hll_union(12)
    for part in (values[:2_500], values[1_500:]):
        sketch = datasketches.hll_sketch(12, HLL_8)
        for value in part:
            sketch.update(value)
        union.update(sketch)
    assert counted(values) == int(union.get_estimate() + 0.5)


def test_an_estimate_is_taken_anew_after_adding() -> None:
    distinct = Distinct().add("a")
    assert distinct.estimate() == 1
    assert distinct.add("b").estimate() == 2
