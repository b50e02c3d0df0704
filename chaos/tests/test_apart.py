"""The referee's process: what it says, and what becomes of a failure in it."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from threading import Thread

import pytest

from chaos import apart
from chaos.apart import Apart, JudgeEnded
from chaos.referee.inspection import Report
from chaos.referee.violation import Violation

RED = Report([Violation("lost", "there", "one")], {"read": 3})


class Inspections:
    """Red while it runs, and without a broker at the end."""

    def __init__(self, _: object) -> None:
        pass

    def while_running(self) -> Report:
        return RED

    def at_end(self) -> Report:
        raise TimeoutError("no broker answers")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Apart:
    """With its process in a thread, so that it may judge by `Inspections`."""
    monkeypatch.setattr(apart, "Inspection", Inspections)
    monkeypatch.setattr(apart.referee_pipeline, "load", lambda *_: None)
    monkeypatch.setattr(apart.signal, "signal", lambda *_: None)
    made = Apart.__new__(Apart)
    made.connection, theirs = Pipe()
    Thread(target=apart.serve, args=(Path("file"), {}, theirs), daemon=True).start()
    return made


def test_report_comes_as_it_is(judge: Apart) -> None:
    assert judge.while_running() == RED


def test_failure_there_is_told_here_and_the_next_question_answered(judge: Apart) -> None:
    with pytest.raises(JudgeEnded, match="no broker answers"):
        judge.at_end()
    assert judge.while_running() == RED


def test_process_that_cannot_begin_is_a_failure_and_not_an_endless_wait(tmp_path: Path) -> None:
    judge = Apart(tmp_path / "missing.yaml", {})
    with pytest.raises(JudgeEnded, match="ended"):
        judge.while_running()
    judge.close()
