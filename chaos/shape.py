"""What a load must look like for one source of a pipeline file, so that it meets every rule the file makes use of.

Owns: which times, keys and fields matter. Never: chance. Durations and instants are microseconds.
Data: the file as the referee reads it -> `Shape`. Tested: `tests/test_generator.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .referee.dedup import Expiry
from .referee.pipeline import Aggregate, Field, Pipeline, Sessions, Source

DEFAULT_HORIZON = 60_000_000


@dataclass(frozen=True)
class Shape:
    """`keyed_by` is the field that the partition follows, `grouped_by` that by which sessions are made, over partitions too.
    `unique` are the fields of which no two events are alike, `grouped` those that stand in an aggregate's key. `shortest`
    and `longest` are the extreme window sizes and session gaps. `within` and `bucket` are those of dedup, or 0."""

    fields: tuple[Field, ...]
    event_time: str
    keyed_by: str | None
    grouped_by: str | None
    unique: frozenset[str]
    grouped: frozenset[str]
    delay: int
    lateness: int
    shortest: int
    longest: int
    gap: int | None
    within: int
    bucket: int
    max_record_bytes: int

    @classmethod
    def of(cls, plan: Pipeline, source: Source) -> Shape:
        aggregates = [one for one in plan.aggregates if one.source == source.name]
        horizons = [horizon(one) for one in aggregates] or [DEFAULT_HORIZON]
        gaps = [one.window.gap for one in aggregates if isinstance(one.window, Sessions)]
        names = {one.name for one in source.fields}
        keys = {text for _, text in source.dedup.key} if source.dedup else set()
        keys.update(name for table in plan.tables if table.source == source.name for name in table.key)
        return cls(
            fields=source.fields,
            event_time=source.event_time,
            keyed_by=source.keyed_by,
            grouped_by=source.keyed_by or source.repartition_by,
            unique=frozenset(keys & names - {source.keyed_by or source.repartition_by}),
            grouped=frozenset(text for one in aggregates for _, text in one.by) & names,
            delay=source.delay,
            lateness=max((one.allowed_lateness for one in aggregates), default=0),
            shortest=min(horizons),
            longest=max(horizons),
            gap=min(gaps, default=None),
            within=source.dedup.within if source.dedup else 0,
            bucket=Expiry(source.dedup.within).bucket if source.dedup else 0,
            max_record_bytes=source.max_record_bytes,
        )

    def field(self, name: str) -> Field:
        return next(one for one in self.fields if one.name == name)


def horizon(aggregate: Aggregate) -> int:
    return aggregate.window.gap if isinstance(aggregate.window, Sessions) else aggregate.window.size
