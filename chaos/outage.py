"""`python -m chaos.outage`: the broker stopped, then PostgreSQL stopped, during load.

Checks that the processor waits, says for what in `/readyz` and `status`, resumes by itself, loses nothing, and that its
memory stays flat. Needs servers that `./dev server` may stop.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time

from .arena import Arena
from .load import Load
from .options import add_pipeline_option
from .processor import ChaosFailure, Processor
from .program import end_on_sigterm
from .referee.__main__ import conservation

WARM_SECONDS = 10.0
NOTICE_SECONDS = 30.0
RESUME_SECONDS = 90.0
# What a backlog fills once, however long it was: the client's prefetch, an epoch grown under backlog, and what the
# allocator keeps of both.
BACKLOG_KIB = 128 * 1024
# While a server is away nothing may pile up: between the middle and the end of its absence memory stands still.
FLAT_KIB = 8 * 1024
NAMES = {"kafka": ("kafka", "broker"), "postgres": ("postgres",)}


class Outage:
    def __init__(self, arena: Arena, seconds: float) -> None:
        self.arena, self.seconds = arena, seconds
        self.processor: Processor = arena.processor()

    def run(self, rate: float) -> None:
        load = Load(self.arena, rate)
        load.start()
        try:
            self.processor.start()
            self.arena.wait_for_progress(self.processor, -1)
            time.sleep(WARM_SECONDS)
            before = self.processor.resident_kib()
            for name in ("kafka", "postgres"):
                self.outage(name)
            after = self.processor.resident_kib()
            load.stop()
        finally:
            load.end()
        print(f"resident memory: {before // 1024} MiB before, {after // 1024} MiB after both outages")
        self.processor.signal(signal.SIGTERM)
        code = self.processor.wait_for_exit(60)
        if code:
            raise self.processor.failure(f"exited {code} on SIGTERM")
        self.arena.drain(self.processor)
        report = self.arena.judge_end()
        print(conservation(report.counts))
        print("referee: everything agrees at the end")
        if after > before + BACKLOG_KIB:
            raise ChaosFailure(f"memory grew from {before} KiB to {after} KiB")

    def outage(self, name: str) -> None:
        servers, processor = self.arena.servers, self.processor
        servers.stop(name)
        began = time.monotonic()
        try:
            processor.wait_for(f"/readyz names {name}", lambda: self.says(name), NOTICE_SECONDS, pause=0.2)
            print(
                f"{name} stopped: /readyz after {time.monotonic() - began:.1f} s: {processor.ready()[1].strip()[:200]}"
            )
            status = self.status()
            if not any(word in status.lower() for word in NAMES[name]):
                raise processor.failure(f"status does not name {name}: {status}")
            print(f"{name} stopped: status: {status}")
            half, end = self.wait_until(began + self.seconds / 2), self.wait_until(began + self.seconds)
            print(
                f"{name} stopped: {half // 1024} MiB resident after half the time, {end // 1024} MiB at the end"
            )
            if end > half + FLAT_KIB:
                raise ChaosFailure(f"memory grew from {half} KiB to {end} KiB while {name} was away")
        finally:
            servers.start(name)
        back = time.monotonic()
        before = self.arena.progress()
        self.arena.wait_for_progress(processor, before, RESUME_SECONDS)
        processor.wait_for("/readyz is ready", lambda: processor.ready()[0], RESUME_SECONDS, pause=0.2)
        print(f"{name} is back: resumed by itself after {time.monotonic() - back:.1f} s")
        self.arena.judge_running()

    def wait_until(self, moment: float) -> int:
        """Resident KiB at that moment."""
        while time.monotonic() < moment:
            if not self.processor.running():
                raise self.processor.failure(f"exited {self.processor.exit_code()} while it waited")
            time.sleep(0.5)
        return self.processor.resident_kib()

    def says(self, name: str) -> bool:
        ready, text = self.processor.ready()
        return not ready and any(word in text.lower() for word in NAMES[name])

    def status(self) -> str:
        """What the command says from outside; it must answer, whatever is down."""
        command = [self.processor.binary, "status", "--http", f"127.0.0.1:{self.processor.port}"]
        environment = {**os.environ, **self.arena.environment}
        done = subprocess.run(
            [*command, str(self.arena.pipeline)],
            capture_output=True, text=True, timeout=60, check=False, env=environment,
        )  # fmt: skip
        text = " ".join((done.stdout + " " + done.stderr).split())
        return f"exit {done.returncode}: {text[:300]}"


def main() -> int:
    end_on_sigterm()
    parser = argparse.ArgumentParser(prog="python -m chaos.outage")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each server is stopped")
    parser.add_argument("--rate", type=float, default=1_000, help="events per second")
    parser.add_argument("--seed", type=int, default=1)
    add_pipeline_option(parser)
    arguments = parser.parse_args()
    arena, failed = Arena(arguments.seed, "outage", arguments.pipeline), True
    try:
        Outage(arena, arguments.seconds).run(arguments.rate)
        failed = False
    except ChaosFailure as failure:
        print(f"FAILED: {failure}")
    finally:
        arena.close(keep=failed)
    print("0 passed, 1 failed" if failed else "1 passed, 0 failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
