"""`python -m chaos.wire`: the messages that decide an epoch, lost, answered too late or delivered much later.

Owns: the cases, and which way out of each is right. Never: kills the processor; it must come through by itself.
Data: a case -> rounds of one fault each, the path that its log shows, and a verdict of the referee.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .account import listed
from .arena import Arena
from .fleet import ONE_WORKER, Fleet
from .load import Load
from .options import add_pipeline_option
from .paths import LogMark
from .processor import Processor
from .program import end_on_sigterm, play
from .proxy import Cut, Hold, Orphan
from .wire_faults import NEXT_TRANSACTION, WireFault

HIT_SECONDS, RECOVER_SECONDS, ANSWER_SECONDS = 30.0, 90.0, 40.0
ROUNDS_PER_JUDGEMENT = 5
LATE_SECONDS = 5.0
# What is held until the next transaction is let go by that, and not by time.
HELD_SECONDS = 3_600.0
# What does not say that a late message was refused: it took effect, or nobody knows what became of it.
NO_REFUSAL = ("ok", "COMMIT", "answered", "passed", "lost", "client gone", "connection closed")


@dataclass(frozen=True)
class Case:
    """`path` is the right decision where there is one alone; `refused`: what is delivered late must not take effect."""

    title: str
    fault: WireFault
    path: str | None = None
    refused: bool = False


def kafka_cases(kind: str) -> list[Case]:
    held, orphan = (action(until=NEXT_TRANSACTION, seconds=HELD_SECONDS) for action in (Hold, Orphan))
    return [
        Case(f"{kind} lost", WireFault("kafka", kind, Cut())),
        Case(f"{kind}'s answer lost", WireFault("kafka", f"{kind} reply", Cut())),
        Case(f"{kind} answered too late", WireFault("kafka", f"{kind} reply", Hold(seconds=LATE_SECONDS))),
        Case(f"{kind} released into the next transaction", WireFault("kafka", kind, held), refused=True),
        Case(f"{kind} asked again, then released so", WireFault("kafka", kind, orphan), refused=True),
    ]


CASES = [
    Case("COMMIT cut before it arrives", WireFault("postgres", "COMMIT", Cut()), path="WholeEpoch"),
    Case("COMMIT cut after it took effect", WireFault("postgres", "COMMIT reply", Cut()), path="OutputsOnly"),
    *kafka_cases("EndTxn"),
    *kafka_cases("TxnOffsetCommit"),
]


def be_impatient(raw: dict) -> None:
    """Shorter than by default, for the sake of many rounds: a client gives up, and what comes after that comes too late."""
    raw["connections"]["kafka"]["socket.timeout.ms"] = "3000"


class Wire:
    def __init__(self, arena: Arena) -> None:
        self.arena, self.fleet = arena, Fleet.of(arena, 1, ONE_WORKER)
        self.processor: Processor = self.fleet.members[0]

    def scenes(self, cases: list[Case], rounds: int, load: Load) -> Iterator[None]:
        """Every case under load, then the rest of the log."""
        load.start()
        self.fleet.start_missing()
        self.fleet.wait_for_progress(-1, RECOVER_SECONDS)
        for case in cases:
            self.run(case, rounds)
            yield
        load.stop()
        self.fleet.stop()
        self.fleet.finish_input(RECOVER_SECONDS)

    def run(self, case: Case, rounds: int) -> None:
        """Raises `ChaosFailure` at the first round that fails."""
        began, paths, answers = time.monotonic(), Counter(), Counter()
        for number in range(1, rounds + 1):
            path, answer = self.round(case)
            paths[path] += 1
            answers[answer] += 1
            if number % ROUNDS_PER_JUDGEMENT == 0 or number == rounds:
                self.arena.judge_running()
        spent = time.monotonic() - began
        print(f"{case.title:<48} {rounds} times, agrees  {spent:4.0f} s", flush=True)
        print(f"    paths: {listed(paths)}; answers: {listed(answers)}", flush=True)

    def round(self, case: Case) -> tuple[str, str]:
        mark = LogMark(self.processor.log)
        rule = case.fault.arm(self.arena.proxies)
        self.fleet.wait_for(f"{case.title}: hit", rule.hit.is_set, HIT_SECONDS)
        # Order: the epoch that was hit may still have its decision before it; the one after it comes when all is mended.
        for _ in range(2):
            self.fleet.wait_for_progress(self.arena.progress(), RECOVER_SECONDS)
        self.fleet.wait_for(f"{case.title}: answered", rule.answered.is_set, ANSWER_SECONDS)
        path = mark.path()
        if case.path and case.path not in path.split(" + "):
            raise self.processor.failure(f"{case.title}: went by {path}, due was {case.path}")
        if case.refused and rule.answer in NO_REFUSAL:
            raise self.processor.failure(f"{case.title}: what came late was answered {rule.answer}")
        return path, rule.answer


def main() -> int:
    end_on_sigterm()
    arguments = parse_arguments()
    cases = [
        case for case in CASES if not arguments.case or any(word in case.title for word in arguments.case)
    ]
    arena = Arena(arguments.seed, "wire", arguments.pipeline, be_impatient, proxied=True)
    wire, load = Wire(arena), Load(arena, arguments.rate)
    return play(arena, wire.scenes(cases, arguments.rounds, load), end=load.end)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.wire")
    parser.add_argument("--rounds", type=int, default=20, help="of each case")
    parser.add_argument(
        "--case", action="append", help="only those whose title holds this; may be given again"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1_000, help="events per second")
    add_pipeline_option(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
