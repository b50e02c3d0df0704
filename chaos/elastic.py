"""`python -m chaos.elastic`: workers and instances come and go under a steady load; how long did each partition wait?

Checks that the load was what it should be and that no row is wrong, and prints the longest time for which each input
partition stood still in PostgreSQL, by what was done; Kafka follows by an epoch at most. No bound is asserted on these: the
figures are the machine's.
Owns: the steps. Data: `millstream.progress`, looked at many times a second -> one line a step.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psycopg

from .arena import Arena
from .load import Load
from .options import add_pipeline_option
from .processor import ChaosFailure, Processor
from .program import end_on_sigterm, play

LOOK_SECONDS = 0.02
EXIT_SECONDS = 60.0
SHARED_SECONDS = 90.0
END_SECONDS = 300.0
LEAST_SHARE_OF_RATE = 0.95
ONE, TWO = ("--workers", "1"), ("--workers", "2")


class Stills:
    """Per partition, the longest time without progress since the last `take`."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.moved: dict[int, tuple[int, float]] = {}
        self.longest: dict[int, float] = {}
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self.watch, name="stills", daemon=True)
        self.thread.start()

    def watch(self) -> None:
        query = "SELECT partition, next FROM millstream.progress WHERE application = %s"
        try:
            with psycopg.connect(self.arena.environment["DATABASE_URL"], autocommit=True) as connection:
                while not self.ended.wait(LOOK_SECONDS):
                    self.note(connection.execute(query, (self.arena.plan.name,)).fetchall(), time.monotonic())
        except psycopg.Error as failure:
            self.failure = failure

    def note(self, rows: list[tuple[int, int]], now: float) -> None:
        with self.lock:
            for partition, position in rows:
                known, since = self.moved.get(partition, (None, now))
                self.longest[partition] = max(self.longest.get(partition, 0.0), now - since)
                if position != known:
                    self.moved[partition] = (position, now)

    def take(self) -> dict[int, float]:
        if self.failure:
            raise ChaosFailure(f"progress could not be watched: {self.failure}")
        with self.lock:
            taken, self.longest = self.longest, {}
        return dict(sorted(taken.items()))

    def end(self) -> None:
        self.ended.set()
        self.thread.join()


class Elastic:
    def __init__(self, arena: Arena, hold: float) -> None:
        self.arena, self.hold = arena, hold
        self.first, self.second = arena.processor("instance-0"), arena.processor("instance-1")

    def scenes(self, rate: float, pace: int) -> Iterator[None]:
        load = Load(self.arena, rate, pace=pace)
        load.start()
        stills = None
        try:
            self.first.start(*ONE)
            self.arena.wait_for_progress(self.first, -1)
            stills = Stills(self.arena)
            began, sent = time.monotonic(), self.arena.log_end()
            print(
                f"{rate:,.0f} events/s, {self.arena.partitions} partitions; longest standstill of each, in ms"
            )
            for title, step in self.steps():
                step()
                self.settle()
                print(line(title, stills.take()), flush=True)
                yield
            self.require_rate(rate, (self.arena.log_end() - sent) / (time.monotonic() - began))
            load.stop()
        finally:
            load.end()
            if stills:
                stills.end()
        end = self.arena.log_end()
        caught_up = lambda: self.arena.progress() == end  # noqa: E731
        self.first.wait_for(f"progress at {end}", caught_up, END_SECONDS, pause=0.2)
        for one in self.running():
            self.stop(one)

    @staticmethod
    def require_rate(wanted: float, found: float) -> None:
        print(f"sent {found:,.0f} events/s")
        if found < LEAST_SHARE_OF_RATE * wanted:
            raise ChaosFailure(f"{found:,.0f} events/s instead of {wanted:,.0f}: the load fell behind")

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        first, second = self.first, self.second
        return [
            ("one worker, nothing done", lambda: None),
            ("an instance comes", lambda: second.start(*ONE)),
            ("an instance restarts with a worker more", lambda: (self.stop(first), first.start(*TWO))),
            ("an instance drains", lambda: self.drain(second)),
            ("it comes back", lambda: second.start(*ONE)),
            (
                "an instance drains, returns with a worker less",
                lambda: (self.drain(first), first.start(*ONE)),
            ),
            ("an instance is killed and restarted", lambda: (second.kill(), second.start(*ONE))),
        ]

    def settle(self) -> None:
        """Everybody who runs has joined, and then some time goes by."""
        for one in self.running():
            one.wait_for("ready", lambda one=one: one.ready()[0], SHARED_SECONDS, pause=0.1)
        deadline = time.monotonic() + self.hold
        while time.monotonic() < deadline:
            for one in (self.first, self.second):
                if one.process and one.exit_code() not in (None, 0):
                    raise one.failure(f"exited {one.exit_code()} by itself")
            time.sleep(0.1)

    def running(self) -> list[Processor]:
        return [one for one in (self.first, self.second) if one.running()]

    @staticmethod
    def stop(one: Processor) -> None:
        one.signal(signal.SIGTERM)
        if code := one.wait_for_exit(EXIT_SECONDS):
            raise one.failure(f"exited {code} on SIGTERM")

    @staticmethod
    def drain(one: Processor) -> None:
        command = one.drain()
        codes = (one.wait_for_exit(EXIT_SECONDS), command.wait(EXIT_SECONDS))
        if codes != (0, 0):
            raise one.failure(f"drained, the instance and the command exited {codes}")


def line(title: str, stills: dict[int, float]) -> str:
    return f"{title:<48}" + "".join(f"{seconds * 1e3:>8.0f}" for seconds in stills.values())


def main() -> int:
    end_on_sigterm()
    parser = argparse.ArgumentParser(prog="python -m chaos.elastic")
    parser.add_argument("--rate", type=float, default=20_000, help="events per second")
    parser.add_argument("--hold", type=float, default=10.0, help="seconds after each step")
    parser.add_argument("--pace", type=int, default=2_000, help="events that share a second of event time")
    parser.add_argument("--seed", type=int, default=1)
    add_pipeline_option(parser)
    arguments = parser.parse_args()
    arena = Arena(arguments.seed, "elastic", arguments.pipeline)
    return play(arena, Elastic(arena, arguments.hold).scenes(arguments.rate, arguments.pace))


if __name__ == "__main__":
    sys.exit(main())
