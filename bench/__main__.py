"""`./dev bench`: what workload W1 costs, beside a plain copy of the topic, on these servers.

Owns: arguments and what is printed. Figures also go to .dev/bench/ as JSON, sweeps as a plot.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from bench.clicks import CLAIMED_PER_SECOND, clicks
from bench.corner import RESULTS
from bench.drain import Load, as_json, drain
from bench.generator import speeds
from bench.hotspots import RECIPE, hotspots
from bench.live import Rate, live
from bench.pipeline import OUTPUTS, NotSupported, remembering, through_hop, with_outputs
from bench.plot import plot
from bench.program import ProgramFailed, one_per_core
from bench.recorded import Recorded
from bench.smoke import smoke
from bench.sweep import SWEEPS, beside_plain, results
from bench.table import shown, table
from bench.truth import Miscounted, NotW1

EVENTS = 2_000_000
CLICKS = 10_000_000
COLUMNS = {
    "events/s": "events_per_second",
    "CPU us/event": "processor_us",
    "broker": "broker_us",
    "PostgreSQL": "postgres_us",
    "peak MiB": "peak_rss_mib",
}
BESIDE_PLAIN = ["plain events/s", "plain CPU us", "throughput ratio", "cost ratio"]
EPILOG = """examples:
  ./dev bench                                    2,000,000 events through outputs A, B and D, and a plain copy of them
  ./dev bench drain --outputs AD --rounds 3
  ./dev bench drain --outputs ABCD --reference   the events that other processors' figures in docs/bench.md are of
  ./dev bench live --rate 5000 --seconds 60
  ./dev bench sweep keys partitions --points 1000,10000,100000
  ./dev bench hotspots --outputs AD
  ./dev bench clicks
  ./dev bench generate --events 5000000

`CPU us/event` is the program's own; `broker` and `PostgreSQL` are the servers' time per event meanwhile. Measure on a
machine that does nothing else: what others do there counts as the servers' time, and takes from everybody's speed."""


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        return options.run(options)
    except NotSupported as refused:
        print(f"bench: this program does not take the pipeline:\n{refused}", file=sys.stderr)
    except (ProgramFailed, Miscounted, NotW1, OSError, LookupError) as failed:
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
    many = command("clicks", run_clicks, "all of pipelines/clickstream-10m.yaml over ten million clicks")
    making = command("generate", run_generate, "how fast `millstream generate` makes events of each profile")
    command("smoke", run_smoke, "everything at a small size, looking at counts alone")
    for made in (backlog, sizes, spots, making):
        made.add_argument("--events", type=positive, default=EVENTS, metavar="N", help=f"({EVENTS:,})")
    many.add_argument("--events", type=positive, default=CLICKS, metavar="N", help=f"({CLICKS:,})")
    many.add_argument("--workers", type=positive, default=one_per_core(), metavar="N", help="(one per core)")
    for made in (backlog, pace, spots):
        letters = "; ".join(f"{letter}: {about}" for letter, about in OUTPUTS.items())
        made.add_argument("--outputs", type=outputs, default="ABD", metavar="LETTERS", help=letters)
        made.add_argument(
            "--workers",
            type=positive,
            default=one_per_core(),
            metavar="N",
            help="and as many members of the plain loop's group (one per core, as `run` has)",
        )
        made.add_argument("--partitions", type=positive, default=3, metavar="N")
    for made in (backlog, sizes):
        made.add_argument(
            "--rounds",
            type=positive,
            default=1,
            metavar="N",
            help="show the cheapest of so many, and the median of their ratios",
        )
    backlog.add_argument("--dedup", action="store_true", help="and remember every id for an hour")
    backlog.add_argument("--hop", action="store_true", help="and copy events through an internal topic first")
    events = backlog.add_mutually_exclusive_group()
    events.add_argument("--reference", action="store_true", help="the events that others were measured with")
    events.add_argument("--events-from", metavar="FILE", help="all events of a file, one JSON object a line")
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


def load_of(options: argparse.Namespace) -> Load:
    if not options.reference and not options.events_from:
        return Load(options.events, options.partitions)
    print("counting what must come out", flush=True)
    if options.reference:
        recorded = Recorded.reference(options.events)
    else:
        recorded = Recorded.read(options.events_from)
    return Load(recorded.truth.records.count, options.partitions, recorded=recorded)


def run_drain(options: argparse.Namespace) -> int:
    load = load_of(options)
    pipeline, added = with_outputs(options.outputs), ""
    if options.dedup:
        pipeline, added = remembering(pipeline), ", ids remembered"
    if options.hop:
        pipeline, added = through_hop(pipeline), f"{added}, through a hop"
    print(
        f"W1: {load.events:,} events in {load.partitions} partitions, outputs {', '.join(options.outputs)}{added}, "
        f"{share_of(options.workers)}",
        flush=True,
    )
    rounds = []
    for _ in range(options.rounds):
        rounds.append(drain(pipeline, load, options.workers))
        if options.rounds > 1:
            figures = rounds[-1].figures()
            ratio = shown(figures["ratio"]["throughput"])
            print(f"  {figures['processor']['seconds']:.2f} s, throughput ratio {ratio}", flush=True)
    result = as_json(load, options.workers, rounds) | {
        "outputs": options.outputs,
        "dedup": options.dedup,
        "hop": options.hop,
    }
    best, ratio = result["best"], result["median_ratio"]
    rows = [[name, *(best[name][key] for key in COLUMNS.values())] for name in ("processor", "plain")]
    title = "ratio" if options.rounds == 1 else "median ratio"
    rows.append([title, ratio["throughput"], ratio["processor_cost"], None, None, None])
    print(table(["", *COLUMNS], rows))
    print(", ".join(f"{rows:,} rows in {name}" for name, rows in best["rows"].items()))
    print(f"the topic was filled at {best['filled_per_second']:,.0f} events/s")
    if load.recorded:
        print(f"rows and records are those of {load.recorded.path}")
    keep("drain", result)
    return 0


def share_of(workers: int) -> str:
    return "1 worker and 1 plain loop" if workers == 1 else f"{workers} workers and {workers} plain loops"


def run_live(options: argparse.Namespace) -> int:
    rate = Rate(options.rate, options.seconds, options.partitions, options.warm_up)
    result = live(with_outputs(options.outputs), rate, options.workers)
    print(
        f"{rate.events_per_second:,} events/s for {rate.seconds} s, {result['measured']:,} of them measured, "
        f"workers: {result['workers']}"
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
        columns = {sweep.axis: "size", "workers": "workers", "events": "events", "rows": "rows", **COLUMNS}
        rows = [[*(result[key] for key in columns.values()), *beside_plain(result)] for result in measured]
        print(table([*columns, *BESIDE_PLAIN], rows))
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
    print(f"workers: {options.workers}")
    for title, shares in found.items():
        print(table([title, "% of samples"], [[name, share] for name, share in shares.items()]), end="\n\n")
    keep("hotspots", found | {"workers": options.workers})
    return 0


def run_clicks(options: argparse.Namespace) -> int:
    result = clicks(options.events, options.workers)
    print(f"{options.events:,} clicks in {result['seconds']:.1f} s, workers: {options.workers}")
    columns = {**COLUMNS, "state MiB": "state_mib", "database MiB": "database_mib"}
    print(table(list(columns), [[result[key] for key in columns.values()]]))
    print(", ".join(f"{rows:,} rows in {name}" for name, rows in result["rows"].items()))
    print(
        f"{result['times_claimed']:.1f} times the {CLAIMED_PER_SECOND:,} events/s that the replaced system claims"
    )
    keep("clicks", result)
    return 0


def run_generate(options: argparse.Namespace) -> int:
    found = speeds(options.events)
    columns = {"profile": "profile", "lines/s": "lines", "into a topic/s": "topic"}
    print(table(list(columns), [[result[key] for key in columns.values()] for result in found]))
    keep("generate", {"events": options.events, "results": found})
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
