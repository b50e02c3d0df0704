"""`./dev bench`: what workload W1 costs, beside a plain copy of the topic, on these servers.

Owns: arguments and what is printed. Figures also go to .dev/bench/ as JSON, sweeps as a plot.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from bench.corner import RESULTS
from bench.drain import Load, Miscounted, as_json, drain
from bench.hotspots import RECIPE, hotspots
from bench.live import Rate, live
from bench.pipeline import OUTPUTS, NotSupported, with_outputs
from bench.plot import plot
from bench.program import ProgramFailed
from bench.smoke import smoke
from bench.sweep import SWEEPS, results
from bench.table import table

EVENTS = 2_000_000
COLUMNS = {
    "events/s": "events_per_second",
    "CPU us/event": "processor_us",
    "broker": "broker_us",
    "PostgreSQL": "postgres_us",
    "peak MiB": "peak_rss_mib",
}
EPILOG = """examples:
  ./dev bench                                    2,000,000 events through outputs A, B and D, and a plain copy of them
  ./dev bench drain --outputs AD --rounds 3
  ./dev bench live --rate 5000 --seconds 60
  ./dev bench sweep keys partitions --points 1000,10000,100000
  ./dev bench hotspots --outputs AD

`CPU us/event` is the program's own; `broker` and `PostgreSQL` are the servers' time per event meanwhile. Measure on a
machine that does nothing else: what others do there counts as the servers' time, and takes from everybody's speed."""


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        return options.run(options)
    except NotSupported as refused:
        print(f"bench: this program does not take the pipeline:\n{refused}", file=sys.stderr)
    except (ProgramFailed, Miscounted, TimeoutError, LookupError) as failed:
        print(f"bench: {failed}", file=sys.stderr)
    return 1


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(run=run)
        return made

    backlog = command("drain", run_drain, "work off a backlog (the default)")
    pace = command("live", run_live, "latency from produce to readable, at a steady rate")
    sizes = command("sweep", run_sweep, "cost per event against size: " + ", ".join(SWEEPS))
    spots = command("hotspots", run_hotspots, "where the processor's time goes, by perf")
    command("smoke", run_smoke, "everything at a small size, looking at counts alone")
    for made in (backlog, sizes, spots):
        made.add_argument("--events", type=positive, default=EVENTS, metavar="N", help=f"({EVENTS:,})")
    for made in (backlog, pace, spots):
        letters = "; ".join(f"{letter}: {about}" for letter, about in OUTPUTS.items())
        made.add_argument("--outputs", type=outputs, default="ABD", metavar="LETTERS", help=letters)
        made.add_argument("--workers", type=positive, metavar="N")
        made.add_argument("--partitions", type=positive, default=3, metavar="N")
    for made in (backlog, sizes):
        made.add_argument(
            "--rounds", type=positive, default=1, metavar="N", help="show the cheapest of so many"
        )
    pace.add_argument("--rate", type=positive, default=5_000, metavar="N", help="events per second (5,000)")
    pace.add_argument("--seconds", type=positive, default=30, metavar="N")
    pace.add_argument("--warm-up", type=int, default=3, metavar="N", help="seconds that do not count (3)")
    sizes.add_argument(
        "sweeps", nargs="*", choices=[*SWEEPS, []], metavar="SWEEP", help="all of them if none is named"
    )
    sizes.add_argument("--points", type=numbers, metavar="N,N,...", help="other sizes than the usual")
    known = arguments and arguments[0] in [*commands.choices, "-h", "--help"]
    return parser.parse_args(arguments if known else ["drain", *arguments])


def positive(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def numbers(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def outputs(text: str) -> str:
    letters = text.upper()
    if not letters or set(letters) - set(OUTPUTS):
        raise argparse.ArgumentTypeError(f"must be letters of {', '.join(OUTPUTS)}")
    return letters


def run_drain(options: argparse.Namespace) -> int:
    load = Load(options.events, options.partitions)
    pipeline = with_outputs(options.outputs)
    print(
        f"W1: {load.events:,} events in {load.partitions} partitions, outputs {', '.join(options.outputs)}",
        flush=True,
    )
    rounds = []
    for _ in range(options.rounds):
        rounds.append(drain(pipeline, load, options.workers))
        if options.rounds > 1:
            print(f"  {rounds[-1].processor.cost.wall:.2f} s", flush=True)
    result = as_json(load, rounds) | {"outputs": options.outputs, "workers": options.workers}
    best = result["best"]
    rows = [[name, *(best[name][key] for key in COLUMNS.values())] for name in ("processor", "plain")]
    rows.append(["ratio", best["ratio"]["throughput"], best["ratio"]["processor_cost"], None, None, None])
    print(table(["", *COLUMNS], rows))
    print(", ".join(f"{rows:,} rows in {name}" for name, rows in best["rows"].items()))
    keep("drain", result)
    return 0


def run_live(options: argparse.Namespace) -> int:
    rate = Rate(options.rate, options.seconds, options.partitions, options.warm_up)
    result = live(with_outputs(options.outputs), rate, options.workers)
    print(
        f"{rate.events_per_second:,} events/s for {rate.seconds} s, {result['measured']:,} of them measured"
    )
    names = [*result["milliseconds"], "CPU us/event", "broker", "PostgreSQL"]
    costs = [result[key] for key in ("processor_us", "broker_us", "postgres_us")]
    print(
        table(
            [f"{name} ms" if name.startswith("p") else name for name in names],
            [[*result["milliseconds"].values(), *costs]],
        )
    )
    keep("live", result)
    return 0


def run_sweep(options: argparse.Namespace) -> int:
    for name in options.sweeps or SWEEPS:
        sweep = SWEEPS[name]
        print(f"{name}: {sweep.about}", flush=True)
        found = list(results(sweep, options.events, options.points or list(sweep.points), options.rounds))
        measured = [result for result in found if "skipped" not in result]
        columns = {sweep.axis: "size", "events": "events", "rows": "rows", **COLUMNS}
        print(table(list(columns), [[result[key] for key in columns.values()] for result in measured]))
        for result in found:
            if "skipped" in result:
                print(f"{result['size']:,} skipped: {result['skipped']}")
        path = keep(f"sweep-{name}", {"axis": sweep.axis, "results": found})
        if plot(f"{name}: {sweep.about}", sweep.axis, found, path.with_suffix(".svg")):
            print(f"plot in {path.with_suffix('.svg')}")
    return 0


def run_hotspots(options: argparse.Namespace) -> int:
    load = Load(options.events, options.partitions)
    found = hotspots(with_outputs(options.outputs), load, options.workers)
    if found is None:
        print(RECIPE)
        return 1
    for title, shares in found.items():
        print(table([title, "% of samples"], [[name, share] for name, share in shares.items()]), end="\n\n")
    keep("hotspots", found)
    return 0


def run_smoke(_: argparse.Namespace) -> int:
    for line in smoke():
        print(line, flush=True)
    return 0


def keep(name: str, result: dict) -> Path:
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
