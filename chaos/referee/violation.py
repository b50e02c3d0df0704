"""What a comparison can find wrong, in eight words."""

from __future__ import annotations

from dataclasses import dataclass

WORDS = {
    "lost": "something that a record must have caused is absent, or a count or sum is too small",
    "duplicated": "something is there more often than its records explain, or a count or sum is too large",
    "phantom": "something is there that no record explains",
    "torn": "parts of one atomic unit do not belong together",
    "reordered": "messages of one source partition are out of their order",
    "stale": "an older or foreign value stands where a newer one was due",
    "premature": "something was called final that could still change, or has changed",
    "stuck": "the end of the log was not reached",
}


@dataclass(frozen=True)
class Violation:
    word: str
    where: str
    detail: str

    def __post_init__(self) -> None:
        assert self.word in WORDS, self.word

    def __str__(self) -> str:
        return f"{self.word:<10} {self.where}: {self.detail}"


def shorten(value: object, limit: int = 160) -> str:
    """A value for a report: never longer than `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 12]}...({len(text)})"
