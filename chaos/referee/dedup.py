"""Which records are duplicates: keys seen among one partition's accepted records, until they expire.

Owns: the bucket rule. Never: judges by anything but the watermark before the record.
Data: (key, watermark) -> seen or not; an accepted record's key and event time are noted. Tested: `tests/test_dedup.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import instant

BUCKETS = 24
LEAST_KEPT = 10_000


@dataclass(frozen=True)
class Expiry:
    """An entry made at event time t sits in bucket n = floor(t / g); it is gone when (n + 1) * g + within is reached."""

    within: int

    @property
    def bucket(self) -> int:
        """g, microseconds: a 24th of the bound, rounded up, and at least a second."""
        return max(-(-self.within // BUCKETS), instant.SECOND)

    def of(self, event_time: int) -> int:
        """The watermark at which an entry of this event time is expired."""
        return (event_time // self.bucket + 1) * self.bucket + self.within


@dataclass
class SeenKeys:
    """Key to the watermark at which it expires. An entry is only made where every older one of its key has expired."""

    expires: dict[tuple, int] = field(default_factory=dict)
    most: int = LEAST_KEPT

    def holds(self, key: tuple, watermark: int | None) -> bool:
        end = self.expires.get(key)
        return end is not None and (watermark is None or watermark < end)

    def note(self, key: tuple, end: int, watermark: int | None) -> None:
        """Order: after `holds` said no. `watermark` is what no later record is judged by less than, None where it is not known.
        Where a record may be judged by less than one before it, an older entry of this key may outlive the new one."""
        self.expires[key] = max(end, self.expires.get(key, end))
        if len(self.expires) > self.most:
            self.expires = {one: when for one, when in self.expires.items() if self.holds(one, watermark)}
            self.most = max(LEAST_KEPT, 2 * len(self.expires))
