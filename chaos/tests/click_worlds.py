"""A pipeline of dedup, checks and record tables in memory, and the rows that a right processor would write."""

from __future__ import annotations

import json

from chaos.referee import instant
from chaos.referee.judge import ACCEPTED
from chaos.referee.referee import Referee
from chaos.referee.record_table import RecordTable

from .worlds import COMMIT_TIME, World

DAY = "2026-01-30T"
CLICKS = """
version: 1
name: sample
sources:
  clicks:
    topic: { name: events }
    fields: { id: text!, at: timestamp!, page: text!, n: bigint, ip: inet, visit: uuid, more: json }
    event_time: at
    watermark: { delay: 10s, max_future: 5m }
    dedup: { key: [id], within: 48s }
    checks:
      - { name: page_is_path, expect: "page like '/%'", on_fail: dead_letter }
      - { name: n_is_positive, expect: "n > 0", on_fail: count }
bad_data: { topic: "{source}.dead-letters", table: dead_letters }
late: { allowed_lateness: 1h, topic: "{source}.late" }
aggregates:
  clicks_by_page:
    from: clicks
    window: { tumble: 1m }
    by: [page]
    select: { clicks: count(*), ids: count(distinct id), total: sum(n) }
    to: { table: clicks_by_page, key: [window_start, page] }
records:
  raw:
    from: clicks
    set: { written_at: commit_time(), day: date(at), tenfold: n * 10 }
    to: { table: raw_clicks, key: [id] }
  journal: { from: clicks, set: { written_at: commit_time() }, to: { table: journal } }
  enriched: { from: clicks, set: { processing_time: commit_time() }, to: { topic: enriched } }
"""
# Without dedup every copy is accepted, and only the key of the table keeps it out.
PLAIN = CLICKS.replace("    dedup: { key: [id], within: 48s }\n", "")


def at(text: str) -> int:
    return instant.parse(f"{DAY}{text}Z")


def click(id: str, time: str = "10:00:00", **more: object) -> dict:
    return {"id": id, "at": f"{DAY}{time}Z", "page": "/a", **more}


def cells(event: dict) -> dict[str, object]:
    """A row of either table as the database would give it back, by column."""
    micros = instant.parse(event["at"])
    n = event.get("n")
    row = {name: event.get(name) for name in ("id", "page", "n", "ip", "visit", "more")}
    row |= {"at": micros, "written_at": COMMIT_TIME, "day": micros // instant.DAY}
    return {**row, "tenfold": None if n is None else n * 10}


def table_of(referee: Referee, name: str) -> RecordTable:
    (source,) = referee.sources.values()
    return next(table for table in source.tables if table.name == name)


def right_rows(made: World, name: str) -> list[dict[str, object]]:
    """Built from the events, in the order of their partitions: the first of each id, or every one that was accepted."""
    rows, seen = [], set()
    for number, log in made.logs.items():
        for record, verdict in zip(log, made.verdicts(number), strict=True):
            row = cells(json.loads(record.value)) if verdict == ACCEPTED else None
            if row and not (name == "raw" and row["id"] in seen):
                seen.add(row["id"])
                rows.append(row)
    return rows


def words(made: World, name: str, rows: list[dict[str, object]]) -> list[str]:
    """What comparing finds, a word a violation."""
    table = table_of(made.referee(), name)
    found = [table.digest(tuple(row[column] for column in table.columns)) for row in rows]
    return [violation.word for violation in table.compare(found)]
