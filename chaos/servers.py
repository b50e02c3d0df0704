"""The real Kafka and PostgreSQL beside a run: databases, topics, and killing either.

Owns: what is created for a run and removed after it. Never: touches a topic or database that it did not create.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg import sql

CHECKOUT = Path(__file__).resolve().parents[1]
DEFAULT_KAFKA = "127.0.0.1:29092"
DEFAULT_DATABASE = "postgres://millstream:millstream@127.0.0.1:25432/stream_data"
REQUEST_SECONDS = 120.0
NAMES = ("kafka", "postgres")
COMPLAINT = re.compile(r" (WARN|ERROR|FATAL|PANIC)\b|Fencing broker")
MOST_COMPLAINTS = 12


class Servers:
    def __init__(self, environment: dict[str, str] | None = None) -> None:
        environment = dict(os.environ if environment is None else environment)
        self.bootstrap = environment.get("KAFKA_BOOTSTRAP_SERVERS", DEFAULT_KAFKA)
        self.database_url = environment.get("DATABASE_URL", DEFAULT_DATABASE)
        self.dev = environment.get("MILLSTREAM_DEV", str(CHECKOUT / "dev"))
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})

    # -- for one run -------------------------------------------------------------------------------------------------

    def create_database(self, name: str) -> str:
        """Returns its address."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return urlunsplit(urlsplit(self.database_url)._replace(path=f"/{name}"))

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def create_topic(self, name: str, partitions: int) -> None:
        """Names are a run's own: one that is there already was made by a request whose answer came too late."""
        try:
            self.admin.create_topics([NewTopic(name, partitions, 1)])[name].result(REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def delete_topics(self, names: list[str]) -> None:
        there = set(self.admin.list_topics(timeout=REQUEST_SECONDS).topics)
        names = [name for name in names if name in there]
        if names:
            for future in self.admin.delete_topics(names).values():
                future.result(REQUEST_SECONDS)

    # -- their lives -------------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        self.verb("kill", name)

    def stop(self, name: str) -> None:
        self.verb("stop", name)

    def start(self, name: str) -> None:
        self.verb("start", name)

    def complaints(self) -> str:
        """The last lines of trouble in their logs, for whoever looks for the cause of a failure."""
        found = []
        for name in NAMES:
            log = Path(self.dev).parent / ".dev" / "log" / f"{name}.log"
            if log.exists():
                lines = [
                    line for line in log.read_text(errors="replace").splitlines() if COMPLAINT.search(line)
                ]
                found += [f"    {name} | {line[:300]}" for line in lines[-MOST_COMPLAINTS:]]
        return "\n".join(found)

    def verb(self, verb: str, name: str) -> None:
        assert name in NAMES, name
        done = subprocess.run(
            [self.dev, "server", verb, name], capture_output=True, text=True, timeout=180, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.dev} server {verb} {name}: {done.stdout}{done.stderr}")
