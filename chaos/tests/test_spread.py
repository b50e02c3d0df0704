"""Keys must not move between the partitions of an internal topic: one that has others than at first is refused, and that of the
source itself may grow. They fail where no servers answer, or nothing was built; `./dev test` sees to both."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import NewPartitions

from chaos.arena import Arena
from chaos.five import binary
from chaos.generator import Shares
from chaos.loader import Loader
from chaos.options import PIPELINES
from chaos.processor import Processor

pytestmark = pytest.mark.usefixtures("needs_servers")

EVENTS = 500
WAIT_SECONDS = 60.0
REFUSED = 77


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(1, "spread", PIPELINES / "repartition.yaml", look_often)
    yield made
    made.close(keep=False)


def look_often(raw: dict) -> None:
    """By default a client looks for new partitions every five minutes."""
    raw["connections"]["kafka"]["topic.metadata.refresh.interval.ms"] = "1000"


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


def test_the_sources_own_topic_may_grow_while_it_is_read(arena: Arena) -> None:
    # None is late: a partition that was added is judged by more than its own watermark, and the referee cannot know since when.
    loader = arena.loader(Shares(late=0, too_late=0))
    loader.send_all(EVENTS)
    processor = arena.processor()
    processor.binary = binary()
    arena.drain(processor)
    processor.start()
    processor.wait_for("ready", lambda: processor.ready()[0], WAIT_SECONDS)
    grow(arena, arena.source.topic)
    arena.partitions += 1
    loader.generator.partitions += 1
    loader = Loader(arena.servers.bootstrap, arena.source.topic, loader.generator)
    loader.send_all(EVENTS)
    processor.wait_for("the new partition too", arena.done, WAIT_SECONDS)
    processor.signal(signal.SIGTERM)
    assert processor.wait_for_exit(WAIT_SECONDS) == 0
    assert "REFUSED" not in processor.tail() and "FOREIGN" not in processor.tail(), processor.tail()
    # Without local state routers replay what they copied when there were fewer partitions.
    shutil.rmtree(processor.state / "tasks")
    loader.send_all(EVENTS)
    arena.drain(processor)
    assert arena.judge_end().counts["read"] == 3 * EVENTS
