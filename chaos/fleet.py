"""The instances of one run: each a process of its own with its own state and port.

Owns: who runs, and that nobody ends by itself. Never: chooses whom to kill.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable

from . import phases
from .arena import Arena
from .patience import Patience
from .processor import LOOK_SECONDS, Aim, Processor

STOP_SECONDS = 60.0
# An owner is a worker: with one each, a process is one owner, and its epochs are all there are.
ONE_WORKER = ("--workers", "1")


class Fleet:
    """`arguments` go to every `run`."""

    def __init__(self, arena: Arena, members: list[Processor], arguments: tuple[str, ...] = ()) -> None:
        self.arena, self.members, self.arguments = arena, members, arguments

    @classmethod
    def of(cls, arena: Arena, instances: int, arguments: tuple[str, ...] = ()) -> Fleet:
        names = ["processor"] if instances == 1 else [f"instance-{number}" for number in range(instances)]
        return cls(arena, [arena.processor(name) for name in names], arguments)

    def start(self, member: Processor, aim: Aim | None = None) -> None:
        member.start(*self.arguments, aim=aim)

    def start_missing(self, besides: Processor | None = None) -> None:
        for member in self.members:
            if member is not besides and not member.running():
                self.start(member)

    def renew(self, member: Processor) -> None:
        """Forgets its state and with it its identity: it comes back as somebody else."""
        assert not member.running()
        shutil.rmtree(member.state, ignore_errors=True)

    def wait_for(
        self, what: str, condition: Callable[[], bool], seconds: float, pause: float = LOOK_SECONDS
    ) -> None:
        """Raises `ChaosFailure` if an instance exits by itself first, or the time is over."""
        watched = [member for member in self.members if member.running()]
        patience = Patience(seconds)
        while not condition():
            for member in self.members:
                if self.failed(member) or member in watched and not member.running():
                    raise member.failure(f"exited {member.exit_code()} by itself before: {what}")
            if patience.over():
                places = ", ".join(
                    f"{member.name} at {phases.listed(member.phases())}" for member in self.members
                )
                tails = "\n".join(str(member.failure("its log")) for member in self.members[1:])
                raise self.members[0].failure(f"not within {seconds:.0f} s: {what} ({places})\n{tails}")
            time.sleep(pause)

    @staticmethod
    def failed(member: Processor) -> bool:
        return member.process is not None and member.exit_code() not in (None, 0, -signal.SIGKILL)

    def wait_for_progress(self, beyond: int, seconds: float) -> None:
        self.wait_for(
            f"progress beyond {beyond}", lambda: self.arena.progress() > beyond, seconds, pause=0.05
        )

    def finish_input(self, seconds: float) -> None:
        """All that the log holds is done, and nobody runs any more."""
        if len(self.members) == 1:
            self.stop()
            self.arena.drain(self.members[0], *self.arguments)
            return
        if not self.arena.done():
            self.start_missing()
        self.wait_for("everything done", self.arena.done, seconds, pause=0.2)
        self.stop()

    def stop(self) -> None:
        """As an operator stops them; raises `ChaosFailure` unless all exit 0."""
        running = [member for member in self.members if member.running()]
        for member in running:
            member.signal(signal.SIGTERM)
        for member in running:
            if code := member.wait_for_exit(STOP_SECONDS):
                raise member.failure(f"exited {code} on SIGTERM")
