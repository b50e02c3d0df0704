"""Two processes of one identity: the first is frozen inside an epoch, a second on a copy of its state takes over, and then
the first wakes up.

Owns: this one scene. Never: decides whether it ended well; the referee does.
"""

from __future__ import annotations

import shutil
import signal

from .arena import Arena
from .processor import WATCH_SECONDS, Aim, ChaosFailure, Processor

REACH_SECONDS = 60.0
WAKE_SECONDS = 10.0
DWELL_MS = 1_500


class Zombie:
    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.first: Processor = arena.processor("first")
        self.second: Processor = arena.processor("second")

    def play(self, point: str, arrival: int, broken: str | None) -> None:
        """Freeze at the point, take over, wake up; both are dead afterwards."""
        aim = Aim(point, arrival, dwell_ms=DWELL_MS)
        self.first.start(aim=aim, broken=broken)
        self.first.wait_for(f"reached {point}", lambda: self.first.reached(aim), REACH_SECONDS, WATCH_SECONDS)
        self.first.signal(signal.SIGSTOP)
        try:
            self.take_over(broken)
        finally:
            self.first.signal(signal.SIGCONT)
        self.let_wake(point)
        self.first.finish()
        self.second.kill()
        self.inherit()

    def take_over(self, broken: str | None) -> None:
        shutil.rmtree(self.second.state, ignore_errors=True)
        shutil.copytree(self.first.state, self.second.state)
        before = self.arena.progress()
        self.second.start(broken=broken)
        self.arena.wait_for_progress(self.second, before, REACH_SECONDS)

    def let_wake(self, point: str) -> None:
        """Until the first has ended by itself, or has gone on for a while: the second must still make progress then."""
        try:
            self.first.wait_for_exit(WAKE_SECONDS)
        except ChaosFailure:
            pass
        if self.second.running():
            self.arena.wait_for_progress(self.second, self.arena.progress(), REACH_SECONDS)

    def inherit(self) -> None:
        shutil.rmtree(self.first.state, ignore_errors=True)
        self.second.state.rename(self.first.state)
