"""The demo's own corner of the servers: its topics, its database, its state folder. Made anew for each run."""

import os
import re
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

CHECKOUT = Path(__file__).parent.parent
PIPELINE = CHECKOUT / "pipelines" / "enriched-activity.yaml"
DATABASE = "demo"
INPUT = "user_activity"
PARTITIONS = 3
TOPICS = {
    INPUT: "what was sent",
    "enriched_activity": "the same events with processing_time, each exactly once (read it with isolation.level=read_committed)",
    f"{INPUT}.dead-letters": "what could not be read, unchanged, with the reason in its headers",
    f"{INPUT}.late": "events that came after their window was closed for good",
}


class World:
    def __init__(self) -> None:
        self.brokers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        self.database_url = with_database(os.environ["DATABASE_URL"], DATABASE)
        self.folder = CHECKOUT / ".dev" / "demo"
        self.state = self.folder / "state"
        self.log = self.folder / "millstream.log"
        self.application = application_of(PIPELINE)
        self.admin = AdminClient({"bootstrap.servers": self.brokers})

    def environment(self) -> dict[str, str]:
        return {**os.environ, "DATABASE_URL": self.database_url}

    def make(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._make_database()
        self._forget_group()
        self._delete_topics()
        settle(self.admin.create_topics([NewTopic(INPUT, PARTITIONS, 1)]), ())

    def _make_database(self) -> None:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
            server.execute(f"drop database if exists {DATABASE} with (force)")
            server.execute(f"create database {DATABASE}")

    def _forget_group(self) -> None:
        """A group of a killed run still has its member until the session time-out: deleting waits for it."""
        deadline = time.monotonic() + 60
        absent = (KafkaError.GROUP_ID_NOT_FOUND,)
        while True:
            try:
                return settle(self.admin.delete_consumer_groups([self.application]), absent)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.NON_EMPTY_GROUP or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _delete_topics(self) -> None:
        settle(self.admin.delete_topics(list(TOPICS)), (KafkaError.UNKNOWN_TOPIC_OR_PART,))
        deadline = time.monotonic() + 30
        while set(TOPICS) & set(self.admin.list_topics(timeout=10).topics):
            if time.monotonic() > deadline:
                raise TimeoutError("the topics of the last run do not go away")
            time.sleep(0.2)


def settle(futures: dict, tolerated: tuple[int, ...]) -> None:
    for future in futures.values():
        try:
            future.result(30)
        except KafkaException as error:
            if error.args[0].code() not in tolerated:
                raise


def with_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def application_of(pipeline: Path) -> str:
    name = re.search(r"^name:\s*([\w.-]+)", pipeline.read_text(), re.MULTILINE)
    if name is None:
        raise ValueError(f"{pipeline} has no name")
    return name.group(1)
