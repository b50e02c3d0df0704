"""`python -m chaos.loader --pipeline FILE`: produces generated events for the file's first source at a rate until it is told
to stop (SIGTERM), or a number of them.

Owns: a plain idempotent producer that outlives broker restarts. Never: a transaction; the log alone is the truth.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from datetime import datetime

from confluent_kafka import Producer

from .generator import Generator, Shares, default_start
from .options import add_pipeline_option
from .referee import pipeline
from .shape import Shape

SLICE_SECONDS = 0.05
FLUSH_SECONDS = 120.0


class Loader:
    def __init__(self, bootstrap: str, topic: str, generator: Generator) -> None:
        self.topic, self.generator = topic, generator
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 600_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 2,
            }
        )

    def send(self, count: int) -> None:
        for _ in range(count):
            event = self.generator.next()
            while True:
                try:
                    self.producer.produce(
                        self.topic,
                        value=event.value,
                        key=event.key,
                        headers=event.headers,
                        partition=event.partition,
                    )
                    break
                except BufferError:
                    self.producer.poll(0.1)
        self.producer.poll(0)

    def flush(self) -> int:
        return self.producer.flush(FLUSH_SECONDS)

    def send_all(self, count: int) -> None:
        self.send(count)
        left = self.flush()
        if left:
            raise TimeoutError(f"{left} events not delivered in {FLUSH_SECONDS} s")


def main() -> int:
    arguments = parse_arguments()
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    shares = Shares(bad=arguments.bad, late=arguments.late, too_late=arguments.too_late)
    start = datetime.fromisoformat(arguments.start) if arguments.start else default_start()
    plan = pipeline.load(arguments.pipeline, {"DATABASE_URL": "", **os.environ})
    source = next(iter(plan.sources.values()))
    shape = Shape.of(plan, source)
    generator = Generator(shape, arguments.seed, start, arguments.partitions, shares, arguments.pace)
    loader = Loader(arguments.bootstrap, arguments.topic or source.topic, generator)
    began, sent = time.monotonic(), 0
    while not stopped and (arguments.count is None or sent < arguments.count):
        due = int((time.monotonic() - began) * arguments.rate)
        if arguments.count is not None:
            due = min(due, arguments.count)
        loader.send(max(due - sent, 0))
        sent = max(due, sent)
        time.sleep(SLICE_SECONDS)
    left = loader.flush()
    print(f"sent {sent} events, {left} undelivered")
    return 1 if left else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.loader")
    parser.add_argument("--bootstrap", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:29092"))
    add_pipeline_option(parser)
    parser.add_argument("--topic", help="instead of that of the file's first source")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2_500, help="events per second")
    parser.add_argument("--count", type=int, help="stop after so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", help="event time of the first, ISO; a week ago by default")
    parser.add_argument("--pace", type=int, default=50, help="events that share a second of event time")
    parser.add_argument("--bad", type=float, default=Shares().bad)
    parser.add_argument("--late", type=float, default=Shares().late)
    parser.add_argument("--too-late", type=float, default=Shares().too_late)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
