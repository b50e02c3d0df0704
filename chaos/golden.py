"""`python -m chaos.golden`: the golden cases on real servers, each in every way that must not matter.

Straight, with the processor killed in the middle, by more workers, and repartitioned by the pipeline itself: the outcome that was
worked out by hand must come of each.
Owns: the ways, and that each way's outcome is the one its case names; the referee judges the rest.
Data: `tests/golden/` (`golden_cases`, `golden_corpus`) -> one fresh run per case and way. Needs servers and the fault build.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import psycopg
from confluent_kafka import Producer
from psycopg import sql
from psycopg.rows import dict_row

from . import golden_cases, golden_corpus
from .arena import Arena
from .golden_cases import GOLDEN, FileTest, GoldenCase
from .golden_corpus import BadRecord
from .processor import ChaosFailure
from .program import end_on_sigterm
from .referee.inspection import Report

LARGEST_MESSAGE = 4 << 20
FLUSH_SECONDS, HALF_SECONDS = 120.0, 90.0
CONNECTIONS = {
    "kafka": {"bootstrap.servers": "${KAFKA_BOOTSTRAP_SERVERS}"},
    "postgres": {"url": "${DATABASE_URL}"},
}
# Cases in which no record's lot depends on those before it, so that their records may lie in any partition.
SPREAD = ("bad-records", "fifty-views")


@dataclass(frozen=True)
class Way:
    """`killed`: the processor, when the first half of the records is done and nothing else is there."""

    title: str
    workers: int = 1
    killed: bool = False
    repartitioned: bool = False

    def alter(self, raw: dict) -> None:
        raw["connections"] = CONNECTIONS
        for source in raw["sources"].values() if self.repartitioned else ():
            source.pop("keyed_by", None)
            source["repartition_by"] = next(
                name for name, kind in source["fields"].items() if kind == "text!"
            )


WAYS = [
    Way("straight"),
    Way("killed half way", killed=True),
    Way("3 workers", workers=3),
    Way("repartitioned, 3 workers, killed half way", workers=3, killed=True, repartitioned=True),
]


@dataclass(frozen=True)
class Golden:
    """What is sent to which case's pipeline; `check` raises `ChaosFailure` where the outcome is another than the one due."""

    title: str
    case: str
    values: list[bytes | None]
    check: Callable[[Arena, Report], None]


def goldens() -> Iterator[Golden]:
    for title, records in golden_corpus.arrangements().items():
        yield Golden(title, "bad-records", [one.value for one in records], partial(check_verdicts, records))
    for case in golden_cases.names():
        log = golden_cases.read(case)
        yield Golden(case, case, log.values, partial(check_log, log))
    for case in golden_cases.names_of_tested():
        for test in golden_cases.file_tests(case):
            yield Golden(f"{case}: {test.title}", case, test.values, partial(check_test, test))


# -- one run -----------------------------------------------------------------------------------------------------------


def run(golden: Golden, number: int, way: Way, seed: int) -> None:
    arena = Arena(seed, f"{golden.case}-{number}", GOLDEN / golden.case / "pipeline.yaml", way.alter)
    failed = True
    try:
        feed(arena, way, place(golden, arena.partitions))
        golden.check(arena, arena.judge_end())
        failed = False
    finally:
        if failed:
            print(f"kept: {arena.directory}, database {arena.database}", flush=True)
        arena.close(keep=failed)


def place(golden: Golden, partitions: int) -> list[tuple[int, bytes | None]]:
    """The partition of each: all of them in turn, or one where the log is that of one partition."""
    used = partitions if golden.case in SPREAD else 1
    return [(number % used, value) for number, value in enumerate(golden.values)]


def feed(arena: Arena, way: Way, sent: list[tuple[int, bytes | None]]) -> None:
    processor, workers = arena.processor(), ("--workers", str(way.workers))
    half = len(sent) // 2 if way.killed else 0
    if way.killed:
        produce(arena, sent[:half])
        processor.start(*workers)
        processor.wait_for("the first half done", arena.done, HALF_SECONDS)
        processor.kill()
    produce(arena, sent[half:])
    arena.drain(processor, *workers)


def produce(arena: Arena, sent: list[tuple[int, bytes | None]]) -> None:
    producer = Producer(
        {
            "bootstrap.servers": arena.servers.bootstrap,
            "enable.idempotence": True,
            "message.max.bytes": LARGEST_MESSAGE,
            "queue.buffering.max.kbytes": 1 << 20,
            "log_level": 2,
        }
    )
    for partition, value in sent:
        producer.produce(arena.source.topic, value=value, partition=partition)
        producer.poll(0)
    if left := producer.flush(FLUSH_SECONDS):
        raise ChaosFailure(f"{left} records not delivered")


# -- outcomes ----------------------------------------------------------------------------------------------------------


def check_verdicts(records: list[BadRecord], arena: Arena, report: Report) -> None:
    """Each record under the verdict that the corpus names."""
    due = Counter(record.verdict for record in records)
    with psycopg.connect(arena.environment["DATABASE_URL"]) as connection:
        accepted, read = connection.execute(
            "SELECT sum(accepted)::bigint, sum(read)::bigint FROM millstream.progress"
        ).fetchone()
        dead = connection.execute(
            "SELECT reason, count(*) FROM millstream.dead_letters GROUP BY 1"
        ).fetchall()
    found = Counter(dict(dead), accepted=accepted)
    if found != due:
        raise ChaosFailure(f"verdicts differ: {dict(found - due)} too many, {dict(due - found)} missing")
    if read != len(records):
        raise ChaosFailure(f"{read} of {len(records)} records read")


def check_log(case: GoldenCase, arena: Arena, report: Report) -> None:
    """Every count and every row is the one that was worked out."""
    verdicts = case.expected["verdicts"][0]
    differing = {name: count for name, count in verdicts.items() if report.counts.get(name, count) != count}
    if differing:
        raise ChaosFailure(f"expected {differing}, found {report.counts}")
    for aggregate in arena.plan.aggregates:
        due = case.expected["aggregates"][aggregate.name]["rows"]
        found = rows_of(arena, aggregate.table)
        found.sort(key=lambda row: [row[name] for name in aggregate.key])
        if found != due:
            missing, foreign = (
                [row for row in ours if row not in theirs] for ours, theirs in ((due, found), (found, due))
            )
            raise ChaosFailure(f"{aggregate.table}: due and not there {missing}, there and not due {foreign}")


def check_test(test: FileTest, arena: Arena, report: Report) -> None:
    """The rows that the file's test expects, of all columns that it names."""
    for aggregate in arena.plan.aggregates:
        if aggregate.name in test.expect:
            found = rows_of(arena, aggregate.table)
            if not test.is_met(aggregate.name, found):
                raise ChaosFailure(
                    f"{aggregate.table}: expected {test.expect[aggregate.name]}, found {found}"
                )


def rows_of(arena: Arena, table: str) -> list[dict]:
    query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
    with psycopg.connect(arena.environment["DATABASE_URL"], row_factory=dict_row) as connection:
        return [golden_cases.spell_row(list(row), tuple(row.values())) for row in connection.execute(query)]


# -- all of them -------------------------------------------------------------------------------------------------------


def main() -> int:
    end_on_sigterm()
    arguments = parse_arguments()
    passed, failed = 0, 0
    for golden in goldens():
        if arguments.case and golden.case not in arguments.case:
            continue
        began, wrong = time.monotonic(), []
        for number, way in enumerate(WAYS):
            try:
                run(golden, number, way, arguments.seed)
            except ChaosFailure as failure:
                wrong.append(f"{golden.title}: {way.title}: FAILED: {failure}")
        passed, failed = passed + len(WAYS) - len(wrong), failed + len(wrong)
        spent = f"{time.monotonic() - began:.1f} s"
        print(
            "\n".join(wrong) or f"{golden.title}: {len(golden.values)} records, as due  {spent}", flush=True
        )
    print(f"each {'; '.join(way.title for way in WAYS)}; the referee agrees" if passed else "nothing passed")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.golden")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", action="append", help="a folder of tests/golden; may be given again")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
