"""Processor time and listening ports are read as the kernel writes them."""

import os
import socket
from pathlib import Path

import pytest

from bench.servers import TICKS, Times, inodes, listener, seconds_of, seconds_of_tree, times_of


def stat(proc: Path, pid: int, name: str, parent: int, times: tuple[int, int, int, int]) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    fields = ["S", parent, *range(9), *times, 20, 0]
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(str(field) for field in fields)}\n")


def test_tree_counts_the_living_and_the_reaped(tmp_path):
    stat(tmp_path, 10, "postgres", 1, (1 * TICKS, 2 * TICKS, 30 * TICKS, 0))
    stat(tmp_path, 11, "postgres: x) S 1", 10, (4 * TICKS, 1 * TICKS, 0, 0))
    stat(tmp_path, 12, "other", 1, (100 * TICKS, 0, 0, 0))
    assert times_of(11, tmp_path) == Times(10, 5.0, 0.0)
    assert seconds_of(10, tmp_path) == 3.0
    assert seconds_of_tree(10, tmp_path) == 38.0
    assert seconds_of_tree(99, tmp_path) == 0.0


def test_listening_sockets_are_told_from_connections(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:71A4 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"
        "   1: 0100007F:71A4 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n"
    )
    assert inodes(0x71A4, tmp_path) == {"4711"}
    assert inodes(1, tmp_path) == set()


def test_own_listener_is_found():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert listener(listening.getsockname()[1]) == os.getpid()
    with pytest.raises(LookupError, match="listens on port"):
        listener(1)
