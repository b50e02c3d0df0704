"""Whether one output partition is an interleaving of its sources: each source's messages in their order, and which is whose.

Owns: the matching of messages that look alike. Several sources may be due the same bytes, so a message is not tied to one of
them while more than one may have sent it: all ways of sharing out that keep every source's order are followed, and a message is
out of order only if there is none. Never: knows what a letter stands for.
Data: `expect(source, offset, letter)` in the order of each source, `take(letter)` in the order of the partition, `outstanding`.
Why a limit: telling a shuffle of many words is hard (Buss, Soltys, "Unshuffling a square is NP-hard", 2014). Beyond `MOST_WAYS`
the letter that makes them so many is counted only, and its order let go.
Tested: `tests/test_interleaving.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

MOST_WAYS = 512
# How far each lane is, by its number, where that is further than in every way.
Way = dict[int, int]


class Taken(NamedTuple):
    """Whose message it was; `source` is None where several may have sent it. `behind` is the offset of that source which
    came before it, though it is higher."""

    source: Hashable | None = None
    offset: int | None = None
    behind: int | None = None


class Due(NamedTuple):
    source: Hashable
    offset: int
    letter: int


class Lane:
    """What is due from one source. Entries before `first` are done in every way; one without a letter is passed over."""

    __slots__ = ("source", "first", "entries", "last")

    def __init__(self, source: Hashable) -> None:
        self.source, self.first, self.last = source, 0, -1
        self.entries: deque[tuple[int, int | None]] = deque()

    def letter(self, index: int) -> int | None:
        """That of an entry, or None at the end."""
        at = index - self.first
        return self.entries[at][1] if at < len(self.entries) else None

    def settled(self, index: int) -> int:
        """The first place from here on that has a letter, or the end."""
        end = self.first + len(self.entries)
        while index < end and self.entries[index - self.first][1] is None:
            index += 1
        return index

    def find(self, letter: int, index: int) -> int | None:
        """The first place from here on with this letter."""
        for at, entry in enumerate(islice(self.entries, index - self.first, None)):
            if entry[1] == letter:
                return index + at
        return None


class Interleaving:
    def __init__(self) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.lanes: list[Lane] = []
        # The lanes that have a letter: the number of one that has it once, or how often each has it.
        self.places: dict[int, int | Counter] = {}
        self.ways: list[Way] = [{}]
        self.open: set[int] = set()
        self.passed: dict[int, list[tuple[Lane, int]]] = {}
        self.loose: dict[int, list[tuple[Lane, int]]] = {}

    def expect(self, source: Hashable, offset: int, letter: int) -> None:
        number = self.numbers.get(source)
        if number is None:
            number = self.numbers[source] = len(self.lanes)
            self.lanes.append(Lane(source))
        lane = self.lanes[number]
        if letter in self.loose:
            self.loose[letter].append((lane, offset))
            return
        lane.entries.append((offset, letter))
        before = self.places.get(letter)
        if before is None:
            self.places[letter] = number
        elif isinstance(before, int):
            self.places[letter] = Counter((before, number))
        else:
            before[number] += 1

    def expects(self, letter: int) -> bool:
        return letter in self.places

    def take(self, letter: int) -> Taken | None:
        """The next message. None where nothing that is due explains it."""
        place = self.places.get(letter)
        if isinstance(place, int):
            lane = self.lanes[place]
            if place not in self.open and lane.entries[0][1] == letter:
                return Taken(lane.source, self.drop_first(place))
            place = (place,)
        if self.loose.get(letter):
            self.loose[letter].pop(0)
            return Taken()
        heads = [
            (way, number)
            for number in place or ()
            for way in self.ways
            if self.lanes[number].letter(self.reached(way, number)) == letter
        ]
        if heads:
            return self.advance(heads, letter)
        if letter in self.passed:
            return self.take_passed(letter)
        return self.jump(letter, place or ())

    def outstanding(self, is_due: Callable[[Hashable, int], bool]) -> list[Due]:
        """What is due and was not found: in the way by which least is missing."""
        found = [
            Due(lane.source, offset, letter)
            for kept in (self.passed, self.loose)
            for letter, entries in kept.items()
            for lane, offset in entries
            if is_due(lane.source, offset)
        ]
        closed = [number for number in range(len(self.lanes)) if number not in self.open]
        found += self.beyond({}, closed, is_due)
        return found + min((list(self.beyond(way, self.open, is_due)) for way in self.ways), key=len)

    # -- steps -------------------------------------------------------------------------------------------------------

    def reached(self, way: Way, number: int) -> int:
        return way.get(number, self.lanes[number].first)

    def beyond(self, way: Way, numbers: Iterable[int], is_due: Callable) -> Iterator[Due]:
        for number in numbers:
            lane = self.lanes[number]
            for offset, letter in islice(lane.entries, self.reached(way, number) - lane.first, None):
                if letter is not None and is_due(lane.source, offset):
                    yield Due(lane.source, offset, letter)

    def advance(self, heads: list[tuple[Way, int]], letter: int) -> Taken:
        """Every way goes on wherever this letter is next."""
        places = {(number, self.reached(way, number)) for way, number in heads}
        taken = Taken()
        if len(places) == 1:
            ((number, index),) = places
            lane = self.lanes[number]
            taken = Taken(lane.source, lane.entries[index - lane.first][0])
        self.settle(
            {**way, number: self.lanes[number].settled(self.reached(way, number) + 1)}
            for way, number in heads
        )
        if len(self.ways) > MOST_WAYS:
            self.let_go(letter)
        return taken

    def settle(self, ways: Iterable[Way]) -> None:
        """These are the ways now; what is done in all of them is done."""
        self.ways = list({frozenset(way.items()): way for way in ways}.values())
        self.open = set()
        for number in {number for way in self.ways for number in way}:
            lane = self.lanes[number]
            least = min(self.reached(way, number) for way in self.ways)
            while lane.first < least:
                self.drop_first(number)
            for way in self.ways:
                if way.get(number) == lane.first:
                    del way[number]
                elif number in way:
                    self.open.add(number)

    def drop_first(self, number: int) -> int:
        """Also what follows without a letter. The offset of the first."""
        lane = self.lanes[number]
        offset, letter = lane.entries.popleft()
        lane.first, lane.last = lane.first + 1, offset
        if letter is not None:
            self.forget(letter, number)
        self.drop_blanks(lane)
        return offset

    @staticmethod
    def drop_blanks(lane: Lane) -> None:
        while lane.entries and lane.entries[0][1] is None:
            lane.entries.popleft()
            lane.first += 1

    def forget(self, letter: int, number: int) -> None:
        place = self.places[letter]
        if isinstance(place, int):
            del self.places[letter]
            return
        place[number] -= 1
        if not place[number]:
            del place[number]
        if not place:
            del self.places[letter]

    def take_passed(self, letter: int) -> Taken:
        entries = self.passed[letter]
        lane, offset = entries.pop(0)
        if not entries:
            del self.passed[letter]
        return Taken(lane.source, offset, lane.last)

    def jump(self, letter: int, numbers: Iterable[int]) -> Taken | None:
        """No way has this letter next: what stands before its nearest place is lost, or comes too late."""
        best: tuple[int, Way, int] | None = None
        for number in numbers:
            for way in self.ways:
                index = self.lanes[number].find(letter, self.reached(way, number))
                if index is not None:
                    distance = index - self.reached(way, number)
                    best = min(best or (distance, way, number), (distance, way, number), key=nearest)
        if best is None:
            return None
        distance, way, number = best
        lane, first = self.lanes[number], self.reached(way, number)
        for offset, between in islice(lane.entries, first - lane.first, first - lane.first + distance):
            if between is not None:
                self.passed.setdefault(between, []).append((lane, offset))
        taken = Taken(lane.source, lane.entries[first - lane.first + distance][0])
        self.settle([{**way, number: lane.settled(first + distance + 1)}])
        return taken

    def let_go(self, letter: int) -> None:
        """From now on this letter is counted only."""
        way, loose = self.ways[0], []
        for number in list(self.places.pop(letter, ())):
            lane = self.lanes[number]
            for at, (offset, there) in enumerate(lane.entries):
                if there == letter:
                    lane.entries[at] = (offset, None)
                    if lane.first + at >= self.reached(way, number):
                        loose.append((lane, offset))
            self.drop_blanks(lane)
        self.loose[letter] = loose
        self.settle(
            {number: self.settled_from(number, index) for number, index in way.items()} for way in self.ways
        )

    def settled_from(self, number: int, index: int) -> int:
        lane = self.lanes[number]
        return lane.settled(max(index, lane.first))


def nearest(found: tuple[int, Way, int]) -> int:
    return found[0]
