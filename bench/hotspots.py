"""Where the processor's time goes: samples of `perf`, summed by what the code is for.

Without `perf` (Debian: linux-perf) nothing is measured, and `RECIPE` says how to look by other means.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from bench.corner import Corner
from bench.drain import Load
from bench.pipeline import write
from bench.program import ProgramFailed, generate, measured, run_command
from bench.servers import Servers

RECIPE = """perf is not here, or may not be used (kernel.perf_event_paranoid). By other means, while the processor works:
  cargo install samply; samply record -p PID           a flame graph in the browser, also without root
  grep -H . /proc/PID/task/*/{comm,schedstat}          processor time of each thread: worker-0 is ours, rdk:* Kafka's"""

# The first that fits has it. What the optimiser inlined counts for the function it went into.
PARTS = [
    ("decode JSON", r"millstream_core::codec::(?!splice|state)|simdutf8|memchr"),
    ("splice", r"millstream_core::codec::splice"),
    ("verdict and expressions", r"millstream_core::(verdict|expr)"),
    ("windows and aggregates", r"millstream_core::(window|aggregate|engine)|datasketches|hashbrown|xxh"),
    ("times as text", r"chrono"),
    ("state", r"rocksdb|millstream::state|millstream_core::codec::state"),
    ("PostgreSQL", r"postgres|rustls|tokio|mio::"),
    ("compression", r"LZ4|lz4|ZSTD|crc32|XXH"),
    ("Kafka client", r"rd_|rdk|rdkafka|millstream::kafka"),
    ("worker", r"millstream::"),
    ("memory", r"malloc|free|realloc|calloc|memcpy|memmove|memset|memcmp|__mem|_int_"),
]
OTHER, KERNEL = "other", "kernel"
LINE = re.compile(r"\s*([\d.]+)%\s*;([^;]*);([^;]*);\[(.)\] (.*)")


def hotspots(pipeline: dict, load: Load, workers: int) -> dict | None:
    """Shares of the samples in per cent, by part, by thread and by function. None without `perf`."""
    if not shutil.which("perf"):
        return None
    servers = Servers.find()
    with Corner(load.partitions) as corner:
        file = write(pipeline, corner)
        command = run_command(file, corner, workers, "--until-end", "--http", "off")
        measured(command, corner, servers)
        generate(corner, load.events, *load.options())
        samples = corner.folder / "perf.data"
        record = [
            "perf",
            "record",
            "--quiet",
            "-e",
            "cpu-clock",
            "-F",
            "999",
            "-o",
            str(samples),
            "--",
            *command,
        ]
        try:
            measured(record, corner, servers)
        except ProgramFailed:
            if not samples.exists():
                return None
            raise
        found = summed(report(samples))
        if not found["parts"]:
            raise ProgramFailed("perf took no samples that could be read")
        return found


def report(samples: Path) -> str:
    done = subprocess.run(
        [
            "perf",
            "report",
            "-i",
            str(samples),
            "--no-children",
            "--stdio",
            "-t",
            ";",
            "--sort",
            "comm,dso,sym",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def summed(report: str) -> dict:
    parts: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in report.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        share, thread, _, level, function = found.groups()
        parts[KERNEL if level == "k" else part_of(function)] += float(share)
        threads[thread.strip()] += float(share)
        functions[function.strip()] += float(share)
    most = dict(functions.most_common(25))
    return {"parts": dict(parts.most_common()), "threads": dict(threads.most_common(12)), "functions": most}


def part_of(function: str) -> str:
    return next((name for name, pattern in PARTS if re.search(pattern, function)), OTHER)
