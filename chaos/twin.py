"""Two processes of one identity: the first is frozen inside an epoch, a second on a copy of its state takes over and commits
the same records, and then the first wakes up and goes on to PostgreSQL.

Owns: this one scene. Never: decides whether it ended well; the referee does. Why it brings its own load: the log must end
where the frozen epoch ends, and hold no bad records; else constraints of the tables refuse what the first would write.
"""

from __future__ import annotations

import shutil
import signal

from .arena import Arena
from .generator import Shares
from .processor import WATCH_SECONDS, Aim, ChaosFailure, Processor

REACH_SECONDS = 60.0
WAKE_SECONDS = 10.0
DWELL_MS = 1_500
EVENTS = 300


class Twin:
    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.loader = arena.loader(Shares(bad=0.0))
        self.first: Processor = arena.processor("first")
        self.second: Processor = arena.processor("second")

    def play(self, point: str, arrival: int, broken: str | None) -> None:
        """Freeze at the point, take over, wake up; both are dead afterwards."""
        aim = Aim(point, arrival, dwell_ms=DWELL_MS)
        self.loader.send_all(EVENTS)
        self.first.start(aim=aim, broken=broken)
        self.first.wait_for(f"reached {point}", lambda: self.first.reached(aim), REACH_SECONDS, WATCH_SECONDS)
        try:
            self.first.freeze()
            self.take_over(broken)
        finally:
            self.first.signal(signal.SIGCONT)
        self.let_wake()
        self.first.finish()
        self.second.kill()
        self.inherit()

    def take_over(self, broken: str | None) -> None:
        shutil.rmtree(self.second.state, ignore_errors=True)
        shutil.copytree(self.first.state, self.second.state)
        self.second.start(broken=broken)
        self.second.wait_for("everything done", self.arena.done, REACH_SECONDS, pause=0.05)

    def let_wake(self) -> None:
        """Until the first has ended by itself, or has gone on for a while."""
        try:
            self.first.wait_for_exit(WAKE_SECONDS)
        except ChaosFailure:
            pass

    def inherit(self) -> None:
        shutil.rmtree(self.first.state, ignore_errors=True)
        self.second.state.rename(self.first.state)
