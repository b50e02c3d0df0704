"""Which commit time each accepted record carries, by source partition: one epoch, one commit time, one range of offsets.

Owns: the two checks on them. Never: knows what a right commit time is but from the progress row.
Data: `note` per output row or message, then `foreign` against an epoch, `interleaved` at the end. Texts are RFC 3339.
Tested: `tests/test_referee.py`, `tests/test_record_table.py`.
"""

from __future__ import annotations

from . import instant
from .violation import Violation


class CommitTimes:
    """`place` is the topic or table they stand in."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.spans: dict[int, dict[str, list[int]]] = {}

    def note(self, partition: int, offset: int, text: str) -> None:
        ranges = self.spans.setdefault(partition, {})
        span = ranges.get(text)
        if span is None:
            ranges[text] = [offset, offset]
        elif offset > span[1]:
            span[1] = offset
        elif offset < span[0]:
            span[0] = offset

    def foreign(self, partition: int, prev: int, next_offset: int, micros: int) -> list[Violation]:
        """What the epoch [prev, next) wrote must carry the commit time that its progress row records."""
        due, violations = instant.to_text(micros), []
        for text, (first, last) in self.spans.get(partition, {}).items():
            if text != due and max(first, prev) <= min(last, next_offset - 1):
                detail = f"commit time {text}, progress row of [{prev},{next_offset}) says {due}"
                violations.append(Violation("stale", self.span_text(partition, first, last), detail))
        return violations

    def interleaved(self) -> list[Violation]:
        """An epoch is a contiguous range of offsets: two commit times of one source partition never interleave."""
        violations = []
        for partition, ranges in self.spans.items():
            spans = sorted((first, last, text) for text, (first, last) in ranges.items())
            for (_, last, text), (first, end, other) in zip(spans, spans[1:], strict=False):
                if first <= last:
                    detail = f"commit times {text} and {other} interleave"
                    violations.append(Violation("torn", self.span_text(partition, first, end), detail))
        return violations

    def span_text(self, partition: int, first: int, last: int) -> str:
        return f"{self.place} from source partition {partition} offsets {first}..{last}"
