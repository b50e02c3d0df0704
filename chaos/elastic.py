"""`python -m chaos.elastic`: workers and instances come and go under a steady load; how long did each partition wait?

Checks that the load was what it should be and that no row is wrong, and prints the longest time for which each partition stood
still, by what was done: input partitions in PostgreSQL, and partitions of the output topic for a reader of what is committed. No
bound is asserted on these: the figures are the machine's.
Owns: the steps. Data: `millstream.progress` and the output's stable ends, looked at many times a second -> two lines a step.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from .arena import Arena
from .load import Load
from .options import add_pipeline_option
from .processor import ChaosFailure, Processor
from .program import end_on_sigterm, play

LOOK_SECONDS = 0.02
ASK_SECONDS = 5.0
EXIT_SECONDS = 60.0
SHARED_SECONDS = 90.0
END_SECONDS = 300.0
LEAST_SHARE_OF_RATE = 0.95
ONE, TWO = ("--workers", "1"), ("--workers", "2")


class Stills:
    """Per partition, the longest time without progress since the last `take`. `look` answers where each stands."""

    def __init__(self, look: Callable[[], list[tuple[int, int]]]) -> None:
        self.look = look
        self.moved: dict[int, tuple[int, float]] = {}
        self.longest: dict[int, float] = {}
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self.watch, name="stills", daemon=True)
        self.thread.start()

    def watch(self) -> None:
        try:
            while not self.ended.wait(LOOK_SECONDS):
                self.note(self.look(), time.monotonic())
        except (psycopg.Error, KafkaException) as failure:
            self.failure = failure

    def note(self, places: list[tuple[int, int]], now: float) -> None:
        with self.lock:
            for partition, position in places:
                known, since = self.moved.get(partition, (None, now))
                self.longest[partition] = max(self.longest.get(partition, 0.0), now - since)
                if position != known:
                    self.moved[partition] = (position, now)

    def all_moved_since(self, instant: float) -> bool:
        with self.lock:
            return all(since > instant for _, since in self.moved.values())

    def take(self) -> dict[int, float]:
        if self.failure:
            raise ChaosFailure(f"progress could not be watched: {self.failure}")
        with self.lock:
            taken, self.longest = self.longest, {}
        return dict(sorted(taken.items()))

    def end(self) -> None:
        self.ended.set()
        self.thread.join()


def rows_of(arena: Arena) -> Callable[[], list[tuple[int, int]]]:
    """How far PostgreSQL is with each partition of which outputs are made."""
    query = "SELECT partition, next FROM millstream.progress WHERE application = %s AND topic = %s"
    connection = psycopg.connect(arena.environment["DATABASE_URL"], autocommit=True)
    return lambda: connection.execute(query, (arena.plan.name, arena.output_topic)).fetchall()


def outputs_of(arena: Arena) -> Callable[[], list[tuple[int, int]]]:
    """How far a reader of what is committed gets in each partition of the first output topic."""
    topic = arena.plan.records[0].topic
    consumer = Consumer(
        {
            "bootstrap.servers": arena.servers.bootstrap,
            "group.id": f"{arena.run}-onlooker",
            "isolation.level": "read_committed",
            "log_level": 2,
        }
    )
    partitions = sorted(consumer.list_topics(topic, ASK_SECONDS).topics[topic].partitions)
    end = lambda number: consumer.get_watermark_offsets(TopicPartition(topic, number), ASK_SECONDS)[1]  # noqa: E731
    return lambda: [(number, end(number)) for number in partitions]


class Elastic:
    def __init__(self, arena: Arena, hold: float) -> None:
        self.arena, self.hold = arena, hold
        self.first, self.second = arena.processor("instance-0"), arena.processor("instance-1")
        self.watched: dict[str, Stills] = {}

    def scenes(self, rate: float, pace: int) -> Iterator[None]:
        load = Load(self.arena, rate, pace=pace)
        load.start()
        try:
            self.first.start(*ONE)
            self.arena.wait_for_progress(self.first, -1)
            self.watched = {"rows": Stills(rows_of(self.arena)), "outputs": Stills(outputs_of(self.arena))}
            began, sent = time.monotonic(), self.arena.log_end()
            print(
                f"{rate:,.0f} events/s, {self.arena.partitions} partitions; longest standstill of each, in ms"
            )
            for title, step in self.steps():
                step()
                self.settle()
                for name, stills in self.watched.items():
                    print(line(f"{title}: {name}", stills.take()), flush=True)
                yield
            self.require_rate(rate, (self.arena.log_end() - sent) / (time.monotonic() - began))
            load.stop()
        finally:
            load.end()
            for stills in self.watched.values():
                stills.end()
        self.first.wait_for("everything done", self.arena.done, END_SECONDS, pause=0.2)
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
            ("an instance is killed and stays away", lambda: self.lose(second)),
        ]

    def lose(self, one: Processor) -> None:
        """For good: its partitions wait until its session is over, then for the end of its open transaction."""
        one.kill()
        one.process, gone = None, time.monotonic()
        for name, stills in self.watched.items():
            moved = lambda stills=stills: stills.all_moved_since(gone)  # noqa: E731
            self.first.wait_for(f"all {name} go on", moved, SHARED_SECONDS, pause=0.1)

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
    return f"{title:<58}" + "".join(f"{seconds * 1e3:>8.0f}" for seconds in stills.values())


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
