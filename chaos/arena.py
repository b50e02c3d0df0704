"""One fresh run: its own topics, database, application name and folder, and a referee that reads along.

Owns: making and removing all of these, and the fault proxies before its processors. Never: shares a name with another run.
Data: a pipeline file -> a copy of it with names of this run. Tested: by every program that uses it.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import yaml
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from .generator import Generator, Shares, default_start
from .loader import Loader
from .options import DEFAULT_PIPELINE
from .processor import ChaosFailure, Processor
from .proxy import Proxy
from .referee import pipeline as referee_pipeline
from .referee.inspection import Inspection, Report
from .referee.log import end_offsets
from .servers import CHECKOUT, Servers
from .shape import Shape

DEFAULT_PARTITIONS = 3
PROGRESS_SECONDS = 60.0
DRAIN_SECONDS = 180.0
ASK_SECONDS = 5.0
MOVING = (ConsumerGroupState.PREPARING_REBALANCING, ConsumerGroupState.COMPLETING_REBALANCING)
SHOWN_VIOLATIONS = 12


class Arena:
    """`kafka` are client settings of this run, beside the file's; `proxied` puts a fault proxy before each server."""

    def __init__(
        self,
        seed: int,
        title: str = "",
        pipeline: Path = DEFAULT_PIPELINE,
        kafka: dict[str, str] | None = None,
        proxied: bool = False,
    ) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        self.seed = seed
        self.run = "-".join(part for part in (f"chaos-{seed}-{stamp}-{os.getpid()}", title) if part)
        self.directory = CHECKOUT / ".dev" / "chaos" / f"{seed}-{stamp}-{os.getpid()}" / title
        self.directory.mkdir(parents=True, exist_ok=True)
        self.servers = Servers()
        self.database = self.run.replace("-", "_")
        raw = rename(yaml.safe_load(pipeline.read_text(encoding="utf-8")), self.run)
        raw["connections"]["kafka"] |= kafka or {}
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
        self.inspection = Inspection(self.plan)
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
        """The sum of `next` over partitions; -1 while there is none or no server to ask."""
        query = "SELECT coalesce(sum(next), -1)::bigint FROM millstream.progress WHERE application = %s"
        return self.ask(query, self.plan.name)

    def group_offset(self) -> int:
        """The sum of the group's stable offsets, where outputs to Kafka arrive; -1 while one is unknown."""
        places = [TopicPartition(self.source.topic, number) for number in range(self.partitions)]
        request = ConsumerGroupTopicPartitions(self.plan.name, places)
        found = self.servers.admin.list_consumer_group_offsets(
            [request], require_stable=True, request_timeout=ASK_SECONDS
        )
        try:
            offsets = [one.offset for one in found[self.plan.name].result().topic_partitions]
        except KafkaException:
            return -1
        return -1 if min(offsets) < 0 else sum(offsets)

    def log_end(self) -> int:
        """The sum of the input's end offsets: where `progress` arrives."""
        return sum(end_offsets(self.servers.admin, self.source.topic, self.partitions).values())

    def terminate_backends(self) -> None:
        """Cuts the processor off its database, as a network would."""
        count = self.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name <> 'chaos' AND pid <> pg_backend_pid()"
        )
        if count < 1:
            raise ChaosFailure(f"{count} database sessions to cut: the processor holds none")

    def ask(self, query: str, *values: str) -> int:
        """-1 where the server is away or the table not made yet."""
        try:
            with psycopg.connect(
                self.environment["DATABASE_URL"], autocommit=True, connect_timeout=5, application_name="chaos"
            ) as connection:
                return connection.execute(query, values or None).fetchone()[0]
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return -1

    def wait_for_progress(self, processor: Processor, beyond: int, seconds: float = PROGRESS_SECONDS) -> None:
        what = f"progress beyond {beyond}"
        processor.wait_for(what, lambda: self.progress() > beyond, seconds, pause=0.05)

    def group_state(self) -> ConsumerGroupState:
        """Of the application's group; unknown while the broker is away."""
        found = self.servers.admin.describe_consumer_groups([self.plan.name], request_timeout=ASK_SECONDS)
        try:
            return found[self.plan.name].result().state
        except KafkaException:
            return ConsumerGroupState.UNKNOWN

    def group_is_stable(self) -> bool:
        return self.group_state() is ConsumerGroupState.STABLE

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
        if keep:
            return
        topics = [self.source.topic, *(stream.topic for stream in self.inspection.outputs)]
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
