"""A corner of the servers for one run: topics, a database, a state folder. Made anew each time."""

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
INPUT = "user_activity"
SOURCE = "activity"  # what the pipeline file calls it; its side topics carry this name
PARTITIONS = 3
TOPICS = {
    INPUT: "what was sent",
    f"{PIPELINE.stem}.{SOURCE}.by-user_id": "the pipeline's own: the same, partitioned by user, so that sessions are whole",
    "enriched_activity": "the same with processing_time, each exactly once (read it with isolation.level=read_committed)",
    f"{SOURCE}.dead-letters": "what could not be read, unchanged, with the reason in its headers",
    f"{SOURCE}.late": "events that came after their window was closed for good",
}
# Beyond any time for which a machine stands still.
PATIENCE = 120
PASSING = (
    KafkaError.NON_EMPTY_GROUP,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


class World:
    """NAME is the database's and the folder's; the topics are the pipeline's, so only one world is there at a time."""

    def __init__(self, name: str) -> None:
        self.database = name
        self.brokers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        self.database_url = with_database(os.environ["DATABASE_URL"], name)
        self.folder = CHECKOUT / ".dev" / name
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
            server.execute(f"drop database if exists {self.database} with (force)")
            server.execute(f"create database {self.database}")

    def _forget_group(self) -> None:
        """Waits for what passes: the member of a killed run until its session ends, a broker that has just started."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return settle(
                    self.admin.delete_consumer_groups([self.application]), (KafkaError.GROUP_ID_NOT_FOUND,)
                )
            except KafkaException as error:
                if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _delete_topics(self) -> None:
        settle(self.admin.delete_topics(list(TOPICS)), (KafkaError.UNKNOWN_TOPIC_OR_PART,))
        deadline = time.monotonic() + PATIENCE
        while set(TOPICS) & set(self.admin.list_topics(timeout=PATIENCE).topics):
            if time.monotonic() > deadline:
                raise TimeoutError("the topics of the last run do not go away")
            time.sleep(0.2)


def settle(futures: dict, tolerated: tuple[int, ...]) -> None:
    for future in futures.values():
        try:
            future.result(PATIENCE)
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
