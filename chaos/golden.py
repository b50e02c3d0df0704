"""`python -m chaos.golden`: the golden cases on real servers: the corpus of bad records, fifty views at one instant, and the logs
whose outcome was worked out by hand (`golden_cases`).

Owns: which records are sent, and that each is found under the verdict its case names; the referee judges the rest.
Data: `tests/golden/` -> one fresh run per case group, drained by `run --until-end`. Needs servers and the built binary.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg
import yaml
from confluent_kafka import Producer
from psycopg import sql
from psycopg.rows import dict_row

from . import golden_cases
from .arena import Arena
from .golden_cases import GOLDEN, GoldenCase
from .processor import ChaosFailure
from .program import end_on_sigterm

BURST = 300
BURST_BYTES = 4 << 20
LARGEST_MESSAGE = 4 << 20
FLUSH_SECONDS = 120.0
CONNECTIONS = {
    "kafka": {"bootstrap.servers": "${KAFKA_BOOTSTRAP_SERVERS}"},
    "postgres": {"url": "${DATABASE_URL}"},
}


class Case(NamedTuple):
    name: str
    value: bytes | None
    verdict: str


def corpus() -> list[Case]:
    """The corpus of `try`, and what no line of a file can be: no value, and a future that the broker's clock tells."""
    raw = json.loads((GOLDEN / "bad-records" / "records.json").read_text(encoding="utf-8"))
    # Why: against a broker's timestamp that event is from the future; `future` below is the same on purpose.
    held = [case for case in raw if not case["name"].startswith("future date")]
    ahead = datetime.now(UTC) + timedelta(hours=1)
    future = json.dumps({"at": ahead.strftime("%Y-%m-%dT%H:%M:%SZ"), "page": "/a"}).encode()
    extra = [
        Case("no value", None, "NULL_VALUE"),
        Case("an hour ahead of the broker", future, "FUTURE_EVENT"),
    ]
    return [Case(case["name"], value_of(case), case["verdict"]) for case in held] + extra


def value_of(case: dict) -> bytes:
    value = case.get("value", "").encode() + bytes.fromhex(case.get("hex", ""))
    for text, times in filter(None, (case.get("repeat"), case.get("repeat_then"))):
        value += text.encode() * times
    return value + case.get("end", "").encode()


def alone(cases: list[Case]) -> list[Case]:
    return cases


def in_bursts(cases: list[Case]) -> list[Case]:
    """Nothing but this record, many times, then the next; no good record in between."""
    bad = [case for case in cases if case.verdict != "accepted"]
    return [
        case for case in bad for _ in range(min(BURST, max(3, BURST_BYTES // (len(case.value or b"") + 1))))
    ]


def corpus_run(seed: int, title: str, arrange: Callable[[list[Case]], list[Case]]) -> str:
    sent = arrange(corpus())
    expected = Counter(case.verdict for case in sent)
    with_arena(seed, f"corpus-{title}", "bad-records", lambda arena: check_corpus(arena, sent, expected))
    return f"{len(sent)} records, {sum(expected.values()) - expected['accepted']} of them dead by {len(expected)} verdicts"


def check_corpus(arena: Arena, sent: list[Case], expected: Counter) -> None:
    produce(arena, [case.value for case in sent])
    arena.drain(arena.processor())
    arena.judge_end()
    with psycopg.connect(arena.environment["DATABASE_URL"]) as connection:
        totals = connection.execute(
            "SELECT sum(accepted)::bigint, sum(read)::bigint FROM millstream.progress"
        ).fetchone()
        dead = connection.execute(
            "SELECT reason, count(*) FROM millstream.dead_letters GROUP BY 1"
        ).fetchall()
    found = Counter(dict(dead), accepted=totals[0])
    if found != expected:
        raise ChaosFailure(
            f"verdicts differ: {dict(found - expected)} too many, {dict(expected - found)} missing"
        )
    if totals[1] != len(sent):
        raise ChaosFailure(f"{totals[1]} of {len(sent)} records read")


def fifty_run(seed: int) -> str:
    rows: list[tuple] = []
    with_arena(seed, "fifty", "fifty-views", lambda arena: rows.extend(check_fifty(arena)))
    return f"rows {rows}"


def check_fifty(arena: Arena) -> list[tuple]:
    events = [
        {
            "event_time": "2026-01-30T01:18:10Z",
            "user_id": f"user{i}",
            "page_url": "/products",
            "event_type": "page_view",
        }
        for i in range(50)
    ]
    produce(arena, [json.dumps(event).encode() for event in events])
    arena.drain(arena.processor())
    arena.judge_end()
    with psycopg.connect(arena.environment["DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT page_url, view_count FROM page_view_counts").fetchall()
        sliding = connection.execute("SELECT page_url, views, users FROM page_views_sliding").fetchall()
    if rows != [("/products", 50)] or sliding != [("/products", 50, 50)] * 5:
        raise ChaosFailure(f"expected one row of 50 and five of 50 by 50 users, found {rows} and {sliding}")
    return rows + sliding


def case_run(seed: int, name: str) -> str:
    case, rows = golden_cases.read(name), []
    with_arena(seed, name, name, lambda arena: rows.extend(check_case(arena, case)))
    return f"{len(case.values)} records, {len(rows)} rows"


def check_case(arena: Arena, case: GoldenCase) -> list[dict]:
    """All records in one partition; then every row is the one that was worked out."""
    produce(arena, case.values, partitions=1)
    arena.drain(arena.processor())
    report = arena.judge_end()
    verdicts = case.expected["verdicts"][0]
    differing = {name: count for name, count in verdicts.items() if report.counts.get(name, count) != count}
    if differing:
        raise ChaosFailure(f"expected {differing}, found {report.counts}")
    all_rows = []
    with psycopg.connect(arena.environment["DATABASE_URL"], row_factory=dict_row) as connection:
        for aggregate in arena.plan.aggregates:
            due = case.expected["aggregates"][aggregate.name]["rows"]
            query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(aggregate.table))
            found = [
                golden_cases.spell_row(list(row), tuple(row.values())) for row in connection.execute(query)
            ]
            found.sort(key=lambda row: [row[name] for name in aggregate.key])
            if found != due:
                raise ChaosFailure(f"{aggregate.table}: expected {due}, found {found}")
            all_rows += found
    return all_rows


def with_arena(seed: int, title: str, case: str, body: Callable[[Arena], None]) -> None:
    raw = yaml.safe_load((GOLDEN / case / "pipeline.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        file.write_text(
            yaml.safe_dump({**raw, "connections": CONNECTIONS}, sort_keys=False), encoding="utf-8"
        )
        arena, failed = Arena(seed, title, file), True
    try:
        body(arena)
        failed = False
    finally:
        arena.close(keep=failed)


def produce(arena: Arena, values: list[bytes | None], partitions: int | None = None) -> None:
    """One after the other over all partitions, or so many."""
    producer = Producer(
        {
            "bootstrap.servers": arena.servers.bootstrap,
            "enable.idempotence": True,
            "message.max.bytes": LARGEST_MESSAGE,
            "queue.buffering.max.kbytes": 1 << 20,
            "log_level": 2,
        }
    )
    for number, value in enumerate(values):
        producer.produce(arena.source.topic, value=value, partition=number % (partitions or arena.partitions))
        producer.poll(0)
    if left := producer.flush(FLUSH_SECONDS):
        raise ChaosFailure(f"{left} records not delivered")


def main() -> int:
    end_on_sigterm()
    parser = argparse.ArgumentParser(prog="python -m chaos.golden")
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    runs = {
        "bad records, each alone": lambda: corpus_run(seed, "alone", alone),
        "bad records in bursts of 100 %": lambda: corpus_run(seed, "bursts", in_bursts),
        "fifty page views at one instant": lambda: fifty_run(seed),
        **{f"case {name}": partial(case_run, seed, name) for name in golden_cases.names()},
    }
    failed = 0
    for title, run in runs.items():
        began = time.monotonic()
        try:
            print(f"{title}: {run()}; the referee agrees  {time.monotonic() - began:.1f} s", flush=True)
        except ChaosFailure as failure:
            failed += 1
            print(f"{title}: FAILED: {failure}", flush=True)
    print(f"{len(runs) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
