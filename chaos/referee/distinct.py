"""`approx_distinct`: an Apache DataSketches HLL (lgK 12, HLL_8, seed 9001) by its composite estimate.

Owns: how each type is fed, and the estimate that no order of adding changes. Never: keeps the values.
Why a union with itself: a union that took one sketch keeps that sketch's order-dependent estimate; only the second merge
drops it.
Tested: `tests/test_distinct.py`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import datasketches

from .expression.values import date_text

LG_K = 12
SEED = 9001
EMPTY_TEXT = b"\xff"


class Distinct:
    """The sketch of one column of one row. The estimate is kept until something is added."""

    __slots__ = ("sketch", "holds_empty_text", "estimated")

    def __init__(self) -> None:
        self.sketch = datasketches.hll_sketch(LG_K, datasketches.tgt_hll_type.HLL_8)
        self.holds_empty_text = False
        self.estimated: int | None = None

    def add(self, fed: int | float | str) -> Distinct:
        """`fed` in the form of `FEEDS`."""
        self.estimated = None
        if fed == "":
            self.holds_empty_text = True
        else:
            self.sketch.update(fed)
        return self

    def estimate(self) -> int:
        if self.estimated is None:
            union = datasketches.hll_union(LG_K)
            union.update(self.sketch)
            if self.holds_empty_text:
                union.update(sketch_of(EMPTY_TEXT))
            union.update(union.get_result(datasketches.tgt_hll_type.HLL_8))
            self.estimated = math.floor(union.get_estimate() + 0.5)
        return self.estimated


# An int goes in as 8 little-endian bytes, a float as its 8 (-0 as 0), a text as its UTF-8 bytes.
FEEDS: dict[str, Callable[[object], int | float | str]] = {
    "text": lambda value: value,
    "bigint": lambda value: value,
    "timestamp": lambda value: value,
    "double": lambda value: value + 0.0,
    "uuid": lambda value: value,
    "inet": lambda value: value,
    "boolean": lambda value: "true" if value else "false",
    "date": date_text,
}


def sketch_of(fed: bytes) -> datasketches.hll_sketch:
    """A sketch of one value given as bytes, which the library's own `update` does not take. Its list format:
    preamble ints, serial version, family, lgK, lg of the list's size, flags (compact), count, mode (HLL_8 list), coupon."""
    low, high = murmur3(fed, SEED)
    zeros = 64 - high.bit_length()
    coupon = (min(zeros, 62) + 1) << 26 | low & ((1 << 26) - 1)
    header = bytes([2, 1, 7, LG_K, 3, 0x08, 1, 0x08])
    return datasketches.hll_sketch.deserialize(header + struct.pack("<I", coupon))


MASK = (1 << 64) - 1
C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def murmur3(fed: bytes, seed: int) -> tuple[int, int]:
    """MurmurHash3_x64_128 of fewer than 16 bytes: only the tail and the final mix of Appleby's algorithm."""
    assert len(fed) < 16, len(fed)
    low = high = seed
    tail_low = int.from_bytes(fed[:8], "little")
    tail_high = int.from_bytes(fed[8:], "little")
    high ^= rotate(tail_high * C2 & MASK, 33) * C1 & MASK
    low ^= rotate(tail_low * C1 & MASK, 31) * C2 & MASK
    low, high = low ^ len(fed), high ^ len(fed)
    low = low + high & MASK
    high = high + low & MASK
    low, high = mixed(low), mixed(high)
    low = low + high & MASK
    return low, high + low & MASK


def rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & MASK


def mixed(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return value ^ value >> 33
