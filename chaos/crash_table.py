"""`python -m chaos.crash_table`: crash the processor at every point it names, restart it, let the referee judge.

Owns: what must happen first so that a point is reached. Never: skips a point; one that is not reached fails.
Data: `millstream-fault fault-points` -> one `Row` a point. Runs share one topic and database as long as all is green: the
referee reads on and judges everything each time.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import phases
from .arena import Arena, RefereeFailure
from .generator import Shares
from .loader import Loader
from .options import add_pipeline_option
from .patience import Patience
from .processor import Aim, ChaosFailure, Processor
from .program import end_on_sigterm

FIRST_EVENTS = 300
TRICKLE_EVENTS, TRICKLE_SECONDS = 40, 0.05
CUT_SECONDS = 3.0
REACH_SECONDS = 90.0
EPOCH_ARRIVAL = 2
# One worker: what must come first so that a point is reached is then the history of one owner.
ALONE = ("--workers", "1")


@dataclass
class Row:
    point: str
    reached: str
    verdict: str
    seconds: float
    text: str = ""

    @property
    def passed(self) -> bool:
        return self.reached == "yes" and self.verdict == "agrees"


class Table:
    def __init__(self, seed: int, pipeline: Path) -> None:
        self.seed, self.pipeline = seed, pipeline
        self.arena: Arena | None = None
        self.loader: Loader | None = None
        self.kept: list[str] = []

    def row(self, point: str) -> Row:
        began = time.monotonic()
        if self.arena is None or point in phases.BOOTSTRAP:
            self.renew(point)
        try:
            reached = self.crash_at(point)
        except ChaosFailure as failure:
            self.renew(point, keep=True)
            return Row(point, "no", "-", time.monotonic() - began, str(failure))
        try:
            self.arena.drain(self.arena.processors[0], *ALONE)
            self.arena.judge_end()
        except ChaosFailure as failure:
            words = ", ".join(failure.report.words) if isinstance(failure, RefereeFailure) else "failed"
            self.renew(point, keep=True)
            return Row(point, reached, words, time.monotonic() - began, str(failure))
        return Row(point, reached, "agrees", time.monotonic() - began)

    def renew(self, title: str, keep: bool = False) -> None:
        self.close(keep)
        self.arena = Arena(self.seed, title, self.pipeline)
        self.arena.processor()
        self.loader = self.arena.loader(Shares(bad=0.1))

    def close(self, keep: bool = False) -> None:
        if self.arena:
            if keep:
                self.kept.append(f"{self.arena.directory}, database {self.arena.database}")
            self.arena.close(keep)
            self.arena = None

    # -- one point ---------------------------------------------------------------------------------------------------

    def crash_at(self, point: str) -> str:
        """Raises `ChaosFailure` unless the process died of SIGKILL at the point."""
        processor = self.arena.processors[0]
        self.loader.send_all(FIRST_EVENTS)
        if point in phases.OUTPUTS_ONLY:
            self.crash(processor, Aim("postgres-committed", crash=True))
        elif point in phases.REPLAY:
            self.crash(processor, Aim("kafka-committed", crash=True))
        in_epoch = point not in (*phases.CLASSES["recovery"], *phases.REBALANCE)
        aim = Aim(point, EPOCH_ARRIVAL if in_epoch else 1, crash=True)
        if point in phases.REBALANCE:
            self.crash_for_newcomer(processor, aim)
        elif point in phases.RECOVERY:
            self.crash(processor, aim, cut_sessions=True)
        else:
            self.crash(processor, aim)
        return "yes"

    def crash(self, processor: Processor, aim: Aim, cut_sessions: bool = False) -> None:
        before = self.arena.progress()
        processor.start(*ALONE, aim=aim)
        cut_next, patience = time.monotonic(), Patience(REACH_SECONDS)
        while processor.running():
            if patience.over():
                raise processor.failure(
                    f"{aim.point}:{aim.arrival} not reached, last at {phases.listed(processor.phases())}"
                )
            self.loader.send_all(TRICKLE_EVENTS)
            if cut_sessions and time.monotonic() >= cut_next and self.arena.progress() > max(before, 0):
                # Why again: between two epochs nothing is to be recovered.
                self.arena.terminate_backends()
                cut_next = time.monotonic() + CUT_SECONDS
            time.sleep(TRICKLE_SECONDS)
        self.require_crash(processor, aim)

    def crash_for_newcomer(self, processor: Processor, aim: Aim) -> None:
        """It has every partition until somebody joins, for whom it must let go of some."""
        before = self.arena.progress()
        processor.start(*ALONE, aim=aim)
        self.arena.wait_for_progress(processor, before)
        newcomer = self.arena.processor("newcomer")
        newcomer.start(*ALONE)
        processor.wait_for_exit(REACH_SECONDS)
        self.require_crash(processor, aim)
        leaving = newcomer.drain()
        if code := newcomer.wait_for_exit(REACH_SECONDS) or leaving.wait(REACH_SECONDS):
            raise newcomer.failure(f"drained, it exited {code}")

    @staticmethod
    def require_crash(processor: Processor, aim: Aim) -> None:
        if processor.exit_code() != -signal.SIGKILL or not processor.reached(aim):
            where = phases.listed(processor.phases())
            raise processor.failure(f"{aim.point}: exited {processor.exit_code()} at {where}")


def fault_points(binary: str) -> list[str]:
    done = subprocess.run([binary, "fault-points"], capture_output=True, text=True, check=True)
    return done.stdout.split()


def main() -> int:
    end_on_sigterm()
    arguments = parse_arguments()
    table = Table(arguments.seed, arguments.pipeline)
    binary = Processor.__dataclass_fields__["binary"].default_factory()
    points = arguments.point or fault_points(binary)
    began, rows = time.monotonic(), []
    try:
        for point in points:
            row = table.row(point)
            rows.append(row)
            print(
                f"{row.point:<32} reached {row.reached:<4} referee {row.verdict:<24} {row.seconds:4.1f} s",
                flush=True,
            )
            if row.text:
                print(row.text, flush=True)
    finally:
        table.close()
    failed = [row.point for row in rows if not row.passed]
    for kept in table.kept:
        print(f"kept: {kept}")
    print(
        f"{len(rows)} points in {time.monotonic() - began:.0f} s: {len(rows) - len(failed)} passed, {len(failed)} failed"
    )
    return 1 if failed or not rows else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.crash_table")
    parser.add_argument("--seed", type=int, default=1)
    add_pipeline_option(parser)
    parser.add_argument("--point", action="append", help="only this one; may be given again")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
