"""Plain lines on a terminal or in a file; on a terminal the progress line is written over itself."""

import sys
import time

PAUSE_BETWEEN_LINES = 2.0


class Screen:
    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._open = False
        self._last = 0.0

    def say(self, text: str = "") -> None:
        if self._open:
            print()
            self._open = False
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.say(f"\n== {text}")

    def progress(self, text: str) -> None:
        if self._live:
            print(f"\r\033[K   {text}", end="", flush=True)
            self._open = True
        elif time.monotonic() - self._last >= PAUSE_BETWEEN_LINES:
            print(f"   {text}", flush=True)
            self._last = time.monotonic()


def bar(part: int, whole: int, width: int = 24) -> str:
    filled = width * part // whole
    return "#" * filled + "." * (width - filled)
