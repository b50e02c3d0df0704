"""The referee in a process of its own: judging keeps a processor busy, and the proxies of this one must go on meanwhile.

Owns: that process, and asking it. Never: judges. Data: the pipeline file and its variables -> `Report`s.
Tested: by every program that has proxies; `tests/test_apart.py`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from .referee import pipeline as referee_pipeline
from .referee.inspection import Inspection, Report

END_SECONDS = 10.0


class JudgeEnded(Exception):
    """The referee could not judge; the text is where it failed."""


class Apart:
    """As `Inspection`, of the pipeline file under these variables."""

    def __init__(self, pipeline: Path, environment: dict[str, str]) -> None:
        # Why not forked: this process has threads, of clients and of proxies.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(pipeline, environment, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def while_running(self) -> Report:
        return self.ask("while_running")

    def at_end(self) -> Report:
        return self.ask("at_end")

    def ask(self, what: str) -> Report:
        try:
            self.connection.send(what)
            answer = self.connection.recv()
        except (EOFError, OSError):
            raise JudgeEnded(f"the referee's process ended with {self.process.exitcode}") from None
        if isinstance(answer, Report):
            return answer
        raise JudgeEnded(answer)

    def close(self) -> None:
        self.connection.close()
        self.process.join(END_SECONDS)
        self.process.kill()


def serve(pipeline: Path, environment: dict[str, str], connection: Connection) -> None:
    """Answers until nobody asks any more."""
    # Why: Ctrl-C goes to all processes of the terminal; whoever asks decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    inspection = Inspection(referee_pipeline.load(pipeline, {**os.environ, **environment}))
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return
        try:
            connection.send(getattr(inspection, what)())
        except Exception:
            connection.send(traceback.format_exc())
