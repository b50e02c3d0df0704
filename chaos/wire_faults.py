"""The faults that a run lets happen on the wire: which message, of which server, and what becomes of it.

Owns: the list, and how often a message may come before its turn. Data: names -> `WireFault`s.
Tested: `tests/test_schedule.py`; carried out by `chaos.proxy`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .proxy import Cut, Delay, HalfOpen, Hold, Proxy, Reset, Rule, Slice
from .proxy.actions import Action

# Above the time-outs of the processor's clients (10 s): they give up first, and a held message outlives its client.
LATE_SECONDS = 12.0
MOST_HELD_SECONDS = 30.0
NEXT_TRANSACTION = "AddPartitionsToTxn"


@dataclass(frozen=True)
class WireFault:
    """`most` bounds the turn at which the message is hit: 1 for those that come once a start."""

    server: str
    kind: str
    action: Action
    most: int = 6

    def __str__(self) -> str:
        return f"{self.kind} {type(self.action).__name__.lower()}"

    def arm(self, proxies: dict[str, Proxy], nth: int = 1) -> Rule:
        return proxies[self.server].add(self.kind, self.action, nth)


def both_ways(server: str, kind: str, most: int = 6) -> list[WireFault]:
    """Lost before it takes effect, and after."""
    return [WireFault(server, one, Cut(), most) for one in (kind, f"{kind} reply")]


def kafka_end(kind: str) -> list[WireFault]:
    """Lost either way, answered too late, and released into the next transaction."""
    return [
        *both_ways("kafka", kind),
        WireFault("kafka", f"{kind} reply", Hold(seconds=LATE_SECONDS)),
        WireFault("kafka", kind, Hold(until=NEXT_TRANSACTION, seconds=MOST_HELD_SECONDS)),
    ]


FAULTS: tuple[WireFault, ...] = (
    *both_ways("postgres", "COMMIT"),
    WireFault("postgres", "COMMIT", Reset()),
    WireFault("postgres", "COMMIT reply", HalfOpen(seconds=LATE_SECONDS)),
    WireFault("postgres", "COMMIT", Delay(1.5)),
    WireFault("postgres", "COMMIT", Hold(until="BEGIN", seconds=MOST_HELD_SECONDS)),
    WireFault("postgres", "COMMIT reply", Slice()),
    *kafka_end("EndTxn"),
    *kafka_end("TxnOffsetCommit"),
    *both_ways("kafka", "InitProducerId", most=1),
    WireFault("kafka", "Produce", HalfOpen(seconds=LATE_SECONDS)),
    WireFault("kafka", "EndTxn", Slice()),
)
