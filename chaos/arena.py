"""One fresh run: its own topics, database, application name and folder, and a referee that reads along.

Owns: making and removing all of these, and the fault proxies before its processors. Never: shares a name with another run.
Data: a pipeline file -> a copy of it with names of this run. Tested: by every program that uses it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import yaml
from confluent_kafka import Consumer, KafkaException, TopicPartition

from .apart import Apart
from .generator import Generator, Shares, default_start
from .loader import Loader
from .options import DEFAULT_PIPELINE
from .processor import ChaosFailure, Processor
from .proxy import Proxy
from .referee import pipeline as referee_pipeline
from .referee.inspection import Inspection, Report
from .referee.log import end_offsets
from .referee.referee import Referee
from .servers import CHECKOUT, Servers
from .shape import Shape

DEFAULT_PARTITIONS = 3
PROGRESS_SECONDS = 60.0
DRAIN_SECONDS = 180.0
ASK_SECONDS = 5.0
STABLE = "Stable"
MOVING = ("PreparingRebalance", "CompletingRebalance")
SHOWN_VIOLATIONS = 12


class Arena:
    """`alter` changes the file, as YAML has it, for this run; `proxied` puts a fault proxy before each server."""

    def __init__(
        self,
        seed: int,
        title: str = "",
        pipeline: Path = DEFAULT_PIPELINE,
        alter: Callable[[dict], None] | None = None,
        proxied: bool = False,
    ) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        self.seed = seed
        self.run = "-".join(part for part in (f"chaos-{seed}-{stamp}-{os.getpid()}", title) if part)
        self.directory = CHECKOUT / ".dev" / "chaos" / f"{seed}-{stamp}-{os.getpid()}" / title
        self.directory.mkdir(parents=True, exist_ok=True)
        self.servers = Servers()
        self.database = self.run.replace("-", "_")
        raw = yaml.safe_load(pipeline.read_text(encoding="utf-8"))
        if alter:
            alter(raw)
        raw = rename(raw, self.run)
        self.pipeline = self.directory / "pipeline.yaml"
        self.pipeline.write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")
        self.environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.servers.bootstrap,
            "DATABASE_URL": self.servers.create_database(self.database),
        }
        self.plan = referee_pipeline.load(self.pipeline, {**os.environ, **self.environment})
        self.source = next(iter(self.plan.sources.values()))
        topic = next(iter(raw["sources"].values()))["topic"]
        self.partitions = int(topic.get("create", {}).get("partitions", DEFAULT_PARTITIONS))
        self.servers.create_topic(self.source.topic, self.partitions)
        # Reads what the group holds, and joins nothing.
        self.onlooker = Consumer(
            {
                "bootstrap.servers": self.servers.bootstrap,
                "group.id": self.plan.name,
                "isolation.level": "read_committed",
                "log_level": 2,
            }
        )
        # For the names of what is judged; whoever judges has one of its own.
        self.referee = Referee(self.plan)
        self.inspection = Apart(self.pipeline, self.environment) if proxied else Inspection(self.plan)
        self.processors: list[Processor] = []
        self.proxies: dict[str, Proxy] = self.make_proxies() if proxied else {}

    def make_proxies(self) -> dict[str, Proxy]:
        return {
            "kafka": Proxy.of_kafka(self.servers.bootstrap),
            "postgres": Proxy.of_postgres(self.environment["DATABASE_URL"]),
        }

    def processor(self, name: str = "processor", direct: bool = False) -> Processor:
        """Its connections go through the proxies, if there are any; `direct` ones do not."""
        environment = dict(self.environment)
        if self.proxies and not direct:
            environment["KAFKA_BOOTSTRAP_SERVERS"] = self.proxies["kafka"].address
            environment["DATABASE_URL"] = self.proxies["postgres"].through(environment["DATABASE_URL"])
        made = Processor(self.pipeline, environment, self.directory, name)
        self.processors.append(made)
        return made

    def loader(self, shares: Shares = Shares(), pace: int = 50) -> Loader:
        shape = Shape.of(self.plan, self.source)
        generator = Generator(shape, self.seed, default_start(), self.partitions, shares, pace)
        return Loader(self.servers.bootstrap, self.source.topic, generator)

    # -- looking -----------------------------------------------------------------------------------------------------

    def progress(self) -> int:
        """The sum of `next` over the partitions of which outputs are made; -1 while there is none or no server to ask."""
        query = "SELECT coalesce(sum(next), -1)::bigint FROM millstream.progress WHERE application = %s AND topic = %s"
        return self.ask(query, self.plan.name, self.output_topic)

    @property
    def output_topic(self) -> str:
        """Where the records are that outputs are made of: the input, or behind a hop the internal topic."""
        return self.referee.sources[self.source.topic].output_topic

    def verdicts(self) -> int:
        """How many records have got theirs; -1 while there is none or no server to ask."""
        query = "SELECT coalesce(sum(accepted + duplicate + dead), -1)::bigint FROM millstream.progress WHERE application = %s"
        return self.ask(query, self.plan.name)

    def log_end(self) -> int:
        """The sum of the input's end offsets."""
        return sum(end_offsets(self.servers.admin, self.source.topic, self.partitions).values())

    def done(self) -> bool:
        """Every record that the input holds has its verdict, and PostgreSQL what follows from it. Why not by offsets: an internal
        topic ends when all is copied, and holds ticks and the ends of transactions, before which its reader may stop."""
        return self.verdicts() >= self.log_end()

    def followed(self) -> bool:
        """Kafka holds what PostgreSQL does, of every partition: the group's stable offset is that of the progress row."""
        query = "SELECT topic, partition, next FROM millstream.progress WHERE application = %s"
        due = {tuple(place): position for *place, position in self.rows(query, self.plan.name)}
        try:
            found = self.onlooker.committed([TopicPartition(*place) for place in due], ASK_SECONDS)
        except KafkaException:
            return False
        return bool(due) and due == {(one.topic, one.partition): one.offset for one in found}

    def terminate_backends(self) -> int:
        """Cuts the processor off its database, as a network would. How many sessions that were; below 1 where none was found."""
        return self.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name <> 'chaos' AND pid <> pg_backend_pid()"
        )

    def ask(self, query: str, *values: str) -> int:
        """-1 where the server is away or the table not made yet."""
        rows = self.rows(query, *values)
        return rows[0][0] if rows else -1

    def rows(self, query: str, *values: str) -> list[tuple]:
        """None of them where the server is away or the table not made yet."""
        try:
            with psycopg.connect(
                self.environment["DATABASE_URL"], autocommit=True, connect_timeout=5, application_name="chaos"
            ) as connection:
                return connection.execute(query, values or None).fetchall()
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return []

    def wait_for_progress(self, processor: Processor, beyond: int, seconds: float = PROGRESS_SECONDS) -> None:
        what = f"progress beyond {beyond}"
        processor.wait_for(what, lambda: self.progress() > beyond, seconds, pause=0.05)

    def group_state(self) -> str:
        """Of the application's group; nothing while the broker is away.

        Why not `describe_consumer_groups`: where its connection drops it ends the whole process, by an assertion of
        librdkafka (confluentinc/librdkafka#4605).
        """
        try:
            found = self.servers.admin.list_groups(self.plan.name, timeout=ASK_SECONDS)
        except KafkaException:
            return ""
        return found[0].state if found else ""

    def group_is_stable(self) -> bool:
        return self.group_state() == STABLE

    def partitions_move(self) -> bool:
        return self.group_state() in MOVING

    # -- judging -----------------------------------------------------------------------------------------------------

    def require_readable(self) -> None:
        """A proxy that met what it cannot read has cut where nobody asked for it."""
        faults = [
            f"proxy of {name}: {fault}" for name, proxy in self.proxies.items() for fault in proxy.faults
        ]
        if faults:
            raise ChaosFailure("\n".join(faults))

    def judge_running(self) -> Report:
        self.require_readable()
        return check(self.inspection.while_running())

    def judge_end(self) -> Report:
        self.require_readable()
        return check(self.inspection.at_end())

    def drain(self, processor: Processor, *arguments: str, **options) -> None:
        """Runs until the topics' present end; raises `ChaosFailure` unless it exits 0."""
        processor.start("--until-end", *arguments, **options)
        code = processor.wait_for_exit(DRAIN_SECONDS)
        if code:
            raise processor.failure(f"run --until-end exited {code}")

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self, keep: bool) -> None:
        """Ends what runs. Without `keep` removes everything of this run."""
        for processor in self.processors:
            processor.finish()
        for proxy in self.proxies.values():
            proxy.close()
        self.inspection.close()
        self.onlooker.close()
        if keep:
            return
        topics = [*self.referee.inputs, *(stream.topic for stream in self.referee.streams())]
        self.servers.delete_topics(topics)
        self.servers.drop_database(self.database)
        shutil.rmtree(self.directory, ignore_errors=True)


def rename(raw: dict, run: str) -> dict:
    """The file with an application name and topics of this run. Tables need none: the database is the run's own."""
    raw["name"] = run
    for name, source in raw["sources"].items():
        topic = source["topic"] if isinstance(source["topic"], dict) else {"name": source["topic"]}
        source["topic"] = {**topic, "name": f"{run}.{name}"}
    for section in ("bad_data", "late"):
        if "topic" in (raw.get(section) or {}):
            raw[section]["topic"] = f"{run}.{{source}}.{section.replace('_', '-')}"
    for name, record in (raw.get("records") or {}).items():
        if "topic" in record.get("to", {}):
            record["to"]["topic"] = f"{run}.{name}"
    raw.pop("tests", None)
    return raw


def check(report: Report) -> Report:
    """Raises `ChaosFailure` with the first violations."""
    if report.green:
        return report
    shown = "\n".join(f"    {violation}" for violation in report.violations[:SHOWN_VIOLATIONS])
    raise RefereeFailure(f"referee: {len(report.violations)} violations\n{shown}", report)


class RefereeFailure(ChaosFailure):
    def __init__(self, text: str, report: Report) -> None:
        super().__init__(text)
        self.report = report
