"""The processor time of the servers: found by the ports they listen on, read from /proc.

Owns: which processes are the broker and PostgreSQL. Never: talks to them. Tested: `tests/test_servers.py`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

TICKS = os.sysconf("SC_CLK_TCK")
LISTENS = "0A"


@dataclass(frozen=True)
class Times:
    """Seconds of processor time of one process; `reaped` is that of children that have ended."""

    parent: int
    own: float
    reaped: float


def times_of(pid: int, proc: Path = Path("/proc")) -> Times | None:
    """None if there is no such process any more."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold anything.
    fields = text[text.rindex(")") + 2 :].split()
    user, system, child_user, child_system = (int(field) / TICKS for field in fields[11:15])
    return Times(int(fields[1]), user + system, child_user + child_system)


def seconds_of(pid: int, proc: Path = Path("/proc")) -> float:
    """Of one process without its children."""
    times = times_of(pid, proc)
    return times.own if times else 0.0


def seconds_of_tree(pid: int, proc: Path = Path("/proc")) -> float:
    """Of a process, its living children and all that have ended."""
    times = times_of(pid, proc)
    if times is None:
        return 0.0
    numbers = (int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())
    children = (times_of(number, proc) for number in numbers)
    living = sum(child.own + child.reaped for child in children if child and child.parent == pid)
    return times.own + times.reaped + living


def listener(port: int, proc: Path = Path("/proc")) -> int:
    """The process that listens on a port of this machine; where children share it, their parent."""
    sockets = {f"socket:[{inode}]" for inode in inodes(port, proc)}
    found = {
        int(entry.name) for entry in proc.iterdir() if entry.name.isdigit() and sockets & links(entry / "fd")
    }
    parents = {pid: times.parent for pid in found if (times := times_of(pid, proc))}
    for pid, parent in parents.items():
        if parent not in found:
            return pid
    raise LookupError(
        f"no process of this machine listens on port {port}: run the bench where the servers run"
    )


def inodes(port: int, proc: Path) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENS and int(fields[1].rsplit(":", 1)[1], 16) == port:
                found.add(fields[9])
    return found


def links(folder: Path) -> set[str]:
    """Where the entries lead that can still be read."""
    found = set()
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(folder / name))
    except OSError:  # ended meanwhile, or somebody else's
        return set()
    return found


@dataclass(frozen=True)
class Servers:
    broker: int
    postgres: int

    @classmethod
    def find(cls) -> Servers:
        broker = os.environ["KAFKA_BOOTSTRAP_SERVERS"].split(",")[0]
        database = urlsplit(os.environ["DATABASE_URL"])
        return cls(listener(int(broker.rsplit(":", 1)[1])), listener(database.port or 5432))

    def seconds(self) -> tuple[float, float]:
        """Processor time so far, of the broker and of PostgreSQL with its backends."""
        return seconds_of(self.broker), seconds_of_tree(self.postgres)
