"""`python -m chaos.zombie`: owners frozen inside an epoch until others own their partitions, then continued.

Owns: this scene, 20 times each before the decision in PostgreSQL, inside the open transaction that is to decide, and between that
decision and Kafka's; and that each late commit was attempted and refused, seen on the wire. Never: decides whether all ended well;
the referee does.
Order: the log stands still while the owner is frozen, so the heir has committed the very records of the frozen epoch.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .account import listed
from .arena import Arena
from .fleet import ONE_WORKER, Fleet
from .options import add_pipeline_option, refuse_hop
from .paths import LET_GO, LogMark
from .processor import WATCH_SECONDS, Aim, Processor
from .program import end_on_sigterm, play
from .proxy import Hold

EVENTS = 400
# Until it is frozen. Over by far when it goes on.
DWELL_MS = 20_000
REACH_SECONDS, TAKE_OVER_SECONDS, REFUSE_SECONDS, SETTLE_SECONDS = 60.0, 90.0, 30.0, 90.0
# The server's last word in a session that was idle inside a transaction for too long.
IDLE_TIME_OUT = "25P03"
# What is held back is let go by the late commit, or never.
HELD_SECONDS = 3_600.0
OWNERS = "SELECT count(DISTINCT owner) FROM millstream.progress WHERE application = %s"


@dataclass(frozen=True)
class Scene:
    """Frozen at `point`; the late commit is a message of `kind` to `server` that gets one of the answers `refusals`. Where the
    `server_ends` what is open by itself, it gives that answer before it is asked."""

    server: str
    point: str
    kind: str
    refusals: tuple[str, ...]
    server_ends: bool = False


SCENES = {
    # Why not `UPDATE 0`: noting the backend answers that too; only an epoch that was compared and refused rolls back.
    "postgres": Scene("postgres", "kafka-offsets-sent", "ROLLBACK", ("ROLLBACK",)),
    "postgres-open": Scene("postgres", "postgres-committing", "COMMIT", (IDLE_TIME_OUT,), server_ends=True),
    "kafka": Scene(
        "kafka",
        "postgres-committed",
        "EndTxn",
        ("INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED", "INVALID_TXN_STATE"),
    ),
}


class Zombies:
    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.loader = arena.loader()
        self.zombie: Processor = arena.processor("zombie")
        self.heir: Processor = arena.processor("heir", direct=True)
        self.fleet = Fleet(arena, [self.zombie, self.heir], ONE_WORKER)

    def scenes(self, names: list[str], rounds: int) -> Iterator[None]:
        """Every scene, then the rest of the log."""
        for name in names:
            self.run(SCENES[name], rounds)
            yield
        self.fleet.finish_input(TAKE_OVER_SECONDS)

    def run(self, scene: Scene, rounds: int) -> None:
        """Raises `ChaosFailure` at the first round that fails."""
        began, refusals, paths = time.monotonic(), Counter(), Counter()
        for _ in range(rounds):
            self.settle()
            refusal, path = self.round(scene)
            refusals[refusal] += 1
            paths[path] += 1
            self.arena.judge_running()
        spent = time.monotonic() - began
        print(
            f"frozen at {scene.point}: {rounds} late commits refused by {scene.server}  {spent:.0f} s",
            flush=True,
        )
        print(f"    answers: {listed(refusals)}; the owner's paths: {listed(paths)}", flush=True)

    def settle(self) -> None:
        """Both run, and each owns partitions."""
        self.fleet.start_missing()
        both = lambda: self.owners() == 2 and self.arena.group_is_stable()  # noqa: E731
        self.loader.send_all(EVENTS)
        self.fleet.wait_for("both own partitions", both, SETTLE_SECONDS, pause=0.1)
        self.catch_up()

    def catch_up(self) -> None:
        both = lambda: self.arena.done() and self.arena.followed()  # noqa: E731
        self.fleet.wait_for("both witnesses at the end", both, TAKE_OVER_SECONDS, pause=0.1)

    def owners(self) -> int:
        return self.arena.ask(OWNERS, self.arena.plan.name)

    def round(self, scene: Scene) -> tuple[str, str]:
        """The refusal and the owner's path. Its first epoch after the start is the frozen one."""
        aim = Aim(scene.point, 1, dwell_ms=DWELL_MS)
        self.zombie.kill()
        self.loader.send_all(EVENTS)
        self.fleet.start(self.zombie, aim)
        reached = lambda: self.zombie.reached(aim)  # noqa: E731
        self.fleet.wait_for(f"reached {scene.point}", reached, REACH_SECONDS, WATCH_SECONDS)
        self.zombie.freeze()
        try:
            refused = self.ended_by_server(scene) if scene.server_ends else self.refused_when_asked(scene)
            self.fleet.wait_for("the heir owns all", lambda: self.owners() == 1, TAKE_OVER_SECONDS, pause=0.1)
            self.catch_up()
            mark = LogMark(self.zombie.log)
        finally:
            self.zombie.signal(signal.SIGCONT)
        what = f"the late commit was attempted and refused by {scene.server}"
        self.fleet.wait_for(what, lambda: bool(refused()), REFUSE_SECONDS, pause=0.01)
        refusal = next(iter(refused()))
        let_go = lambda: any(word in LET_GO for word in mark.path().split(" + "))  # noqa: E731
        self.fleet.wait_for("the owner has let go of its tasks", let_go, REFUSE_SECONDS)
        return refusal, mark.path()

    # -- what tells that a commit from now on was attempted and refused: the answers it got ------------------------------

    def refused_when_asked(self, scene: Scene) -> Callable[[], Counter]:
        before = self.answers(scene, scene.kind)
        return lambda: self.answers(scene, scene.kind) - before

    def ended_by_server(self, scene: Scene) -> Callable[[], Counter]:
        """The end waits until the owner sends its commit: one that knew of it would send none."""
        before = self.answers(scene, "error")
        end = self.arena.proxies[scene.server].add("error reply", Hold(until=scene.kind, seconds=HELD_SECONDS))
        self.fleet.wait_for(f"{scene.server} ends the transaction", end.hit.is_set, REFUSE_SECONDS)
        # Why not `answered`: it also is where the owner has closed the connection and sent nothing.
        return lambda: self.answers(scene, "error") - before if end.released.is_set() else Counter()

    def answers(self, scene: Scene, kind: str) -> Counter:
        found = self.arena.proxies[scene.server].book.answers.copy()
        return Counter({refusal: found[f"{kind} reply: {refusal}"] for refusal in scene.refusals})


def main() -> int:
    end_on_sigterm()
    arguments = parse_arguments()
    arena = Arena(arguments.seed, "zombie", arguments.pipeline, proxied=True)
    return play(arena, Zombies(arena).scenes(arguments.scene or list(SCENES), arguments.rounds))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.zombie")
    parser.add_argument("--rounds", type=int, default=20, help="of each scene")
    parser.add_argument(
        "--scene", action="append", choices=list(SCENES), help="only this one; may be given again"
    )
    parser.add_argument("--seed", type=int, default=1)
    add_pipeline_option(parser)
    arguments = parser.parse_args()
    refuse_hop(parser, arguments.pipeline, "this program")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
