"""Time in which nobody could look is not waited."""

from __future__ import annotations

from chaos.patience import Patience


def looks_until_over(seconds: float, instants: list[float]) -> int:
    patience = Patience(seconds, iter([0.0, *instants]).__next__)
    return next(number for number in range(1, len(instants) + 1) if patience.over())


def test_time_is_over_after_so_many_seconds() -> None:
    assert looks_until_over(3.0, [1.0, 2.0, 3.0, 3.5]) == 4


def test_machine_that_stands_still_uses_little_of_it() -> None:
    assert looks_until_over(3.0, [0.5, 60.0, 60.4, 61.5]) == 4
