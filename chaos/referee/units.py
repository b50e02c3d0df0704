"""Durations and sizes as a pipeline file writes them."""

from __future__ import annotations

import re

MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
BYTES = {
    "": 1,
    "B": 1,
    "KB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}


def duration_micros(text: str) -> int:
    """`90s`, `1h` and also `1h30m` in microseconds."""
    parts = re.findall(r"(\d+)(us|ms|s|m|h|d)", text.strip())
    if not parts or "".join(n + u for n, u in parts) != text.strip():
        raise ValueError(f"not a duration: {text!r}")
    return sum(int(n) * MICROS[u] for n, u in parts)


def size_bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text.strip())
    if not match or match.group(2) not in BYTES:
        raise ValueError(f"not a size: {text!r}")
    return int(match.group(1)) * BYTES[match.group(2)]
