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

from confluent_kafka import KafkaException

from . import phases
from .account import Account
from .arena import Arena
from .fleet import Fleet
from .load import Load
from .options import add_pipeline_option
from .processor import WATCH_SECONDS, ChaosFailure, Processor
from .program import end_on_sigterm
from .schedule import ABSENCE, BACKENDS, DEPARTURE, FREEZE, LATE, NEWCOMER, REBALANCES, Means, Plan, Schedule
from .servers import NAMES

REACH_SECONDS = 60.0
AGAIN_SECONDS = 2.0
PROGRESS_SECONDS = 90.0
END_SECONDS = 300.0
OUTAGE_SECONDS = (0.5, 2.0)
# How long the group waits for a member, the longest time-out of all.
SESSION_SECONDS = 30.0
FROZEN_SECONDS = SESSION_SECONDS + 4.0
# A member that dies while others wait for it holds a rebalance for a session, and so does the next one.
REBALANCE_SECONDS = 3 * SESSION_SECONDS + 30.0
DRAIN_SECONDS = 90.0
MOST_ROUNDS_WITHOUT_PROGRESS = 10


class KillLoop:
    def __init__(self, arena: Arena, fleet: Fleet, schedule: Schedule, rate: float) -> None:
        self.arena, self.fleet, self.schedule = arena, fleet, schedule
        self.load = Load(arena, rate)
        self.random = random.Random(arena.seed)
        self.account = Account(schedule, arena)
        self.idle_rounds = 0
        # Who was met at a point last.
        self.last_busy: Processor | None = None

    @property
    def many(self) -> bool:
        return len(self.fleet.members) > 1

    def run(self) -> None:
        """Raises `ChaosFailure` at the first round that fails."""
        self.load.start()
        for number, plan in enumerate(self.schedule.plans, start=1):
            began, before = time.monotonic(), self.arena.progress()
            where = self.round(plan, before)
            # Why: what the others write cannot be read before the dead one's transaction has ended, which takes its
            # time-out unless it comes back; the referee waits for it.
            if self.many and number % 4:
                self.fleet.start_missing()
            judging = time.monotonic()
            report = self.arena.judge_running()
            judged = time.monotonic() - judging
            self.require_progress(before)
            self.account.note(plan, where, report, time.monotonic() - began, judged)
        self.load.stop()
        self.fleet.finish_input(END_SECONDS)
        self.account.show_end(self.arena.judge_end())

    # -- one round ---------------------------------------------------------------------------------------------------

    def round(self, plan: Plan, before: int) -> list[phases.Phase]:
        """Ends with the kill of at least one instance; where it stood."""
        victim = self.fleet.members[plan.victim]
        victim = self.busy(victim) if plan.aim else victim
        rule = plan.wire.arm(self.arena.proxies, plan.turn) if plan.wire else None
        if plan.trouble in REBALANCES:
            return {NEWCOMER: self.newcomer, ABSENCE: self.absence, DEPARTURE: self.departure}[plan.trouble](
                victim
            )
        self.start(victim, plan)
        if plan.trouble == BACKENDS:
            self.fleet.wait_for_progress(before, PROGRESS_SECONDS)
            self.fleet.wait_for(
                "database sessions to cut", lambda: self.arena.terminate_backends() >= 1, PROGRESS_SECONDS
            )
        elif plan.trouble == FREEZE:
            self.freeze(victim, before)
        elif plan.trouble in NAMES:
            return self.kill_with_server(victim, plan, before)
        elif rule:
            self.fleet.wait_for(f"{plan.wire} {plan.turn}", rule.hit.is_set, REACH_SECONDS)
            self.account.wire[str(plan.wire)] += 1
            self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)
        if plan.aim:
            self.wait_for_point(victim, plan)
            return self.kill(victim)
        if plan.when == LATE and not plan.trouble and not rule:
            self.fleet.wait_for_progress(before, PROGRESS_SECONDS)
        if plan.judge_before:
            self.arena.judge_running()
        time.sleep(plan.delay)
        where = self.kill(victim)
        if rule:
            rule.release()
        return where

    def busy(self, victim: Processor) -> Processor:
        """Itself, if there are partitions for everybody; or else one that has any, since no other meets an aim."""
        if self.arena.partitions >= len(self.fleet.members):
            return victim
        running = [one for one in self.fleet.members if one.running() and one.phases()]
        return running[0] if running else self.last_busy or victim

    def start(self, victim: Processor, plan: Plan) -> None:
        """All run; the victim afresh if it must be told where to stop, or meet a fault on the wire that only a start may
        bring. Who makes the tasks for the first time is alone."""
        if (plan.aim or plan.wire) and victim.running():
            self.kill(victim)
        if not victim.running():
            self.fleet.start(victim, plan.aim)
        if not (plan.aim and plan.aim.point in phases.BOOTSTRAP):
            self.fleet.start_missing(besides=victim)

    def wait_for_point(self, victim: Processor, plan: Plan) -> None:
        """Some are missed: among several, the victim's partitions may just have moved away; and a machine that stood still
        lets the victim go on before anybody looks. Then it is killed where it is, if it goes on at all."""
        aim, deadline = plan.aim, time.monotonic() + REACH_SECONDS / 2
        while not victim.reached(aim) and time.monotonic() < deadline:
            again = time.monotonic() + AGAIN_SECONDS
            seen = lambda: victim.reached(aim) or time.monotonic() > again  # noqa: B023, E731
            self.fleet.wait_for(f"reached {aim.point}:{aim.arrival}", seen, REACH_SECONDS, WATCH_SECONDS)
            if plan.trouble == BACKENDS and not victim.reached(aim):
                # Why: sessions that are cut between two epochs are made anew, and nothing is to be recovered.
                self.arena.terminate_backends()
        if not victim.reached(aim):
            self.account.missed += 1
            self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)

    def kill_with_server(self, victim: Processor, plan: Plan, before: int) -> list[phases.Phase]:
        self.fleet.wait_for_progress(before, PROGRESS_SECONDS)
        time.sleep(plan.delay)
        self.account.servers[plan.trouble] += 1
        self.arena.servers.kill(plan.trouble)
        where = self.kill(victim) if plan.together else []
        time.sleep(self.random.uniform(*OUTAGE_SECONDS))
        self.arena.servers.start(plan.trouble)
        if plan.together:
            return where
        self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)
        return self.kill(victim)

    def freeze(self, victim: Processor, before: int) -> None:
        """Stopped for longer than any time-out lasts, then continued: others have its partitions by then, if there are any."""
        self.fleet.wait_for_progress(before, PROGRESS_SECONDS)
        victim.signal(signal.SIGSTOP)
        self.account.freeze(victim.phases())
        try:
            time.sleep(FROZEN_SECONDS)
            if self.many:
                self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)
        finally:
            victim.signal(signal.SIGCONT)
        self.fleet.wait_for_progress(self.arena.progress(), PROGRESS_SECONDS)
        self.arena.judge_running()

    def newcomer(self, victim: Processor) -> list[phases.Phase]:
        """An instance is lost with its disk; somebody new joins instead, and one of all dies while partitions move."""
        self.fleet.start_missing()
        self.kill(victim)
        self.fleet.renew(victim)
        self.fleet.start(victim)
        return self.kill_in_rebalance(self.random.choice(self.fleet.members))

    def absence(self, victim: Processor) -> list[phases.Phase]:
        """An instance stays away until its session is over, and another dies while partitions move."""
        self.share()
        self.kill(victim)
        return self.kill_in_rebalance(self.another(victim))

    def departure(self, victim: Processor) -> list[phases.Phase]:
        """An instance is told to leave, and another dies while it hands its partitions over."""
        self.share()
        drain, other = victim.drain(), self.another(victim)
        try:
            other.wait_for("partitions move", self.arena.partitions_move, REBALANCE_SECONDS, WATCH_SECONDS)
            where = self.kill(other)
            victim.wait_for_exit(DRAIN_SECONDS)
            codes = (drain.wait(DRAIN_SECONDS), victim.exit_code())
        finally:
            drain.kill()
        if codes != (0, 0):
            raise victim.failure(f"drained, the command and the instance exited {codes}")
        return where

    def share(self) -> None:
        """All run and are members. Why not the group's word alone: one that has only just started is no member yet, so that
        nothing moves when it dies, nor can it be told to leave; or it is counted from before its last death."""
        self.fleet.start_missing()
        ready = lambda: all(member.ready()[0] for member in self.fleet.members)  # noqa: E731
        self.fleet.wait_for("all are ready", ready, REBALANCE_SECONDS, pause=0.1)
        self.fleet.wait_for("the group is stable", self.arena.group_is_stable, REBALANCE_SECONDS)

    def another(self, victim: Processor) -> Processor:
        return self.random.choice([one for one in self.fleet.members if one is not victim])

    def kill_in_rebalance(self, victim: Processor) -> list[phases.Phase]:
        self.fleet.wait_for("partitions move", self.arena.partitions_move, REBALANCE_SECONDS, WATCH_SECONDS)
        return self.kill(victim)

    def kill(self, victim: Processor) -> list[phases.Phase]:
        moving = self.many and self.arena.partitions_move()
        where = victim.kill()
        self.last_busy = victim if where else self.last_busy
        self.account.kill(where, moving)
        return where

    def scene(self) -> str:
        """What a failure left behind, for whoever looks for its cause."""
        try:
            end = str(self.arena.log_end())
        except KafkaException as error:
            end = f"a place not known ({error})"
        followed = "holds the same" if self.arena.followed() else "does not hold the same"
        places = f"the log ends at {end}, PostgreSQL holds {self.arena.verdicts()} verdicts, Kafka {followed}"
        places += f"; the load {self.load.state()}"
        return f"{places}\nwhat the servers complained of last:\n{self.arena.servers.complaints()}"

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
        if failed:
            print(loop.scene(), flush=True)
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
