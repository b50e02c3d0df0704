"""Live latency: from produce to readable by a read-committed consumer.

Input and output have as many partitions and the same keys, and the processor keeps the order of a partition: the n-th
record of an output partition is the n-th of the input's. So an event's way takes from the timestamp that the producer's
client gave it to the moment at which this consumer has its enriched copy.
"""

from __future__ import annotations

import math
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from confluent_kafka import KafkaException

from bench.corner import Corner
from bench.log import reader, times_of_all
from bench.pipeline import write
from bench.program import ProgramFailed, measured, millstream, run_command, wait_for
from bench.servers import Servers, seconds_of

PERCENTILES = (50, 90, 99, 99.9, 100)
MICROS = 1e6
# What librdkafka does unless told otherwise; without any, each event is a request of its own, and the broker is measured.
LINGER_MS = 5
# After the last event was sent: several times the 10 s after which the broker ends a transaction that its owner left open.
PATIENCE = 120.0


@dataclass(frozen=True)
class Rate:
    events_per_second: int
    seconds: int
    partitions: int
    # Not counted: caches fill, connections are made.
    warm_up_seconds: int

    @property
    def events(self) -> int:
        return self.events_per_second * self.seconds


def live(pipeline: dict, rate: Rate, workers: int) -> dict:
    servers = Servers.find()
    with Corner(rate.partitions) as corner:
        file = write(pipeline, corner)
        measured(run_command(file, corner, workers, "--until-end", "--http", "off"), corner, servers)
        http = f"127.0.0.1:{free_port()}"
        with (corner.folder / "live.log").open("wb") as log:
            processor = subprocess.Popen(
                run_command(file, corner, workers, "--http", http),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=corner.environment(),
            )
        try:
            wait_for("a processor that is ready", PATIENCE, lambda: is_ready(http))
            own, others = seconds_of(processor.pid), servers.seconds()
            arrivals = watch(corner, rate)
            own, others = (
                seconds_of(processor.pid) - own,
                [after - before for before, after in zip(others, servers.seconds(), strict=True)],
            )
        finally:
            processor.terminate()
            processor.wait(PATIENCE)
        latencies = latencies_of(times_of_all(corner, "input", rate.events), arrivals, rate.warm_up_seconds)
        each = MICROS / rate.events
        costs = {"processor_us": own * each, "broker_us": others[0] * each, "postgres_us": others[1] * each}
        return {
            "events": rate.events,
            "events_per_second": rate.events_per_second,
            "workers": workers,
            **costs,
            "measured": len(latencies),
            "milliseconds": {f"p{percent:g}": percentile(latencies, percent) for percent in PERCENTILES},
        }


def watch(corner: Corner, rate: Rate) -> list[list[float]]:
    """Sends the load and answers, per partition, when each record of the output could be read."""
    consumer = reader(corner, "output")
    arrivals: list[list[float]] = [[] for _ in range(corner.partitions)]
    command = [millstream(), "generate", "w1", "--topic", corner.topics["input"]]
    options = ["--rate", str(rate.events_per_second), "--events", str(rate.events)]
    sending = subprocess.Popen(
        [*command, *options, "--kafka", f"linger.ms={LINGER_MS}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=corner.environment(),
    )
    missing = rate.events
    deadline = time.monotonic() + rate.seconds + PATIENCE
    while missing:
        message = consumer.poll(0.1)
        now = time.time()
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            arrivals[message.partition()].append(now * 1_000)
            missing -= 1
        elif time.monotonic() > deadline or sending.poll():
            sending.kill()
            said = sending.communicate()[1].decode(errors="replace")
            raise ProgramFailed(f"{missing} of {rate.events} events did not arrive\n{said}")
    consumer.close()
    if sending.wait(PATIENCE) != 0:
        raise ProgramFailed(f"the generator ended with exit status {sending.returncode}")
    return arrivals


def latencies_of(sent: list[list[float]], arrived: list[list[float]], warm_up_seconds: float) -> list[float]:
    """Sorted, without those of the first seconds."""
    counted_from = min(times[0] for times in sent if times) + warm_up_seconds * 1_000
    found = []
    for sent_times, arrived_times in zip(sent, arrived, strict=True):
        for at, there in zip(sent_times, arrived_times, strict=True):
            if at >= counted_from:
                found.append(there - at)
    return sorted(found)


def percentile(ordered: list[float], percent: float) -> float:
    """The least that so many per cent do not exceed."""
    if not ordered:
        return float("nan")
    return ordered[max(0, math.ceil(round(len(ordered) * percent / 100, 6)) - 1)]


def is_ready(http: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{http}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
