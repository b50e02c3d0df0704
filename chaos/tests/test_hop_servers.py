"""The referee of a repartitioned source on real servers, with a stand-in that copies and writes right and wrong outputs.

They fail where no servers answer; `./dev test` starts them first.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.arena import Arena
from chaos.options import PIPELINES

from .fake_hop import FakeHopProcessor
from .test_servers import execute

EVENTS = 4_000

pytestmark = pytest.mark.usefixtures("needs_servers")


@pytest.fixture()
def arena(request, tmp_path: Path):
    text = (PIPELINES / "sessions.yaml").read_text(encoding="utf-8")
    file = tmp_path / "pipeline.yaml"
    file.write_text(text.replace("keyed_by: user_id", "repartition_by: user_id"), encoding="utf-8")
    title = re.sub("[^a-z]+", "-", request.node.name)[:40].strip("-")
    made = Arena(seed=1, title=title, pipeline=file)
    made.inspection.coverage_seconds = 1.0
    yield made
    made.close(keep=False)


def written(arena: Arena, spoil_copies=list, spoil=list) -> FakeHopProcessor:
    arena.loader().send_all(EVENTS)
    fake = FakeHopProcessor(arena)
    fake.read(spoil_copies)
    fake.write_kafka(spoil)
    fake.write_postgres()
    return fake


SPOILT = [
    ("UPDATE page_view_counts SET view_count = view_count + 1 WHERE page_url = '/page/1'", ["duplicated"]),
    ("UPDATE page_view_counts SET view_count = view_count - 1 WHERE page_url = '/page/1'", []),
    ("UPDATE user_sessions SET session_end_time = session_end_time - interval '1 us'", ["stale"]),
    ("UPDATE user_sessions SET session_end_time = session_end_time + interval '1 us'", []),
    ("UPDATE millstream.finality SET final_through = final_through + interval '1 us'", ["premature"]),
    ("UPDATE millstream.finality SET final_through = final_through - interval '1 us'", []),
    ("UPDATE millstream.progress SET read = read + 1 WHERE dead = 0 AND partition = 0", ["torn"]),
]


def test_right_outputs_are_green_and_spoiled_ones_are_not(arena: Arena) -> None:
    written(arena)
    assert arena.inspection.while_running().violations == []
    report = arena.inspection.at_end()
    assert report.violations == []
    assert (
        report.counts["read"]
        == EVENTS
        == sum(report.counts[name] for name in ("accepted", "duplicate", "dead"))
    )
    assert report.counts["user_sessions too_late"] > 0 and report.counts["dead"] > 0
    for statement, words in SPOILT:
        execute(arena, statement)
        assert arena.inspection.at_end().words == words, statement


@pytest.mark.parametrize("spoil", ["lost", "duplicated"])
def test_a_spoiled_topic_is_found(arena: Arena, spoil: str) -> None:
    def change(messages: list[tuple]) -> list[tuple]:
        at = next(at for at, one in enumerate(messages) if one[0].endswith("enriched"))
        return messages[:at] + messages[at + 1 :] if spoil == "lost" else [*messages, messages[at]]

    written(arena, spoil=change)
    assert arena.inspection.at_end().words == [spoil]


def test_a_record_that_was_not_copied_is_lost(arena: Arena) -> None:
    written(arena, spoil_copies=lambda copies: copies[:-1])
    assert arena.inspection.at_end().words == ["lost"]


def test_what_follows_in_the_internal_topic_is_stuck_unless_it_is_a_tick(arena: Arena) -> None:
    fake = written(arena)
    fake.copies = []
    fake.route()
    assert arena.inspection.at_end().words == []
    fake.copies = [(0, b"nobody", b"{}", 0, fake.records[0][0])]
    fake.route()
    assert arena.inspection.at_end().words == ["stuck"]
