"""The judged program as a process: started, watched, killed. Nothing of what it says is believed.

Owns: its process, state directory, log and phase file. Never: ends a process it did not start.
Data: environment of the fault build in, phases and exit codes out.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import phases
from .patience import Patience

WATCH_SECONDS, LOOK_SECONDS = 0.002, 0.02
FREEZE_SECONDS = 60.0
TAIL_LINES = 40
STATUS_CHARACTERS = 6_000
DEFAULT_BINARY = Path.home() / ".cache" / "millstream" / "target" / "release" / "millstream-fault"


class ChaosFailure(Exception):
    """The processor did not do what it must; the text says what and ends with its log."""


@dataclass(frozen=True)
class Aim:
    """Hold at the n-th arrival at a point, for a killer to hit however late it looks; or crash there."""

    point: str
    arrival: int = 1
    crash: bool = False
    dwell_ms: int = 20_000

    def environment(self) -> dict[str, str]:
        if self.crash:
            return {"MILLSTREAM_CRASH": f"{self.point}:{self.arrival}"}
        return {"MILLSTREAM_DWELL": f"{self.point}:{self.arrival}:{self.dwell_ms}"}


@dataclass
class Processor:
    pipeline: Path
    environment: dict[str, str]
    directory: Path
    name: str = "processor"
    binary: str = field(default_factory=lambda: os.environ.get("MILLSTREAM_FAULT_BIN", str(DEFAULT_BINARY)))
    process: subprocess.Popen | None = None
    starts: int = 0

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()

    @property
    def state(self) -> Path:
        return self.directory / f"{self.name}-state"

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def phase_file(self) -> Path:
        return self.directory / f"{self.name}.phase"

    def start(self, *arguments: str, aim: Aim | None = None, broken: str | None = None) -> None:
        assert self.process is None or self.process.poll() is not None
        self.starts += 1
        self.phase_file.write_bytes(b"")
        environment = {
            **os.environ,
            **self.environment,
            "MILLSTREAM_PHASE_FILE": str(self.phase_file),
            **(aim.environment() if aim else {}),
            **({"MILLSTREAM_BREAK": broken} if broken else {}),
        }
        command = [self.binary, "run", "--state-dir", str(self.state), "--http", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            log.write(f"--- start {self.starts} {aim or ''} {broken or ''} {arguments}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*command, *arguments, str(self.pipeline)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    # -- watching ----------------------------------------------------------------------------------------------------

    def phases(self) -> list[phases.Phase]:
        """Where its workers stand, or stood last."""
        return phases.read(self.phase_file)

    def exit_code(self) -> int | None:
        return self.process.poll()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def reached(self, aim: Aim) -> bool:
        return any(phase.point == aim.point and phase.arrival >= aim.arrival for phase in self.phases())

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float, pause: float = LOOK_SECONDS) -> None:
        """Raises `ChaosFailure` if the process exits first, or the time is over."""
        patience = Patience(seconds)
        while not condition():
            if self.process.poll() is not None and not condition():
                raise self.failure(f"exited {self.process.returncode} by itself before: {what}")
            if patience.over():
                raise self.failure(
                    f"not within {seconds:.0f} s: {what} (last at {phases.listed(self.phases())})"
                )
            time.sleep(pause)

    def wait_for_exit(self, seconds: float) -> int:
        patience = Patience(seconds)
        while (code := self.process.poll()) is None:
            if patience.over():
                place = phases.listed(self.phases())
                raise self.failure(f"did not exit within {seconds:.0f} s (last at {place})")
            time.sleep(LOOK_SECONDS)
        return code

    def ready(self) -> tuple[bool, str]:
        """`/readyz`: whether it is, and what it says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return answer.status == 200, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return False, error.read().decode("utf-8", "replace")
        except OSError as error:
            return False, f"no answer: {error}"

    def resident_kib(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    # -- ending ------------------------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        if self.running():
            self.process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP. No thread of it runs any more when this returns, which takes a moment after the signal."""
        self.process.send_signal(signal.SIGSTOP)
        self.wait_for("all threads stopped", self.stopped, FREEZE_SECONDS, pause=WATCH_SECONDS)

    def stopped(self) -> bool:
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)

    def kill(self) -> list[phases.Phase]:
        """SIGKILL now. Where its workers stood; raises `ChaosFailure` if it had exited by itself."""
        if self.process.poll() is not None:
            raise self.failure(f"exited {self.process.returncode} by itself")
        self.process.kill()
        self.process.wait()
        return self.phases()

    def drain(self) -> subprocess.Popen:
        """Begins to ask it to leave its group and end; the command ends with 0 once it has left."""
        with self.log.open("ab") as log:
            command = [self.binary, "drain", "--state-dir", str(self.state)]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def finish(self) -> None:
        """Ends it whatever its state; for cleaning up."""
        if self.running():
            self.process.kill()
            self.process.wait()

    def failure(self, text: str) -> ChaosFailure:
        return ChaosFailure(f"{self.name}: {text}\n{self.tail()}\n    says of itself: {self.status()}")

    def status(self) -> str:
        """What `/status` answers, for whoever looks for the cause of a failure."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=2) as answer:
                return answer.read().decode("utf-8", "replace")[:STATUS_CHARACTERS]
        except OSError as error:
            return f"nothing: {error}"

    def tail(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        except FileNotFoundError:
            return ""
        return "\n".join(f"    | {line[:400]}" for line in lines)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
