"""The millstream process, which is started, killed and started again."""

import os
import signal
import subprocess
from collections import deque

from demo.world import PIPELINE, World


class Processor:
    def __init__(self, world: World) -> None:
        self._world = world
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [
            os.environ["MILLSTREAM_BIN"],
            "run",
            *options,
            "--state-dir",
            str(self._world.state),
            str(PIPELINE),
        ]
        with self._world.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._world.environment()
            )

    def kill(self) -> int:
        """SIGKILL: the process gets no chance to finish anything. Returns its number."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        return self._process.pid

    def number(self) -> int:
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def exit_status(self) -> int | None:
        return self._process.poll() if self._process else None

    def wait(self) -> tuple[int, int]:
        """Returns the exit status and the most memory it had, in KiB."""
        assert self._process is not None
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode, usage.ru_maxrss

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def log_end(self) -> str:
        with self._world.log.open(errors="replace") as log:
            return "".join(f"  | {line}" for line in deque(log, 20))
