"""The pipeline file as the referee understands it.

Owns: reading the YAML with its `${VAR:-default}` environment into plain data. Never: completes what the file leaves to
the processor's validation; what the referee cannot judge it refuses (`Unsupported`).
Data: file text + environment -> `Pipeline`. Tested: `tests/test_pipeline.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from . import units

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
TYPES = {
    "text",
    "bigint",
    "double",
    "boolean",
    "timestamp",
    "timestamp_ms",
    "timestamp_s",
    "uuid",
    "inet",
    "json",
}
DEFAULT_MAX_FUTURE = "5m"
DEFAULT_IDLE_AFTER = "30s"
DEFAULT_MAX_RECORD = "1MiB"
LATEST_SUFFIX = "_latest"


class Unsupported(ValueError):
    """The file asks for something that this referee does not judge."""


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    required: bool


@dataclass(frozen=True)
class Check:
    name: str
    expect: str
    deadly: bool


@dataclass(frozen=True)
class Dedup:
    """`key` are (name, expression); `within` is a duration."""

    key: tuple[tuple[str, str], ...]
    within: int


@dataclass(frozen=True)
class Source:
    name: str
    topic: str
    fields: tuple[Field, ...]
    event_time: str
    delay: int
    max_future: int
    max_record_bytes: int
    checks: tuple[Check, ...]
    dead_topic: str | None
    late_topic: str | None
    idle_after: int = units.duration_micros(DEFAULT_IDLE_AFTER)
    keyed_by: str | None = None
    repartition_by: str | None = None
    dedup: Dedup | None = None

    def internal_topic(self, application: str) -> str:
        """That of a repartitioned source."""
        return f"{application}.{self.name}.by-{self.repartition_by}"


@dataclass(frozen=True)
class Sliding:
    """A tumbling window slides by its size."""

    size: int
    slide: int


@dataclass(frozen=True)
class Sessions:
    gap: int
    max_duration: int | None = None


@dataclass(frozen=True)
class Aggregate:
    """`latest` names the columns of which the view of the table's newest rows has one row each."""

    name: str
    source: str
    where: str | None
    window: Sliding | Sessions
    allowed_lateness: int
    by: tuple[tuple[str, str], ...]
    select: tuple[tuple[str, str], ...]
    table: str
    key: tuple[str, ...]
    latest: tuple[str, ...] = ()

    @property
    def latest_view(self) -> str:
        return self.table + LATEST_SUFFIX


@dataclass(frozen=True)
class RecordOutput:
    """Records with added fields, to a topic."""

    name: str
    source: str
    set: tuple[tuple[str, str], ...]
    topic: str
    key: str | None
    input_timestamp: bool


@dataclass(frozen=True)
class TableOutput:
    """Records with added columns, to a table: the first of each key, or without a key every one."""

    name: str
    source: str
    set: tuple[tuple[str, str], ...]
    table: str
    key: tuple[str, ...]


@dataclass(frozen=True)
class Pipeline:
    name: str
    kafka: dict[str, str]
    postgres: str | None
    sources: dict[str, Source]
    aggregates: tuple[Aggregate, ...]
    records: tuple[RecordOutput, ...]
    dead_table: str
    tables: tuple[TableOutput, ...] = ()
    environment: dict[str, str] = field(default_factory=dict, compare=False, repr=False)


def load(path: str | Path, environment: dict[str, str], application: str | None = None) -> Pipeline:
    return parse(Path(path).read_text(encoding="utf-8"), environment, application)


def parse(text: str, environment: dict[str, str], application: str | None = None) -> Pipeline:
    raw = substitute(yaml.load(text, yaml.BaseLoader), environment)
    bad_data, late = raw.get("bad_data") or {}, raw.get("late") or {}
    sources = {
        name: read_source(name, raw_source, bad_data, late) for name, raw_source in raw["sources"].items()
    }
    connections = raw.get("connections") or {}
    aggregates = (raw.get("aggregates") or {}).items()
    records = [read_record(name, one) for name, one in (raw.get("records") or {}).items()]
    plan = Pipeline(
        name=application or raw["name"],
        kafka=dict(connections.get("kafka") or {}),
        postgres=(connections.get("postgres") or {}).get("url"),
        sources=sources,
        aggregates=tuple(read_aggregate(name, one, late) for name, one in aggregates),
        records=tuple(one for one in records if isinstance(one, RecordOutput)),
        dead_table=bad_data.get("table", "dead_letters"),
        tables=tuple(one for one in records if isinstance(one, TableOutput)),
        environment=dict(environment),
    )
    for aggregate in plan.aggregates:
        check_sessions(aggregate, sources[aggregate.source])
    return plan


def check_sessions(aggregate: Aggregate, source: Source) -> None:
    """All records of a session's key lie in one partition only if the source is keyed, or repartitioned, by a part of that key."""
    keyed_by = source.repartition_by or source.keyed_by
    if isinstance(aggregate.window, Sessions) and keyed_by not in [text for _, text in aggregate.by]:
        raise ValueError(f"aggregates.{aggregate.name}: its source is not keyed by the sessions' key")


def substitute(node: object, environment: dict[str, str]) -> object:
    if isinstance(node, dict):
        return {key: substitute(value, environment) for key, value in node.items()}
    if isinstance(node, list):
        return [substitute(value, environment) for value in node]
    return VARIABLE.sub(lambda match: variable(match, environment), node)


def variable(match: re.Match[str], environment: dict[str, str]) -> str:
    name, default = match.groups()
    value = environment.get(name)
    if not value and f"{name}_FILE" in environment:
        value = Path(environment[f"{name}_FILE"]).read_text(encoding="utf-8").strip()
    if value:
        return value
    if default is None and value is None:
        raise ValueError(f"environment variable {name} is not set")
    return default or ""


def read_source(name: str, raw: dict, bad_data: dict, late: dict) -> Source:
    topic, watermark = raw["topic"], raw.get("watermark") or {}
    return Source(
        name=name,
        topic=topic if isinstance(topic, str) else topic["name"],
        fields=tuple(read_field(field_name, text) for field_name, text in raw["fields"].items()),
        event_time=raw["event_time"],
        delay=units.duration_micros(watermark.get("delay", "0s")),
        max_future=units.duration_micros(watermark.get("max_future", DEFAULT_MAX_FUTURE)),
        max_record_bytes=units.size_bytes(raw.get("max_record_bytes", DEFAULT_MAX_RECORD)),
        checks=tuple(read_check(check) for check in raw.get("checks") or []),
        dead_topic=topic_of(bad_data, name),
        late_topic=topic_of(late, name),
        idle_after=units.duration_micros(watermark.get("idle_after", DEFAULT_IDLE_AFTER)),
        keyed_by=raw.get("keyed_by"),
        repartition_by=read_repartition(raw.get("repartition_by")),
        dedup=read_dedup(raw["dedup"]) if raw.get("dedup") else None,
    )


def read_repartition(raw: str | dict | None) -> str | None:
    """A field, or a field and how many partitions; the broker knows how many there are."""
    return raw["field"] if isinstance(raw, dict) else raw


def read_dedup(raw: dict) -> Dedup:
    return Dedup(tuple(named(item) for item in as_list(raw["key"])), units.duration_micros(raw["within"]))


def topic_of(raw: dict, source: str) -> str | None:
    return raw["topic"].replace("{source}", source) if raw.get("topic") else None


def read_field(name: str, text: str) -> Field:
    required = text.endswith("!")
    type_name = text.rstrip("!").strip()
    if type_name not in TYPES:
        raise Unsupported(f"type {type_name!r} of field {name}")
    return Field(name, type_name, required)


def read_check(raw: dict) -> Check:
    return Check(raw["name"], raw["expect"], raw.get("on_fail", "dead_letter") == "dead_letter")


def read_aggregate(name: str, raw: dict, late: dict) -> Aggregate:
    to = raw["to"]
    aggregate = Aggregate(
        name=name,
        source=raw["from"],
        where=raw.get("where"),
        window=read_window(name, raw["window"]),
        allowed_lateness=units.duration_micros(
            raw.get("allowed_lateness") or late.get("allowed_lateness", "0s")
        ),
        by=tuple(named(item) for item in as_list(raw.get("by"))),
        select=tuple((raw.get("select") or {}).items()),
        table=to["table"],
        key=tuple(as_list(to["key"])),
        latest=tuple(as_list(to.get("latest"))),
    )
    if aggregate.latest and set(aggregate.latest) != {column for column, _ in aggregate.by}:
        raise Unsupported(f"aggregates.{name}.to.latest {aggregate.latest}: not the columns of `by`")
    return aggregate


def read_window(name: str, raw: dict) -> Sliding | Sessions:
    if set(raw) == {"tumble"}:
        size = slide = units.duration_micros(raw["tumble"])
    elif set(raw) == {"slide", "size"}:
        size, slide = units.duration_micros(raw["size"]), units.duration_micros(raw["slide"])
    elif {"session"} <= set(raw) <= {"session", "max_duration"}:
        longest = raw.get("max_duration")
        gap = units.duration_micros(raw["session"])
        return Sessions(gap, None if longest is None else units.duration_micros(longest))
    else:
        raise Unsupported(f"aggregates.{name}.window {raw}")
    if not 0 < slide <= size:
        raise ValueError(f"aggregates.{name}.window {raw}: slide must be above 0 and at most size")
    return Sliding(size, slide)


def as_list(raw: object) -> list:
    if raw is None:
        return []
    if isinstance(raw, dict):
        return [{name: text} for name, text in raw.items()]
    return raw if isinstance(raw, list) else [raw]


def named(item: str | dict) -> tuple[str, str]:
    """A `by` column: its name and its expression."""
    return (item, item) if isinstance(item, str) else next(iter(item.items()))


def read_record(name: str, raw: dict) -> RecordOutput | TableOutput:
    to = raw["to"]
    if "where" in raw:
        raise Unsupported(f"records.{name}.where")
    key, added = as_list(to.get("key")), tuple((raw.get("set") or {}).items())
    if set(to) <= {"table", "key"}:
        return TableOutput(name, raw["from"], added, to["table"], tuple(key))
    if "topic" not in to:
        raise Unsupported(f"records.{name}.to {sorted(to)}")
    topic = to["topic"] if isinstance(to["topic"], str) else to["topic"]["name"]
    return RecordOutput(
        name=name,
        source=raw["from"],
        set=added,
        topic=topic,
        key=key[0] if key else None,
        input_timestamp=to.get("timestamp") == "input",
    )
