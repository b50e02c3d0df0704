"""How long something is waited for, on a machine that may stand still meanwhile.

Owns: a bound that only counts time in which somebody looked. Never: looks itself. Tested: `tests/test_patience.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# Longer than a look takes; whoever comes back later has stood still, and so has what is waited for.
MOST_SECONDS_BETWEEN_LOOKS = 2.0


class Patience:
    """So many seconds from now on. Between two looks no more than `MOST_SECONDS_BETWEEN_LOOKS` count."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.left, self.clock, self.looked = seconds, clock, clock()

    def over(self) -> bool:
        """To be asked after every look in vain."""
        now = self.clock()
        self.left -= min(now - self.looked, MOST_SECONDS_BETWEEN_LOOKS)
        self.looked = now
        return self.left < 0.0
