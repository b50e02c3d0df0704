"""What one REPEATABLE READ snapshot of the database holds, in the units of the referee.

Data: `database` fills it, `compare` reads it. Instants are microseconds, dates days.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .record_table import FoundRow

Place = tuple[str, int]


@dataclass(frozen=True)
class Progress:
    """A partition's progress row."""

    bootstrapped: bool
    start_offset: int
    prev: int
    next: int
    commit_time: int | None
    watermark: int | None
    max_event_time: int | None
    read: int
    accepted: int
    duplicate: int
    dead: int
    dead_by_reason: dict[str, int] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)
    aggregates: dict[str, dict[str, int]] = field(default_factory=dict)


class Final(NamedTuple):
    """What `millstream.finality` says of one aggregate: nothing up to `through` changes any more, None where nothing is known.
    `session_gap` is None of windows."""

    through: int | None
    session_gap: int | None


class DeadLetterRow(NamedTuple):
    reason: str
    key: bytes | None
    value: bytes | None
    value_bytes: int | None
    headers: object
    record_timestamp: int | None


@dataclass
class Snapshot:
    """`tables` and `latest` hold rows by aggregate, `repeated_rows` and `repeated_latest` the keys found more than once, and
    `record_rows` every row by record output. `dead_letters` holds the rows from `dead_letters_from` on, `dead_letter_counts`
    counts all of a partition. `finality` is by aggregate, and `taken` is the database's time."""

    progress: dict[Place, Progress]
    tables: dict[str, dict[tuple, tuple]] = field(default_factory=dict)
    repeated_rows: dict[str, list[tuple]] = field(default_factory=dict)
    latest: dict[str, dict[tuple, tuple]] = field(default_factory=dict)
    repeated_latest: dict[str, list[tuple]] = field(default_factory=dict)
    record_rows: dict[str, list[FoundRow]] = field(default_factory=dict)
    dead_letters: dict[Place, dict[int, DeadLetterRow]] = field(default_factory=dict)
    dead_letter_counts: dict[Place, int] = field(default_factory=dict)
    dead_letters_from: dict[Place, int] = field(default_factory=dict)
    finality: dict[str, Final] = field(default_factory=dict)
    taken: int = 0
