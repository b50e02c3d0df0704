"""A local disk that takes no more bytes, neither of state nor of logs: the processor waits and says why, whoever kills it, and
goes on by itself once there is room.

Why a limit on the length of files: a full disk wants a file system of one's own, which only root makes; this limit anybody may set
for a process, and lift again. Every write fails as on a full disk, but for the words of the error.
They fail where no servers answer, or nothing was built; `./dev test` sees to both.
"""

from __future__ import annotations

import resource
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.arena import Arena
from chaos.five import binary
from chaos.options import PIPELINES
from chaos.processor import Processor

pytestmark = pytest.mark.usefixtures("needs_servers")

EVENTS = 3_000
WAIT_SECONDS = 60.0
LOCAL_DISK = 74
WORKERS = ("--workers", "2")
RESTARTS = "millstream_worker_restarts_total"
RETRIES = 'millstream_outage_retries_total{neighbour="local state"}'


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(1, "full-disk", PIPELINES / "repartition.yaml")
    yield made
    made.close(keep=False)


def program(directory: Path, kilobytes: str) -> str:
    """The processor under a limit that can be lifted. Its writes fail, where by default a signal ends it."""
    script = directory / f"limited-to-{kilobytes}"
    script.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -S -f {kilobytes}\nexec '{binary()}' \"$@\"\n")
    script.chmod(0o755)
    return str(script)


def let_grow(processor: Processor, size: int) -> None:
    resource.prlimit(processor.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def wait_until_it_waits(processor: Processor) -> None:
    """It says for what, counts its tries, and has lost no worker over it."""

    def says_so() -> bool:
        return "local state" in processor.ready()[1] and counted(processor, RETRIES) > 0

    processor.wait_for("tells that it waits for local state", says_so, WAIT_SECONDS)
    assert not counted(processor, RESTARTS)


def counted(processor: Processor, metric: str) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{processor.port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    return sum(float(line.split()[-1]) for line in lines if line.startswith(metric))


def test_a_full_disk_is_waited_for(arena: Arena) -> None:
    loader, processor = arena.loader(), arena.processor()
    processor.binary = program(arena.directory, "unlimited")
    loader.send_all(EVENTS)
    processor.start(*WORKERS)
    processor.wait_for("half of it", lambda: arena.verdicts() > EVENTS // 2, WAIT_SECONDS)
    let_grow(processor, 0)
    loader.send_all(EVENTS)
    wait_until_it_waits(processor)
    processor.kill()

    # Killed, it comes back to the full disk and waits there.
    processor.binary = program(arena.directory, "0")
    processor.start(*WORKERS)
    wait_until_it_waits(processor)
    assert arena.verdicts() < 2 * EVENTS
    let_grow(processor, resource.RLIM_INFINITY)
    processor.wait_for("everything done", arena.done, WAIT_SECONDS)
    processor.signal(signal.SIGTERM)
    assert processor.wait_for_exit(WAIT_SECONDS) == 0
    assert arena.judge_end().counts["read"] == 2 * EVENTS


def test_an_instance_without_a_place_for_its_identity_ends(arena: Arena) -> None:
    processor = arena.processor()
    processor.binary = program(arena.directory, "0")
    processor.start(*WORKERS)
    assert processor.wait_for_exit(WAIT_SECONDS) == LOCAL_DISK
