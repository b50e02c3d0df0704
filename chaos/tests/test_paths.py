"""Log lines to paths."""

from __future__ import annotations

import json
from pathlib import Path

from chaos.paths import REPEATED, LogMark

LINES = [
    {"level": "INFO", "message": "epoch recovered", "decision": "OutputsOnly"},
    {"level": "INFO", "message": "epoch recovered", "decision": "OutputsOnly"},
    {"level": "WARN", "message": "a connection was lost or a broker was slow; making a new producer"},
    {"level": "WARN", "message": "task dropped; it will be taken again", "reason": "fenced"},
    {"level": "ERROR", "message": "REFUSED"},
    {"level": "INFO", "message": "something else"},
]


def write(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_only_what_is_written_from_the_mark_on_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert LogMark(log).position == 0
    write(log, json.dumps(LINES[0]) + "\n")
    mark = LogMark(log)
    assert mark.path() == REPEATED
    write(log, "--- start 2\n" + "".join(json.dumps(line) + "\n" for line in LINES[:3]))
    assert mark.path() == "OutputsOnly + new producer"
    write(log, "".join(json.dumps(line) + "\n" for line in LINES[3:]))
    assert mark.path() == "OutputsOnly + dropped + error: REFUSED + new producer"


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write(log, "")
    mark, text = LogMark(log), json.dumps(LINES[0])
    write(log, text[:20])
    assert mark.path() == REPEATED
    write(log, text[20:] + "\n")
    assert mark.path() == "OutputsOnly"
