"""A corner of the servers for one measurement: topics, a database, a folder, all of names of their own, gone after it."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

CHECKOUT = Path(__file__).parent.parent
RESULTS = CHECKOUT / ".dev" / "bench"
# Beyond any time for which a machine stands still.
PATIENCE = 120
ROLES = ("input", "output", "copied")


class Corner:
    def __init__(self, partitions: int) -> None:
        self.name = f"bench_{uuid.uuid4().hex[:12]}"
        self.partitions = partitions
        self.brokers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        self.folder = RESULTS / self.name
        self.topics = {role: f"{self.name}_{role}" for role in ROLES}
        self.database_url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{self.name}"))

    def _admin(self) -> AdminClient:
        """Made anew, as a client cannot be handed to another process. What it is asked ends with it."""
        return AdminClient({"bootstrap.servers": self.brokers})

    def __enter__(self) -> Corner:
        self.folder.mkdir(parents=True)
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
            server.execute(f"create database {self.name}")
        admin = self._admin()
        for future in admin.create_topics([NewTopic(self.topics["input"], self.partitions, 1)]).values():
            future.result(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
            server.execute(f"drop database if exists {self.name} with (force)")
        # Not every measurement makes every topic, and a hop makes one more.
        admin = self._admin()
        made = [topic for topic in admin.list_topics(timeout=PATIENCE).topics if topic.startswith(self.name)]
        for future in admin.delete_topics(made).values():
            future.result(PATIENCE)

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
        return dict(
            zip(("read", "accepted", "duplicate", "dead"), *self.select(query, self.name), strict=True)
        )

    def rows(self, table: str) -> int:
        return self.select(f"select count(*) from {table}")[0][0]

    def select(self, query: str, *parameters: str) -> list[tuple]:
        with psycopg.connect(self.database_url) as database:
            return database.execute(query, parameters).fetchall()

    def partitions_of(self, role: str, offset: int) -> list[TopicPartition]:
        return [TopicPartition(self.topics[role], number, offset) for number in range(self.partitions)]

    def wait_for_topic(self, role: str) -> None:
        admin, deadline = self._admin(), time.monotonic() + PATIENCE
        while self.topics[role] not in admin.list_topics(timeout=PATIENCE).topics:
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {self.topics[role]} was not made within {PATIENCE} s")
            time.sleep(0.1)
