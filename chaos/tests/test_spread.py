"""Keys must not move between the partitions of an internal topic: one that has others than at first is refused, and that of the
source itself may grow. They fail where no servers answer, or nothing was built; `./dev test` sees to both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import NewPartitions

from chaos.arena import Arena
from chaos.five import binary
from chaos.options import PIPELINES
from chaos.processor import Processor

pytestmark = pytest.mark.usefixtures("needs_servers")

EVENTS = 500
WAIT_SECONDS = 60.0
REFUSED = 77


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(1, "spread", PIPELINES / "repartition.yaml")
    yield made
    made.close(keep=False)


def worked(arena: Arena) -> Processor:
    arena.loader().send_all(EVENTS)
    processor = arena.processor()
    processor.binary = binary()
    arena.drain(processor)
    return processor


def grow(arena: Arena, topic: str) -> None:
    partitions = [NewPartitions(topic, arena.partitions + 1)]
    arena.servers.admin.create_partitions(partitions)[topic].result(WAIT_SECONDS)


def test_an_internal_topic_that_has_grown_is_refused(arena: Arena) -> None:
    processor = worked(arena)
    arena.drain(processor)
    before = arena.verdicts()
    grow(arena, arena.output_topic)
    arena.loader().send_all(EVENTS)
    for _ in range(2):
        processor.start("--until-end")
        assert processor.wait_for_exit(WAIT_SECONDS) == REFUSED
        said = processor.tail()
        assert "PARTITION_COUNT_CHANGED" in said and "start a new application" in said, said
    assert arena.verdicts() == before


def test_the_sources_own_topic_may_grow(arena: Arena) -> None:
    processor = worked(arena)
    grow(arena, arena.source.topic)
    arena.loader().send_all(EVENTS)
    arena.drain(processor)
    assert arena.judge_end().counts["read"] == 2 * EVENTS
