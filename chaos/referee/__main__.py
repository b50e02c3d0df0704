"""`python -m chaos.referee --pipeline FILE`: judge what a pipeline has written. Exit 0 green, 1 violations, 2 usage,
69 a server is unreachable."""

from __future__ import annotations

import argparse
import json
import os
import sys

import psycopg
import yaml
from confluent_kafka import KafkaException

from . import pipeline
from .inspection import LogTimeout, Report, judge_once

UNREACHABLE = 69


def main() -> int:
    arguments = parse_arguments()
    try:
        plan = pipeline.load(arguments.pipeline, dict(os.environ), arguments.application)
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        print(f"{arguments.pipeline}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    try:
        report = judge_once(plan, at_end=not arguments.while_running)
    except (psycopg.OperationalError, KafkaException, LogTimeout) as error:
        print(f"cannot judge: {type(error).__name__}: {error}", file=sys.stderr)
        return UNREACHABLE
    print(as_json(report) if arguments.output == "json" else as_text(report, arguments.differences))
    return 0 if report.green else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.referee")
    parser.add_argument("--pipeline", required=True, metavar="FILE")
    parser.add_argument("--application", metavar="NAME", help="instead of the file's name")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--at-end", action="store_true", help="all input must be done (the default)")
    when.add_argument("--while-running", action="store_true", help="what is done must be an exact prefix")
    parser.add_argument("--output", choices=("json", "text"), default="text")
    parser.add_argument("--differences", type=int, default=20, metavar="N", help="how many to print")
    return parser.parse_args()


def as_json(report: Report) -> str:
    return json.dumps(
        {
            "verdict": "green" if report.green else "violated",
            "words": report.words,
            "violations": [vars(one) for one in report.violations],
            "counts": report.counts,
            "rows": report.rows,
            "messages": report.messages,
        }
    )


def as_text(report: Report, differences: int) -> str:
    lines = [conservation(report.counts)]
    lines += [f"table {table}: {count} rows" for table, count in report.rows.items()]
    lines += [f"topic {topic}: {count} messages" for topic, count in report.messages.items()]
    lines += [str(violation) for violation in report.violations[:differences]]
    if len(report.violations) > differences:
        lines.append(f"... and {len(report.violations) - differences} more")
    moment = "at the end" if report.at_end else "an exact prefix"
    lines.append(f"referee: {moment}, all agree" if report.green else f"referee: {', '.join(report.words)}")
    return "\n".join(lines)


def conservation(counts: dict[str, int]) -> str:
    read, accepted, duplicate, dead = (counts[name] for name in ("read", "accepted", "duplicate", "dead"))
    return f"read {read} = accepted {accepted} + duplicate {duplicate} + dead {dead}"


if __name__ == "__main__":
    sys.exit(main())
