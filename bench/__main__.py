"""`./dev bench`: how many events per second one whole run takes in, from its start to its end.

The log of the demo is sent again and again, each time four days later, so that no record is late for its window.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from confluent_kafka import Producer

from demo.books import Books
from demo.events import LINES, Message, messages
from demo.processor import Processor
from demo.world import INPUT, World

LATER = timedelta(days=4)
MOST = 1_000 * LINES  # more would reach into the future


def main() -> int:
    events = parse_arguments()
    world = World("bench")
    world.make()
    started = time.monotonic()
    send(world, events)
    print(f"sent {events:,} events in {time.monotonic() - started:.1f} s", flush=True)
    processor = Processor(world)
    try:
        return measure(world, processor, events)
    finally:
        processor.stop()


def parse_arguments() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench")
    parser.add_argument("--events", type=int, default=1_000_000, metavar="N", help=f"at most {MOST:,}")
    events = parser.parse_args().events
    if not 0 < events <= MOST:
        parser.error(f"--events must be from 1 to {MOST:,}")
    return events


def send(world: World, events: int) -> None:
    producer = Producer(
        {"bootstrap.servers": world.brokers, "linger.ms": 20, "compression.type": "lz4", "log_level": 3}
    )
    for message in repeated(events):
        while True:
            try:
                producer.produce(INPUT, message.value, message.key)
                break
            except BufferError:
                producer.poll(0.1)
    if unsent := producer.flush(60):
        raise TimeoutError(f"Kafka has not taken {unsent} events within 60 s")


def repeated(events: int) -> Iterator[Message]:
    """The log's events round after round, with times and ids of their own."""
    once = [(message, json.loads(message.value)) for message in messages() if message.key is not None]
    for number in range(events):
        turn, line = divmod(number, len(once))
        message, event = once[line]
        if turn == 0:
            yield message
            continue
        moved = datetime.fromisoformat(event["event_time"]) + turn * LATER
        changes = {
            "event_time": moved.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "event_id": f"{turn:04x}{event['event_id'][4:]}",
        }
        yield Message(message.key, json.dumps(event | changes, separators=(",", ":")).encode())


def measure(world: World, processor: Processor, events: int) -> int:
    started = time.monotonic()
    processor.start("--until-end")
    status, memory = processor.wait()
    seconds = time.monotonic() - started
    if status != 0:
        print(
            f"bench: millstream ended with exit status {status}. The end of {world.log}:\n{processor.log_end()}"
        )
        return 1
    counts = Books(world.database_url, world.application).counts()
    print(
        f"read {counts.read:,} = accepted {counts.accepted:,} + duplicate {counts.duplicate:,} + dead {counts.dead:,}"
    )
    print(
        f"{seconds:.2f} s from start to end, {events / seconds:,.0f} events/s, at most {memory // 1024:,} MiB of memory"
    )
    return 0 if counts.balanced() and counts.read == events else 1


if __name__ == "__main__":
    sys.exit(main())
