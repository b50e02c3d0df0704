"""Which partition an output message belongs to: murmur2 of its key as Java's client has it, else the source's modulo.

Tested: `tests/test_enrichment.py` with the client's published vectors.
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995


def murmur2(data: bytes) -> int:
    length = len(data)
    h = (SEED ^ length) & MASK
    at = 0
    while length - at >= 4:
        k = int.from_bytes(data[at : at + 4], "little") * MULTIPLIER & MASK
        k = (k ^ k >> 24) * MULTIPLIER & MASK
        h = (h * MULTIPLIER & MASK) ^ k
        at += 4
    rest = data[at:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * MULTIPLIER & MASK
    h = (h ^ h >> 13) * MULTIPLIER & MASK
    return h ^ h >> 15


class Partitioner:
    """Remembers keys: a log has few of them, many times over."""

    LIMIT = 200_000

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.known: dict[bytes, int] = {}

    def partition(self, key: bytes | None, source_partition: int) -> int:
        if key is None:
            return source_partition % self.partitions
        found = self.known.get(key)
        if found is None:
            if len(self.known) >= self.LIMIT:
                self.known.clear()
            found = self.known[key] = (murmur2(key) & 0x7FFFFFFF) % self.partitions
        return found
