"""`python -m chaos.bite`: deliberate faults, each of which the referee must catch within 20 aimed kills.

Owns: which kills reveal which fault, and a control: the same kills without a fault must be green.
Data: fault name -> `Result`. Needs the fault build and servers.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .arena import Arena, RefereeFailure
from .kill_loop import REACH_SECONDS
from .load import Load
from .options import add_pipeline_option, refuse_hop
from .processor import WATCH_SECONDS, Aim, ChaosFailure
from .program import end_on_sigterm
from .twin import Twin

MOST_ROUNDS = 20
CONTROL_ROUNDS = 3
NO_FAULT = "no fault"
RATE = 1_500.0


@dataclass(frozen=True)
class Scene:
    """Kills at these points in turn; or a frozen first process and a second one (`twin`)."""

    points: tuple[str, ...]
    twin: bool = False


SCENES = {
    "no-progress-compare": Scene(("kafka-offsets-sent",), twin=True),
    "two-transactions": Scene(
        (
            "postgres-progress-updated",
            "postgres-rows-merged",
            "postgres-dead-letters-written",
            "postgres-committing",
            "postgres-committed",
        )
    ),
    "dead-letters-outside": Scene(
        (
            "postgres-dead-letters-written",
            "postgres-rows-merged",
            "postgres-committing",
            "postgres-begun",
            "kafka-offsets-sent",
        )
    ),
    "outputs-again": Scene(("kafka-committed", "state-writing")),
    "state-first": Scene(("kafka-committing", "state-written", "postgres-committed", "postgres-begun")),
}


@dataclass
class Result:
    fault: str
    scene: str
    rounds: int
    words: list[str]
    text: str
    expected: bool


class Bite:
    """One fault in one scene, in one fresh run."""

    def __init__(self, seed: int, scene_name: str, fault: str | None, pipeline: Path) -> None:
        self.scene, self.scene_name, self.fault = SCENES[scene_name], scene_name, fault
        self.arena = Arena(seed, scene_name if fault else f"control-{scene_name}", pipeline)
        self.processor = self.arena.processor()
        self.twin = Twin(self.arena) if self.scene.twin else None
        self.rounds = 0

    def run(self) -> Result:
        """A frozen process needs a log that stands still; all other scenes a load."""
        if self.twin:
            return self.rounds_until_caught(None)
        load = Load(self.arena, RATE, bad=0.15)
        load.start()
        try:
            return self.rounds_until_caught(load)
        finally:
            load.end()

    def rounds_until_caught(self, load: Load | None) -> Result:
        try:
            for self.rounds in range(1, (MOST_ROUNDS if self.fault else CONTROL_ROUNDS) + 1):
                self.round(self.scene.points[(self.rounds - 1) % len(self.scene.points)])
            if load:
                load.stop()
            self.arena.drain(self.twin.first if self.twin else self.processor, broken=self.fault)
            self.arena.judge_end()
        except RefereeFailure as failure:
            return self.result(failure.report.words, str(failure), caught=True)
        except ChaosFailure as failure:
            return self.result([], str(failure), caught=None)
        return self.result([], "", caught=False)

    def result(self, words: list[str], text: str, caught: bool | None) -> Result:
        """`caught` is None where the processor failed before the referee could judge: never what was due."""
        due = self.fault is not None
        return Result(self.fault or NO_FAULT, self.scene_name, self.rounds, words, text, caught is due)

    def round(self, point: str) -> None:
        if self.twin:
            self.twin.play(point, 1, self.fault)
        else:
            self.kill_at(point)
            self.arena.judge_running()
            self.restart()
        self.arena.judge_running()

    def kill_at(self, point: str) -> None:
        aim = Aim(point, 3)
        self.processor.start(aim=aim, broken=self.fault)
        reached = lambda: self.processor.reached(aim)  # noqa: E731
        self.processor.wait_for(f"reached {point}", reached, REACH_SECONDS, WATCH_SECONDS)
        self.processor.kill()

    def restart(self) -> None:
        before = self.arena.progress()
        self.processor.start(broken=self.fault)
        self.arena.wait_for_progress(self.processor, before)
        self.processor.signal(signal.SIGTERM)
        try:
            self.processor.process.wait(20)
        except subprocess.TimeoutExpired:
            self.processor.kill()


def main() -> int:
    end_on_sigterm()
    arguments = parse_arguments()
    results = []
    for scene_name in arguments.fault:
        for fault in [scene_name] if arguments.no_control else [scene_name, None]:
            began = time.monotonic()
            bite = Bite(arguments.seed, scene_name, fault, arguments.pipeline)
            expected = False
            try:
                result = bite.run()
                expected = result.expected
            finally:
                bite.arena.close(keep=not expected)
            results.append(result)
            print(line(result, time.monotonic() - began), flush=True)
            if result.text and not result.expected:
                print(f"{result.text}\nkept: {bite.arena.directory}", flush=True)
            elif result.text and arguments.verbose:
                print(result.text, flush=True)
    failed = sum(not result.expected for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def line(result: Result, seconds: float) -> str:
    if result.words:
        outcome = f"caught in round {result.rounds}: {', '.join(result.words)}"
    else:
        outcome = f"nothing found in {result.rounds} rounds"
    verdict = "as due" if result.expected else "NOT AS DUE"
    return f"{result.fault:<22} kills for {result.scene:<22} {outcome:<44} {verdict}  {seconds:4.1f} s"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.bite")
    parser.add_argument("--seed", type=int, default=1)
    add_pipeline_option(parser)
    parser.add_argument(
        "--fault", action="append", choices=list(SCENES), help="only this one; may be given again"
    )
    parser.add_argument("--no-control", action="store_true", help="not the same kills without the fault")
    parser.add_argument("--verbose", action="store_true", help="print what the referee found")
    arguments = parser.parse_args()
    arguments.fault = arguments.fault or list(SCENES)
    for fault in arguments.fault:
        if SCENES[fault].twin:
            refuse_hop(parser, arguments.pipeline, f"--fault {fault}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
