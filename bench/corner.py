"""A corner of the servers for one measurement: topics, a database, a folder, all of names of their own, gone after it."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

CHECKOUT = Path(__file__).parent.parent
RESULTS = CHECKOUT / ".dev" / "bench"
DELETED = ("input", "output", "copied")


class Corner:
    def __init__(self, partitions: int) -> None:
        self.name = f"bench_{uuid.uuid4().hex[:12]}"
        self.partitions = partitions
        self.brokers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        self.folder = RESULTS / self.name
        self.topics = {role: f"{self.name}_{role}" for role in DELETED}
        self.database_url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{self.name}"))
        self._admin = AdminClient({"bootstrap.servers": self.brokers})

    def __enter__(self) -> Corner:
        self.folder.mkdir(parents=True)
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
            server.execute(f"create database {self.name}")
        for future in self._admin.create_topics(
            [NewTopic(self.topics["input"], self.partitions, 1)]
        ).values():
            future.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
            server.execute(f"drop database if exists {self.name} with (force)")
        for future in self._admin.delete_topics(list(self.topics.values())).values():
            try:
                future.result(30)
            except KafkaException:
                continue  # not every measurement makes every topic

    def environment(self) -> dict[str, str]:
        names = {
            "BENCH_NAME": self.name,
            "BENCH_INPUT": self.topics["input"],
            "BENCH_OUTPUT": self.topics["output"],
        }
        return {**os.environ, **names, "DATABASE_URL": self.database_url}

    def counts(self) -> dict[str, int]:
        """What the processor says it has read, over all partitions."""
        query = """
            select coalesce(sum(read), 0)::bigint, coalesce(sum(accepted), 0)::bigint,
                   coalesce(sum(duplicate), 0)::bigint, coalesce(sum(dead), 0)::bigint
            from millstream.progress where application = %s
        """
        with psycopg.connect(self.database_url) as database:
            row = database.execute(query, [self.name]).fetchone()
        assert row is not None
        return dict(zip(("read", "accepted", "duplicate", "dead"), row, strict=True))

    def rows(self, table: str) -> int:
        with psycopg.connect(self.database_url) as database:
            row = database.execute(f"select count(*) from {table}").fetchone()
        assert row is not None
        return row[0]

    def partitions_of(self, role: str, offset: int) -> list[TopicPartition]:
        return [TopicPartition(self.topics[role], number, offset) for number in range(self.partitions)]

    def wait_for_topic(self, role: str) -> None:
        deadline = time.monotonic() + 60
        while self.topics[role] not in self._admin.list_topics(timeout=10).topics:
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {self.topics[role]} was not made within 60 s")
            time.sleep(0.1)
