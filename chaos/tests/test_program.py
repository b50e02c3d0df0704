"""How a program ends: with its processor, whoever ends it; and what its scenes add up to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from chaos import bite, zombie
from chaos.options import PIPELINES
from chaos.processor import ChaosFailure, Processor
from chaos.program import play
from chaos.servers import CHECKOUT

WAIT_SECONDS = 120.0
# Starts a stand-in for the processor, says its number, and waits in a scene until it is ended.
SCENE = """
import sys, time
from pathlib import Path
from chaos.processor import Processor
from chaos.program import end_on_sigterm

end_on_sigterm()
processor = Processor(Path("none.yaml"), {}, Path(sys.argv[1]), binary=sys.argv[2])
try:
    processor.start()
    print(processor.process.pid, flush=True)
    time.sleep(600)
finally:
    processor.finish()
"""


def stand_in(directory: Path) -> Path:
    script = directory / "stand-in"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    return script


def test_a_program_that_is_ended_ends_its_processor(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", SCENE, str(tmp_path), str(stand_in(tmp_path))],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        processor = int(program.stdout.readline())
        os.kill(processor, 0)
        program.send_signal(signal.SIGTERM)
        assert program.wait(WAIT_SECONDS) != 0
        deadline = time.monotonic() + WAIT_SECONDS
        while alive(processor):
            assert time.monotonic() < deadline, "the processor runs on"
            time.sleep(0.01)
    finally:
        program.kill()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_is_frozen_does_not_run(tmp_path: Path) -> None:
    processor = Processor(Path("none.yaml"), {}, tmp_path, binary=str(stand_in(tmp_path)))
    try:
        processor.start()
        assert not processor.stopped()
        processor.freeze()
        assert processor.stopped() and processor.running()
    finally:
        processor.finish()


@pytest.mark.parametrize("program", [zombie, bite])
def test_a_file_that_repartitions_is_refused_where_it_cannot_be_used(program, monkeypatch, capsys) -> None:
    for file, refused in (("repartition.yaml", True), ("sessions.yaml", False)):
        monkeypatch.setattr(sys, "argv", ["program", "--pipeline", str(PIPELINES / file)])
        if not refused:
            assert program.parse_arguments().pipeline == PIPELINES / file
            continue
        with pytest.raises(SystemExit, match="2"):
            program.parse_arguments()
        assert "repartition_by" in capsys.readouterr().err


class FakeArena:
    directory, database = "somewhere", "some"

    def __init__(self, verdict: Exception | None = None) -> None:
        self.verdict, self.kept = verdict, None

    def judge_end(self) -> SimpleNamespace:
        if self.verdict:
            raise self.verdict
        return SimpleNamespace(counts={"read": 0, "accepted": 0, "duplicate": 0, "dead": 0})

    def close(self, keep: bool) -> None:
        self.kept = keep


def scenes(count: int, then: BaseException | None = None):
    for _ in range(count):
        yield
    if then:
        raise then


@pytest.mark.parametrize(
    ("arena", "played", "code", "last"),
    [
        (FakeArena(), scenes(2), 0, "2 passed, 0 failed"),
        (FakeArena(), scenes(0), 1, "0 passed, 0 failed"),
        (FakeArena(), scenes(2, ChaosFailure("no")), 1, "2 passed, 1 failed"),
        (FakeArena(), scenes(1, KeyboardInterrupt()), 1, "1 passed, 1 failed"),
        (FakeArena(ChaosFailure("no")), scenes(2), 1, "2 passed, 1 failed"),
    ],
)
def test_what_scenes_add_up_to(arena: FakeArena, played, code: int, last: str, capsys) -> None:
    ended: list[bool] = []
    assert play(arena, played, end=lambda: ended.append(True)) == code
    assert capsys.readouterr().out.splitlines()[-1] == last
    assert arena.kept is (last.split()[2] == "1") and ended == [True]


def test_what_is_not_foreseen_is_raised_and_all_is_kept() -> None:
    arena = FakeArena()
    with pytest.raises(ZeroDivisionError):
        play(arena, scenes(1, ZeroDivisionError()))
    assert arena.kept is True
