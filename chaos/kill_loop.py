"""`python -m chaos.kill_loop --kills N --seed S [--instances I]`: load, kill, restart, judge; again and again.

Owns: the rounds of one run. Never: believes the processor; each round is judged from outside.
Data: `schedule` says what to kill and what else befalls it, `fleet` holds the processes, `account` counts what was hit.
Ends with `N passed, M failed`.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
import traceback

from . import phases
from .account import Account
from .arena import Arena
from .fleet import Fleet
from .load import Load
from .options import add_pipeline_option
from .processor import WATCH_SECONDS, Aim, ChaosFailure, Processor
from .program import end_on_sigterm
from .schedule import ABSENCE, BACKENDS, DEPARTURE, FREEZE, LATE, NEWCOMER, REBALANCES, Means, Plan, Schedule
from .servers import NAMES

REACH_SECONDS = 60.0
PROGRESS_SECONDS = 90.0
END_SECONDS = 300.0
OUTAGE_SECONDS = (0.5, 2.0)
# How long the group waits for a member, the longest time-out of all.
SESSION_SECONDS = 30.0
FROZEN_SECONDS = SESSION_SECONDS + 4.0
REBALANCE_SECONDS = SESSION_SECONDS + 30.0
DRAIN_SECONDS = 90.0
MOST_ROUNDS_WITHOUT_PROGRESS = 10


class KillLoop:
    def __init__(self, arena: Arena, fleet: Fleet, schedule: Schedule, rate: float) -> None:
        self.arena, self.fleet, self.schedule = arena, fleet, schedule
        self.load = Load(arena, rate)
        self.random = random.Random(schedule.kills)
        self.account = Account(schedule, arena)
        self.idle_rounds = 0

    @property
    def many(self) -> bool:
        return len(self.fleet.members) > 1

    def run(self) -> None:
        """Raises `ChaosFailure` at the first round that fails."""
        self.load.start()
        for number, plan in enumerate(self.schedule.plans, start=1):
            began, before = time.monotonic(), self.arena.progress()
            phase = self.round(plan, before)
            # Why: what the others write cannot be read before the dead one's transaction has ended, which takes its
            # time-out unless it comes back; the referee waits for it.
            if self.many and number % 4:
                self.fleet.start_missing()
            report = self.arena.judge_running()
            self.require_progress(before)
            self.account.note(plan, phase, report, time.monotonic() - began)
        self.load.stop()
        self.fleet.finish_input(END_SECONDS)
        self.account.show_end(self.arena.judge_end())

    # -- one round ---------------------------------------------------------------------------------------------------

    def round(self, plan: Plan, before: int) -> phases.Phase | None:
        """Ends with the kill of at least one instance; the phase it had reached."""
        victim = self.fleet.members[plan.victim]
        rule = plan.wire.arm(self.arena.proxies, plan.turn) if plan.wire else None
        if plan.trouble in REBALANCES:
            return {NEWCOMER: self.newcomer, ABSENCE: self.absence, DEPARTURE: self.departure}[plan.trouble](
                victim
            )
        self.start(victim, plan)
        if plan.trouble == BACKENDS:
            self.fleet.wait_for_progress(before, PROGRESS_SECONDS)
            self.arena.terminate_backends()
        elif plan.trouble == FREEZE:
            self.freeze(victim, before)
        elif plan.trouble in NAMES:
            return self.kill_with_server(victim, plan, before)
        elif rule:
            self.fleet.wait_for(f"{plan.wire} {plan.turn}", rule.hit.is_set, REACH_SECONDS)
            self.account.wire[str(plan.wire)] += 1
            self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)
        if plan.aim:
            self.wait_for_point(victim, plan.aim)
            return self.kill(victim)
        if plan.when == LATE and not plan.trouble and not rule:
            self.fleet.wait_for_progress(before, PROGRESS_SECONDS)
        if plan.judge_before:
            self.arena.judge_running()
        time.sleep(plan.delay)
        phase = self.kill(victim)
        if rule:
            rule.release()
        return phase

    def start(self, victim: Processor, plan: Plan) -> None:
        """All run; the victim afresh if it must be told where to stop, or meet a fault on the wire that only a start may
        bring. Who makes the tasks for the first time is alone."""
        if (plan.aim or plan.wire) and victim.running():
            self.kill(victim)
        if not victim.running():
            self.fleet.start(victim, plan.aim)
        if not (plan.aim and plan.aim.point in phases.BOOTSTRAP):
            self.fleet.start_missing(besides=victim)

    def wait_for_point(self, victim: Processor, aim: Aim) -> None:
        """Among several, the victim's partitions may just have moved away: then it is killed where it is."""
        what = f"reached {aim.point}:{aim.arrival}"
        deadline = time.monotonic() + REACH_SECONDS
        gone = lambda: self.many and time.monotonic() > deadline - REACH_SECONDS / 2  # noqa: E731
        self.fleet.wait_for(what, lambda: victim.reached(aim) or gone(), REACH_SECONDS, WATCH_SECONDS)
        if not victim.reached(aim):
            self.account.missed += 1

    def kill_with_server(self, victim: Processor, plan: Plan, before: int) -> phases.Phase | None:
        self.fleet.wait_for_progress(before, PROGRESS_SECONDS)
        time.sleep(plan.delay)
        self.account.servers[plan.trouble] += 1
        self.arena.servers.kill(plan.trouble)
        phase = self.kill(victim) if plan.together else None
        time.sleep(self.random.uniform(*OUTAGE_SECONDS))
        self.arena.servers.start(plan.trouble)
        if plan.together:
            return phase
        self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)
        return self.kill(victim)

    def freeze(self, victim: Processor, before: int) -> None:
        """Stopped for longer than any time-out lasts, then continued: others have its partitions by then, if there are any."""
        self.fleet.wait_for_progress(before, PROGRESS_SECONDS)
        victim.signal(signal.SIGSTOP)
        self.account.freeze(victim.phase())
        try:
            time.sleep(FROZEN_SECONDS)
            if self.many:
                self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)
        finally:
            victim.signal(signal.SIGCONT)
        self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)
        self.arena.judge_running()

    def newcomer(self, victim: Processor) -> phases.Phase | None:
        """An instance is lost with its disk; somebody new joins instead, and one of all dies while partitions move."""
        self.fleet.start_missing()
        self.kill(victim)
        self.fleet.renew(victim)
        self.fleet.start(victim)
        return self.kill_in_rebalance(self.random.choice(self.fleet.members))

    def absence(self, victim: Processor) -> phases.Phase | None:
        """An instance stays away until its session is over, and another dies while partitions move."""
        self.fleet.start_missing()
        self.fleet.wait_for("the group is stable", self.arena.group_is_stable, REBALANCE_SECONDS)
        self.kill(victim)
        return self.kill_in_rebalance(self.another(victim))

    def departure(self, victim: Processor) -> phases.Phase | None:
        """An instance is told to leave, and another dies while it hands its partitions over."""
        self.fleet.start_missing()
        # Why: one that has only just started cannot be told to leave, though the group counts it already.
        self.fleet.wait_for("it is ready", lambda: victim.ready()[0], REBALANCE_SECONDS, pause=0.1)
        self.fleet.wait_for("the group is stable", self.arena.group_is_stable, REBALANCE_SECONDS)
        drain, other = victim.drain(), self.another(victim)
        try:
            other.wait_for("partitions move", self.arena.partitions_move, REBALANCE_SECONDS, WATCH_SECONDS)
            phase = self.kill(other)
            victim.wait_for_exit(DRAIN_SECONDS)
            codes = (drain.wait(DRAIN_SECONDS), victim.exit_code())
        finally:
            drain.kill()
        if codes != (0, 0):
            raise victim.failure(f"drained, the command and the instance exited {codes}")
        return phase

    def another(self, victim: Processor) -> Processor:
        return self.random.choice([one for one in self.fleet.members if one is not victim])

    def kill_in_rebalance(self, victim: Processor) -> phases.Phase | None:
        self.fleet.wait_for("partitions move", self.arena.partitions_move, REBALANCE_SECONDS, WATCH_SECONDS)
        return self.kill(victim)

    def kill(self, victim: Processor) -> phases.Phase | None:
        moving = self.many and self.arena.partitions_move()
        phase = victim.kill()
        self.account.kill(phase, moving)
        return phase

    def require_progress(self, before: int) -> None:
        self.idle_rounds = 0 if self.arena.progress() > before else self.idle_rounds + 1
        if self.idle_rounds > MOST_ROUNDS_WITHOUT_PROGRESS:
            raise self.fleet.members[0].failure(f"no progress in {self.idle_rounds} rounds")


def main() -> int:
    end_on_sigterm()
    arguments = parse_arguments()
    began = time.monotonic()
    means = Means(
        servers=not arguments.spare_servers,
        wire=not arguments.spare_wire,
        freeze=not arguments.spare_wire,
        instances=arguments.instances,
    )
    arena = Arena(arguments.seed, "", arguments.pipeline, proxied=means.wire)
    workers = ("--workers", str(arguments.workers)) if arguments.workers else ()
    schedule = Schedule(arguments.kills, arguments.seed, means)
    loop = KillLoop(arena, Fleet.of(arena, arguments.instances, workers), schedule, arguments.rate)
    account, failed = loop.account, 0
    try:
        loop.run()
    except (ChaosFailure, KeyboardInterrupt) as failure:
        failed = 1
        print(f"FAILED in round {account.passed + 1} (seed {arguments.seed}): {failure}", flush=True)
    except Exception:
        failed = 1
        print(
            f"FAILED in round {account.passed + 1} (seed {arguments.seed}):\n{traceback.format_exc()}",
            flush=True,
        )
    finally:
        loop.load.end()
        arena.close(keep=bool(failed) or arguments.keep)
    thin = account.show_hits()
    if thin and not failed:
        failed = 1
        print("FAILED: " + "; ".join(thin))
    if failed or arguments.keep:
        print(f"kept: {arena.directory}, database {arena.database}, topic {arena.source.topic}")
    print(f"took {time.monotonic() - began:.0f} s")
    print(f"{account.passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos/kill-loop.sh")
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--instances", type=int, default=1, metavar="I", help="processes that share the work")
    parser.add_argument(
        "--workers", type=int, metavar="W", help="workers of each; the processor's default without it"
    )
    add_pipeline_option(parser)
    parser.add_argument("--rate", type=float, default=2_500, help="events per second of the load")
    parser.add_argument("--spare-servers", action="store_true", help="kill no Kafka and no PostgreSQL")
    parser.add_argument(
        "--spare-wire",
        action="store_true",
        help="no fault proxy and no frozen owner",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep logs, topics and database of a run that passed too"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
