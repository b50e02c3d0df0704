"""`python -m chaos.kill_loop --kills N --seed S`: load, kill, restart, judge; again and again.

Owns: the rounds of one run and its account. Never: believes the processor; each round is judged from outside.
Data: `schedule` says what to kill, `arena` holds the run. Ends with `N passed, M failed`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from . import phases
from .arena import Arena, add_pipeline_option
from .load import Load
from .processor import WATCH_SECONDS, ChaosFailure, Processor
from .referee.__main__ import conservation
from .referee.inspection import Report
from .schedule import BACKENDS, LATE, Plan, Schedule

REACH_SECONDS = 60.0
OUTAGE_SECONDS = (0.5, 2.0)
MOST_ROUNDS_WITHOUT_PROGRESS = 10


class KillLoop:
    def __init__(self, arena: Arena, schedule: Schedule, rate: float) -> None:
        self.arena, self.schedule = arena, schedule
        self.load = Load(arena, rate)
        self.processor: Processor = arena.processor()
        self.random = random.Random(schedule.kills)
        self.points: Counter = Counter()
        self.hits: Counter = Counter()
        self.server_kills: Counter = Counter()
        self.passed = 0
        self.idle_rounds = 0

    def run(self) -> None:
        """Raises `ChaosFailure` at the first round that fails."""
        self.load.start()
        for number, plan in enumerate(self.schedule.plans, 1):
            began, before = time.monotonic(), self.arena.progress()
            phase = self.round(plan)
            report = self.arena.judge_running()
            self.require_progress(before)
            self.passed += 1
            self.note(number, plan, phase, report, time.monotonic() - began)
        self.load.stop()
        self.arena.drain(self.processor)
        self.show_end(self.arena.judge_end())

    # -- one round ---------------------------------------------------------------------------------------------------

    def round(self, plan: Plan) -> phases.Phase | None:
        before = self.arena.progress()
        self.processor.start(aim=plan.aim)
        if plan.trouble == BACKENDS:
            self.arena.wait_for_progress(self.processor, before)
            self.arena.terminate_backends()
        elif plan.trouble:
            return self.kill_with_server(plan, before)
        if plan.aim:
            what = f"reached {plan.aim.point}:{plan.aim.arrival}"
            reached = lambda: self.processor.reached(plan.aim)  # noqa: E731
            self.processor.wait_for(what, reached, REACH_SECONDS, WATCH_SECONDS)
            return self.kill()
        if plan.when == LATE:
            self.arena.wait_for_progress(self.processor, before)
        if plan.judge_before:
            self.arena.judge_running()
        time.sleep(plan.delay)
        return self.kill()

    def kill_with_server(self, plan: Plan, before: int) -> phases.Phase | None:
        self.arena.wait_for_progress(self.processor, before)
        time.sleep(plan.delay)
        self.server_kills[plan.trouble] += 1
        self.arena.servers.kill(plan.trouble)
        phase = self.kill() if plan.together else None
        time.sleep(self.random.uniform(*OUTAGE_SECONDS))
        self.arena.servers.start(plan.trouble)
        if plan.together:
            return phase
        self.arena.wait_for_progress(self.processor, self.arena.progress(), REACH_SECONDS)
        return self.kill()

    def kill(self) -> phases.Phase | None:
        phase = self.processor.kill()
        point = phase.point if phase else "before any point"
        self.points[point] += 1
        self.hits.update(phases.classes_of(point))
        return phase

    def require_progress(self, before: int) -> None:
        self.idle_rounds = 0 if self.arena.progress() > before else self.idle_rounds + 1
        if self.idle_rounds > MOST_ROUNDS_WITHOUT_PROGRESS:
            raise self.processor.failure(f"no progress in {self.idle_rounds} rounds")

    # -- the account -------------------------------------------------------------------------------------------------

    def note(
        self, number: int, plan: Plan, phase: phases.Phase | None, report: Report, seconds: float
    ) -> None:
        point = f"{phase.point}:{phase.arrival}" if phase else "before any point"
        read = report.counts["read"]
        text = f"{number:>4}/{self.schedule.kills}  killed at {point:<32} {read:>8} read, agrees"
        print(f"{text}  {seconds:4.1f} s  ({plan})", flush=True)

    def show_end(self, report: Report) -> None:
        print(conservation(report.counts))
        for name, counts in (("rows", report.rows), ("messages", report.messages)):
            print(
                f"{name}: " + ", ".join(f"{what.split('.', 1)[-1]} {count}" for what, count in counts.items())
            )
        print("referee: everything agrees at the end")

    def show_hits(self) -> list[str]:
        """Prints what was hit; returns the classes that were not hit often enough."""
        names = [*phases.CLASSES, phases.ELSEWHERE]
        print("kills: " + ", ".join(f"{self.hits[name]} {name}" for name in names))
        print("points: " + ", ".join(f"{point} {count}" for point, count in sorted(self.points.items())))
        print(
            "servers killed: "
            + ", ".join(f"{name} {self.server_kills[name]}" for name in ("kafka", "postgres"))
        )
        due = self.schedule.kills // 10
        return [f"only {self.hits[name]} of {due} {name}" for name in phases.CLASSES if self.hits[name] < due]


def main() -> int:
    arguments = parse_arguments()
    began = time.monotonic()
    arena = Arena(arguments.seed, pipeline=arguments.pipeline)
    loop = KillLoop(
        arena, Schedule(arguments.kills, arguments.seed, not arguments.spare_servers), arguments.rate
    )
    failed = 0
    try:
        loop.run()
    except (ChaosFailure, KeyboardInterrupt) as failure:
        failed = 1
        print(f"FAILED in round {loop.passed + 1} (seed {arguments.seed}): {failure}", flush=True)
    except Exception:
        failed = 1
        print(
            f"FAILED in round {loop.passed + 1} (seed {arguments.seed}):\n{traceback.format_exc()}",
            flush=True,
        )
    finally:
        loop.load.end()
        arena.close(keep=bool(failed) or arguments.keep)
    thin = loop.show_hits()
    if thin and not failed:
        failed = 1
        print("FAILED: " + "; ".join(thin))
    if failed or arguments.keep:
        print(f"kept: {arena.directory}, database {arena.database}, topic {arena.source.topic}")
    print(f"took {time.monotonic() - began:.0f} s")
    print(f"{loop.passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos/kill-loop.sh")
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    add_pipeline_option(parser)
    parser.add_argument("--rate", type=float, default=2_500, help="events per second of the load")
    parser.add_argument("--spare-servers", action="store_true", help="kill only the processor")
    parser.add_argument(
        "--keep", action="store_true", help="keep logs, topics and database of a run that passed too"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
