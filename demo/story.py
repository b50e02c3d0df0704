"""The middle of the demo: the log is sent while the processor works, and the processor is killed three times."""

import random
import time

from confluent_kafka import Producer

from demo.books import Books, Counts
from demo.events import messages
from demo.processor import Processor
from demo.screen import Screen, bar
from demo.world import INPUT, World

KILLS = 3
EVENTS_PER_SECOND = 500
LEAD = 1_500  # how far the log is sent ahead of the next kill, so that the kill meets work in hand
SLICE = 0.05
PATIENCE = 120.0


class Broken(Exception):
    """The demo cannot go on; the text says why."""


class Story:
    def __init__(self, world: World, processor: Processor, books: Books, screen: Screen) -> None:
        self._processor = processor
        self._books = books
        self._screen = screen
        self._producer = Producer(
            {"bootstrap.servers": world.brokers, "enable.idempotence": True, "linger.ms": 5, "log_level": 3}
        )
        self._messages = list(messages())
        self._sent = 0
        self._kills = 0
        self._counts = Counts()
        self._moved = time.monotonic()

    def tell(self) -> Counts:
        """Returns once the whole log is sent and read."""
        self._processor.start()
        for instant in instants(len(self._messages)):
            while self._counts.read < instant:
                self._send(instant + LEAD)
                self._look()
            self._kill()
            if self._kills < KILLS:
                self._processor.start()
                self._screen.say(f"   started again as process {self._processor.number()}")
        self._screen.say("   it stays down while the rest of the log is sent")
        while self._sent < len(self._messages):
            self._send(len(self._messages))
        self._drain()
        return self._counts

    def _send(self, limit: int) -> None:
        """Sends one slice of the log, unless it is LIMIT events long already."""
        end = min(self._sent + int(EVENTS_PER_SECOND * SLICE), limit, len(self._messages))
        for message in self._messages[self._sent : end]:
            self._producer.produce(INPUT, message.value, message.key)
        if unsent := self._producer.flush(PATIENCE):
            raise Broken(f"Kafka has not taken {unsent} events within {PATIENCE:.0f} s")
        self._sent = end
        time.sleep(SLICE)

    def _look(self) -> None:
        self._show_progress()
        if not self._processor.running():
            raise Broken(f"millstream ended by itself with exit status {self._processor.exit_status()}")

    def _show_progress(self) -> None:
        counts = self._books.counts()
        if counts.read > self._counts.read:
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > PATIENCE:
            raise Broken(f"millstream has read nothing for {PATIENCE:.0f} s")
        self._counts = counts
        whole = len(self._messages)
        self._screen.progress(
            f"[{bar(counts.read, whole)}] sent {self._sent:>6,}  read {counts.read:>6,} = accepted {counts.accepted:,}"
            f" + duplicate {counts.duplicate:,} + dead {counts.dead:,}   kills {self._kills}"
        )

    def _kill(self) -> None:
        time.sleep(random.uniform(0, 2 * SLICE))
        number = self._processor.kill()
        self._kills += 1
        self._screen.say(
            f"   kill -9 {number}   ({self._kills} of {KILLS}, at {self._counts.read:,} events read)"
        )
        self._moved = time.monotonic()

    def _drain(self) -> None:
        self._processor.start("--until-end")
        self._moved = time.monotonic()
        self._screen.say(
            f"   started as process {self._processor.number()} with --until-end: it drains what waits, and ends"
        )
        while self._processor.running():
            self._show_progress()
            time.sleep(SLICE)
        if status := self._processor.exit_status():
            raise Broken(f"millstream run --until-end ended with exit status {status}")
        self._show_progress()


def instants(events: int) -> list[int]:
    """One random instant in each part of the log, counted in events read."""
    part = events // (KILLS + 1)
    return [
        random.randrange(part * number - part // 2, part * number + part // 2)
        for number in range(1, KILLS + 1)
    ]
