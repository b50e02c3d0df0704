"""A fault proxy: between the processor and its servers, it reads every message and spoils the one it was told to.

Owns: framing of Kafka's and PostgreSQL's plain protocols, rules ("the n-th message of kind X: do Y"), and counts of what was
seen and hit. Never: decides what is right; alters a byte, except the broker's address in answers that tell it, so that every
connection of a client comes back here.
Data: `kafka`, `postgres` (bytes to messages, by `framing`) -> `link` (one connection, both directions) asks `book` (rules,
counts) -> `proxy` (the listener, in a thread of its own).
A request is of kind `EndTxn`, its answer of kind `EndTxn reply`; a statement `COMMIT`, its answer `COMMIT reply`.
Tested: `tests/test_framing.py`, `tests/test_proxy.py`, `tests/test_proxy_servers.py`.
"""

from .actions import Cut, Delay, HalfOpen, Hold, Orphan, Reset, Slice
from .book import Book, Rule
from .proxy import Proxy

__all__ = ["Book", "Cut", "Delay", "HalfOpen", "Hold", "Orphan", "Proxy", "Reset", "Rule", "Slice"]
