"""Tumbling windows and the two grades of lateness. An instant is microseconds; a window is its start.

Tested: `tests/test_judge.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tumbling:
    size: int
    allowed_lateness: int

    def starts(self, event_time: int) -> tuple[int, ...]:
        """The starts of the windows that hold this instant, earliest first."""
        return (event_time // self.size * self.size,)

    def end(self, start: int) -> int:
        return start + self.size

    def is_late(self, start: int, watermark: int | None) -> bool:
        return watermark is not None and start + self.size <= watermark

    def is_too_late(self, start: int, watermark: int | None) -> bool:
        return watermark is not None and start + self.size + self.allowed_lateness <= watermark
