"""`python -m chaos.five [--events N] [--allowed-lateness D]`: each file of `pipelines/` on real servers, filled by `millstream
generate`, drained by `run --until-end`, and every table, topic and count judged.

Owns: the load of each system: a day and a half of event time, with late, too late, repeated and bad events. Never: believes the
generator; what the topics hold is what is judged.
Data: `pipelines/NAME.yaml` and the profile of that name -> a few lines each. Needs servers and the built binary.
Tested: `tests/test_five.py` runs each with a small load.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from functools import partial

from .arena import Arena
from .processor import DEFAULT_BINARY, ChaosFailure
from .program import end_on_sigterm
from .referee.__main__ import conservation
from .referee.inspection import Report
from .servers import CHECKOUT

SYSTEMS = CHECKOUT / "pipelines"
EVENTS, LEAST_EVENTS = 20_000, 1_000
# Beyond a day, which is how long an id is remembered; and late by more than any file allows.
LOAD = (
    "--rate",
    "unlimited",
    "--span",
    "36h",
    "--late",
    "2%",
    "--late-by",
    "5m..4h",
    "--duplicates",
    "2%",
    "--bad",
    "1%",
)
GENERATE_SECONDS = 600.0


def names() -> list[str]:
    return sorted(file.stem for file in SYSTEMS.glob("*.yaml"))


def binary() -> str:
    return os.environ.get("MILLSTREAM_BIN", str(DEFAULT_BINARY.with_name("millstream")))


def run(name: str, events: int, seed: int, allowed_lateness: str | None = None) -> Report:
    """What was judged; with that lateness instead of the file's. Raises `ChaosFailure`."""
    alter = None if allowed_lateness is None else partial(allow, allowed_lateness)
    arena, failed = Arena(seed, name, SYSTEMS / f"{name}.yaml", alter), True
    try:
        fill(arena, name, events)
        processor = arena.processor()
        processor.binary = binary()
        arena.drain(processor)
        report = arena.judge_end()
        require_all(arena, report, events)
        failed = False
        return report
    finally:
        if failed:
            print(f"kept: {arena.directory}, database {arena.database}", flush=True)
        arena.close(keep=failed)


def allow(lateness: str, raw: dict) -> None:
    raw["late"]["allowed_lateness"] = lateness
    for aggregate in raw["aggregates"].values():
        aggregate.pop("allowed_lateness", None)


def fill(arena: Arena, profile: str, events: int) -> None:
    command = [binary(), "generate", profile, "--topic", arena.source.topic, "--events", str(events)]
    command += ["--seed", str(arena.seed), "--bootstrap-servers", arena.servers.bootstrap, *LOAD]
    # A topic that is repartitioned is one whose producers send no key.
    command += ["--key", "none"] if arena.source.repartition_by else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=GENERATE_SECONDS, check=False)
    if done.returncode:
        raise ChaosFailure(f"generate exited {done.returncode}: {done.stdout}{done.stderr}")


def require_all(arena: Arena, report: Report, events: int) -> None:
    """The load did what it is for, and every output has something in it: what is empty agrees with anything."""
    counts = report.counts
    if counts["read"] != events:
        raise ChaosFailure(f"{counts['read']} of {events} events read")
    aggregates = [one.name for one in arena.plan.aggregates]
    due = ["accepted", "dead", *(f"{name} too_late" for name in aggregates)]
    due += ["duplicate"] if arena.source.dedup else []
    empty = [name for name in due if not counts[name]]
    empty += [name for found in (report.rows, report.messages) for name, count in found.items() if not count]
    if empty:
        raise ChaosFailure(f"nothing in {', '.join(empty)}")
    require_lateness(aggregates, counts, report.messages[arena.source.late_topic])


def require_lateness(aggregates: list[str], counts: dict[str, int], messages: int) -> None:
    """What matched was counted or came too late, and then it is a message of the late topic, for each of its aggregates."""
    for name in aggregates:
        matched, counted, too_late = of_aggregate(name, counts)
        if matched != counted + too_late:
            raise ChaosFailure(f"{name}: matched {matched} <> counted {counted} + too late {too_late}")
    due = sum(counts[f"{name} too_late"] for name in aggregates)
    if messages != due:
        raise ChaosFailure(f"{messages} messages in the late topic for {due} that were too late")


def lines(name: str, report: Report) -> list[str]:
    outputs = [f"{table} {count}" for table, count in report.rows.items()]
    outputs += [f"{topic.partition('.')[2]} {count}" for topic, count in report.messages.items()]
    aggregates = [text.removesuffix(" matched") for text in report.counts if text.endswith(" matched")]
    laws = [law(aggregate, report.counts) for aggregate in aggregates]
    return [f"{name}: {conservation(report.counts)}", *(f"    {one}" for one in [*laws, ", ".join(outputs)])]


def law(aggregate: str, counts: dict[str, int]) -> str:
    matched, counted, too_late = of_aggregate(aggregate, counts)
    return f"{aggregate}: matched {matched} = counted {counted} + too late {too_late}"


def of_aggregate(name: str, counts: dict[str, int]) -> list[int]:
    return [counts[f"{name} {what}"] for what in ("matched", "counted", "too_late")]


def main() -> int:
    end_on_sigterm()
    arguments = parse_arguments()
    failed = 0
    for name in arguments.system or names():
        began = time.monotonic()
        try:
            report = run(name, arguments.events, arguments.seed, arguments.allowed_lateness)
            print("\n".join(lines(name, report)))
            print(f"    the referee agrees  {time.monotonic() - began:.1f} s", flush=True)
        except ChaosFailure as failure:
            failed += 1
            print(f"{name}: FAILED: {failure}", flush=True)
    count = len(arguments.system or names())
    print(f"{count - failed} passed, {failed} failed")
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.five")
    parser.add_argument("--events", type=int, default=EVENTS, metavar="N", help=f"at least {LEAST_EVENTS}")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument(
        "--system", action="append", choices=names(), help="only this one; may be given again"
    )
    parser.add_argument(
        "--allowed-lateness", metavar="D", help="instead of the file's, of every aggregate: 0s, 1h"
    )
    arguments = parser.parse_args()
    if arguments.events < LEAST_EVENTS:
        parser.error(f"--events below {LEAST_EVENTS} leaves outputs empty")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
