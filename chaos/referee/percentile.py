"""`approx_percentile`: what a DDSketch of 1 % relative accuracy may answer, told from all values.

Owns: the rank and the accuracy, as the sketch's paper defines them (Masson, Rim, Lee, "DDSketch", VLDB 2019): the q-quantile of
n values is that of rank floor(q * (n - 1)) from 0, and the answer is within 1 % of it. Never: sketches.
Data: a list of values, one a row of the aggregate. Tested: `tests/test_judge.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

RELATIVE_ACCURACY = 0.01
# What no double can tell apart: the rank of a share like 0.29 of 101 values, and values that a sketch takes for zero.
RANK_SLACK, LEAST_MAGNITUDE, ROUNDING = 1e-9, 1e-9, 1e-12


def add(state: list | None, value: int | float) -> list:
    state = [] if state is None else state
    state.append(value)
    return state


@dataclass(frozen=True)
class Percentile:
    """`share` is q, between 0 and 1."""

    share: float

    def value(self, state: list | None) -> float | None:
        """The exact quantile; sorts the list."""
        if state is None:
            return None
        state.sort()
        return float(state[self.rank(len(state), 0.0)])

    def accepts(self, state: list, found: float) -> bool:
        state.sort()
        ranks = {self.rank(len(state), slack) for slack in (-RANK_SLACK, RANK_SLACK)}
        return any(self.near(float(state[rank]), found) for rank in ranks)

    def rank(self, count: int, slack: float) -> int:
        return min(max(math.floor(self.share * (count - 1) + slack), 0), count - 1)

    @staticmethod
    def near(exact: float, found: float) -> bool:
        margin = (RELATIVE_ACCURACY + ROUNDING) * abs(exact) + LEAST_MAGNITUDE
        return abs(found - exact) <= margin
