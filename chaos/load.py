"""The load of a run: `chaos.loader` as a process of its own, so that judging never slows it.

Owns: that process. Never: decides what it sends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from .arena import Arena
from .processor import ChaosFailure
from .servers import CHECKOUT

STOP_SECONDS = 180.0


class Load:
    def __init__(self, arena: Arena, rate: float, **options: float) -> None:
        """`options` are further options of the loader, by name."""
        self.log = arena.directory / "loader.log"
        self.command = [sys.executable, "-m", "chaos.loader", "--bootstrap", arena.servers.bootstrap]
        self.command += ["--pipeline", str(arena.pipeline), "--partitions", str(arena.partitions)]
        self.command += ["--rate", str(rate), "--seed", str(arena.seed)]
        for name, value in options.items():
            self.command += [f"--{name.replace('_', '-')}", str(value)]
        self.environment = {**os.environ, **arena.environment}
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, cwd=CHECKOUT, stdout=log, stderr=log, env=self.environment
            )

    def stop(self) -> None:
        """Everything sent is delivered. Raises `ChaosFailure` otherwise."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(STOP_SECONDS):
            raise ChaosFailure(f"loader exited {self.process.returncode}, see {self.log}")

    def state(self) -> str:
        code = self.process.poll() if self.process else None
        return "runs" if code is None else f"exited {code}"

    def end(self) -> None:
        """Ends it whatever its state; for cleaning up."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
