"""The one exception by which a record is found dead."""

from __future__ import annotations


class Dead(Exception):
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail
