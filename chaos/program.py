"""How a chaos program ends: by itself, by Ctrl-C or by SIGTERM, and never with a processor of its own still running.

Owns: the end that programs of many scenes share. Never: ends a process itself; closing the arena does.
Data: scenes, each of which raises `ChaosFailure` or passes -> `N passed, M failed` and an exit code.
Tested: `tests/test_program.py`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

from .arena import Arena
from .processor import ChaosFailure
from .referee.__main__ import conservation


def end_on_sigterm() -> None:
    """SIGTERM then ends as Ctrl-C does: what `finally` clears away is cleared away. A second one does not disturb that."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt("SIGTERM")

    signal.signal(signal.SIGTERM, interrupt)


def play(arena: Arena, scenes: Iterator[None], end: Callable[[], None] = lambda: None) -> int:
    """Runs the scenes, each yield one that passed, then judges the end. `end` clears away what the arena does not."""
    passed, failed = 0, 1
    try:
        for _ in scenes:
            passed += 1
        print(conservation(arena.judge_end().counts))
        print("referee: everything agrees at the end")
        failed = 0
    except (ChaosFailure, KeyboardInterrupt) as failure:
        print(f"FAILED: {failure}", flush=True)
        print(f"kept: {arena.directory}, database {arena.database}")
    finally:
        end()
        arena.close(keep=bool(failed))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0
