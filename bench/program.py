"""Programs and what they cost: time, processor time of theirs and of the servers, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.corner import Corner
from bench.servers import Servers


class ProgramFailed(Exception):
    pass


@dataclass(frozen=True)
class Cost:
    """Of one run, in seconds and KiB."""

    wall: float
    processor: float
    broker: float
    postgres: float
    memory: int
    # The last line the program said.
    said: str = ""

    def less(self, idle: Cost) -> Cost:
        """Without what a run costs that has nothing to do. Processor time is never below nothing; the time of a small
        load on a busy machine may be."""
        return Cost(
            self.wall - idle.wall,
            max(self.processor - idle.processor, 0.0),
            max(self.broker - idle.broker, 0.0),
            max(self.postgres - idle.postgres, 0.0),
            self.memory,
        )


def millstream() -> str:
    return os.environ["MILLSTREAM_BIN"]


def plain() -> str:
    return os.environ["MILLSTREAM_PLAIN_BIN"]


def one_per_core() -> int:
    """How many workers `millstream run` has unless told otherwise."""
    return len(os.sched_getaffinity(0))


def run_command(pipeline: Path, corner: Corner, workers: int, *options: str) -> list[str]:
    state = ["--state-dir", str(corner.folder / "state")]
    return [millstream(), "run", *options, "--workers", str(workers), *state, str(pipeline)]


def plain_command(corner: Corner, members: int) -> list[str]:
    """The plain loop with as many members of its group as the processor has workers."""
    topics = [corner.topics["input"], corner.topics["copied"]]
    return [plain(), *topics, f"{corner.name}-plain", "bench", str(members)]


def measured(command: list[str], corner: Corner, servers: Servers, shown: bool = False) -> Cost:
    """Runs a program to its end; one that is `shown` draws its progress where there is a terminal."""
    log = corner.folder / "program.log"
    before = servers.seconds()
    started = time.monotonic()
    with log.open("wb") as output:
        errors = None if shown and sys.stderr.isatty() else output
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=corner.environment()
        )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    after = servers.seconds()
    if process.returncode != 0:
        end = "".join(f"  | {line}\n" for line in log.read_text(errors="replace").splitlines()[-20:])
        raise ProgramFailed(f"{' '.join(command)} ended with exit status {process.returncode}\n{end}")
    processor = usage.ru_utime + usage.ru_stime
    said = log.read_text(errors="replace").rstrip().rpartition("\n")[2]
    return Cost(wall, processor, after[0] - before[0], after[1] - before[1], usage.ru_maxrss, said)


def generate(corner: Corner, events: int, *options: str, profile: str = "w1") -> dict:
    """Fills the input with events of a profile; answers the generator's summary."""
    command = [millstream(), "generate", profile, "--events", str(events), "--topic", corner.topics["input"]]
    done = subprocess.run(
        [*command, "--start", "2026-01-01T00:00:00Z", "--summary", "json", *options],
        capture_output=True,
        text=True,
        env=corner.environment(),
        check=False,
    )
    if done.returncode != 0:
        raise ProgramFailed(f"{' '.join(command)} ended with exit status {done.returncode}\n{done.stderr}")
    summary = json.loads(done.stdout)
    if summary["events"] != events:
        raise ProgramFailed(f"{summary['events']} events were made instead of {events}")
    return summary


def wait_for(what: str, seconds: float, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
