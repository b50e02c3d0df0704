"""A record as it stands in an input topic."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """`timestamp` is Kafka's, in milliseconds, or None."""

    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
