"""What a protocol's framing gives to a connection.

Data: `client(bytes)` and `server(bytes)` take what arrived from either end and return the messages that are complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Message:
    """`answer` is what a reply says (an error's name, or `ok`), where the framing reads it."""

    kind: str
    data: bytes
    answer: str | None = None


class Framing(Protocol):
    def client(self, arrived: bytes) -> list[Message]: ...

    def server(self, arrived: bytes) -> list[Message]: ...

    def waiting(self) -> bool:
        """Whether a request was passed whose reply has not come."""
        ...


class ProtocolFault(ValueError):
    """Bytes that are not what the protocol allows here."""
