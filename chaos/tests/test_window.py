"""Which windows hold an instant, on the borders."""

from __future__ import annotations

import pytest

from chaos.referee.window import Window

TUMBLING = Window(size=60, slide=60, allowed_lateness=10)
SLIDING = Window(size=300, slide=60, allowed_lateness=10)
UNEVEN = Window(size=100, slide=60, allowed_lateness=0)


@pytest.mark.parametrize(
    ("window", "time", "due"),
    [
        (TUMBLING, 0, [0]),
        (TUMBLING, 59, [0]),
        (TUMBLING, 60, [60]),
        (SLIDING, 300, [60, 120, 180, 240, 300]),
        (SLIDING, 359, [60, 120, 180, 240, 300]),
        (SLIDING, 360, [120, 180, 240, 300, 360]),
        (SLIDING, 0, [-240, -180, -120, -60, 0]),
        (UNEVEN, 60, [0, 60]),
        (UNEVEN, 99, [0, 60]),
        (UNEVEN, 100, [60]),
        (UNEVEN, 119, [60]),
        (UNEVEN, 120, [60, 120]),
    ],
)
def test_starts(window: Window, time: int, due: list[int]) -> None:
    assert list(window.starts(time)) == due


def test_the_two_grades_of_lateness() -> None:
    """Window [60, 360): late from a watermark of 360 on, too late from 370 on."""
    assert [SLIDING.is_late(60, watermark) for watermark in (None, 359, 360)] == [False, False, True]
    assert [SLIDING.is_too_late(60, watermark) for watermark in (None, 369, 370)] == [False, False, True]
