"""Tumbling and sliding windows and the two grades of lateness. An instant is microseconds; a window is its start.

Tested: `tests/test_window.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A tumbling window slides by its own size. Starts lie at multiples of `slide`, also before 1970."""

    size: int
    slide: int
    allowed_lateness: int

    def starts(self, event_time: int) -> range:
        """The starts of the windows that hold this instant, earliest first: each multiple in (time - size, time]."""
        first = ((event_time - self.size) // self.slide + 1) * self.slide
        return range(first, event_time + 1, self.slide)

    def end(self, start: int) -> int:
        return start + self.size

    def is_late(self, start: int, watermark: int | None) -> bool:
        return watermark is not None and start + self.size <= watermark

    def is_too_late(self, start: int, watermark: int | None) -> bool:
        return watermark is not None and start + self.size + self.allowed_lateness <= watermark
