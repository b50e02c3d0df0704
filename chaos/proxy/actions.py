"""What can be done to one message. On a request: before it took effect; on its reply: after.

Data: a rule carries one; `link` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """The message is lost and both ends are closed."""


@dataclass(frozen=True)
class Reset:
    """As `Cut`, but the client sees a reset instead of an end."""


@dataclass(frozen=True)
class Delay:
    """The message, and what comes behind it, passes later."""

    seconds: float


@dataclass(frozen=True)
class HalfOpen:
    """From this message on nothing passes in either direction, and neither end is told, for so long; then it is cut."""

    seconds: float


@dataclass(frozen=True)
class Slice:
    """The first bytes of the message, at most `sliced`, pass in packets of one byte; the rest whole."""

    sliced: int = 512


@dataclass(frozen=True)
class Hold:
    """The message waits, also when its client has given up and gone; what comes behind it on its connection waits too.

    Released by `Rule.release`, or before the next message of kind `until` passes on another connection: that one waits
    until the released one was answered. After `seconds` it is released anyway.
    """

    until: str | None = None
    seconds: float = 60.0


@dataclass(frozen=True)
class Orphan(Hold):
    """As `Hold`, but the connection is closed towards the client at once: it asks again while the first message waits."""


Action = Cut | Reset | Delay | HalfOpen | Slice | Hold


def name_of(action: Action) -> str:
    return type(action).__name__.lower()
