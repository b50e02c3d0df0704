"""Sessions of one key, two ways: by a plain sort where order does not matter, and record by record where `max_duration` cuts.

Owns: which entries make a session. Never: a watermark but in the predicates of lateness; entries that are too late do not come
here. Invariant: sessions of a key are disjoint, and entries of a session in time order never lie further apart than the gap.
Data: `add(entry)`, then `sessions()` in time order; `forget` lets go one that no entry can reach any more.
Tested: `tests/test_sessions.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple


class Entry(NamedTuple):
    """A record that joins: its event time, whether it was late, and what it adds to each column."""

    time: int
    late: bool
    arguments: list


@dataclass(slots=True)
class Session:
    """`start` and `end` are its first and last event time."""

    start: int
    end: int
    entries: list[Entry]


@dataclass(frozen=True)
class SessionWindow:
    """The grades of lateness. A record's end is its event time + gap."""

    gap: int
    allowed_lateness: int

    def end(self, event_time: int) -> int:
        return event_time + self.gap

    def is_late(self, event_time: int, watermark: int | None) -> bool:
        return watermark is not None and event_time + self.gap <= watermark

    def is_too_late(self, event_time: int, watermark: int | None) -> bool:
        return watermark is not None and event_time + self.gap + self.allowed_lateness <= watermark

    def is_settled(self, last_time: int, watermark: int | None) -> bool:
        """No record that is not too late lies within the gap of a session that ends here."""
        return watermark is not None and last_time + 2 * self.gap + self.allowed_lateness <= watermark


class SortedSessions:
    """Without a longest duration: sorted by time, a session ends where the next entry is further away than the gap."""

    def __init__(self, gap: int) -> None:
        self.gap = gap
        self.entries: list[Entry] = []
        self.forgotten: int | None = None

    def add(self, entry: Entry) -> None:
        assert self.forgotten is None or entry.time > self.forgotten + self.gap, (entry, self.forgotten)
        self.entries.append(entry)

    def sessions(self) -> list[Session]:
        self.entries.sort(key=time_of)
        found: list[Session] = []
        for entry in self.entries:
            if found and entry.time - found[-1].end <= self.gap:
                found[-1].end = entry.time
                found[-1].entries.append(entry)
            else:
                found.append(Session(entry.time, entry.time, [entry]))
        return found

    def forget(self, session: Session) -> None:
        self.forgotten = session.end
        self.entries = [entry for entry in self.entries if entry.time > session.end]


class OrderedSessions:
    """With a longest duration, in the order of arrival: an entry joins the earlier neighbour if the result fits, else the
    later, else stands alone; two neighbours become one only if the whole fits."""

    def __init__(self, gap: int, longest: int) -> None:
        self.gap, self.longest = gap, longest
        self.found: list[Session] = []
        self.forgotten: int | None = None

    def add(self, entry: Entry) -> None:
        assert self.forgotten is None or entry.time > self.forgotten + self.gap, (entry, self.forgotten)
        at = bisect_right(self.found, entry.time, key=start_of)
        earlier = self.found[at - 1] if at and entry.time - self.found[at - 1].end <= self.gap else None
        later = self.found[at] if at < len(self.found) else None
        if later is not None and later.start - entry.time > self.gap:
            later = None
        if earlier is not None and self.fits(earlier.start, entry.time):
            earlier.end = max(earlier.end, entry.time)
            earlier.entries.append(entry)
            if later is not None and self.fits(earlier.start, later.end):
                earlier.end = later.end
                earlier.entries += later.entries
                del self.found[at]
        elif later is not None and self.fits(entry.time, later.end):
            later.start = entry.time
            later.entries.append(entry)
        else:
            self.found.insert(at, Session(entry.time, entry.time, [entry]))

    def fits(self, start: int, end: int) -> bool:
        return end - start <= self.longest

    def sessions(self) -> list[Session]:
        return list(self.found)

    def forget(self, session: Session) -> None:
        self.forgotten = session.end
        self.found.remove(session)


def time_of(entry: Entry) -> int:
    return entry.time


def start_of(session: Session) -> int:
    return session.start
