"""A sweep as a picture: cost per event, and throughput, against size."""

from __future__ import annotations

import math
from pathlib import Path

COSTS = {"processor_us": "processor", "broker_us": "broker", "postgres_us": "PostgreSQL"}


def plot(title: str, axis: str, results: list[dict], path: Path) -> bool:
    """False where there is nothing to draw, or nothing to draw with."""
    points = [result for result in results if "skipped" not in result]
    if not points:
        return False
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    # The same figures make the same file.
    matplotlib.rcParams["svg.hashsalt"] = "millstream"
    from matplotlib import pyplot

    sizes = [point["size"] for point in points]
    figure, (cost, rate) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, label in COSTS.items():
        cost.plot(sizes, [point[name] for point in points], marker="o", label=label)
    cost.set(xlabel=axis, ylabel="CPU µs per event", xscale="log", ylim=(0, None))
    cost.legend()
    rates = [(point["events_per_second"] or math.nan) / 1_000 for point in points]
    rate.plot(sizes, rates, marker="o", color="black")
    rate.set(xlabel=axis, ylabel="thousand events per second", xscale="log", ylim=(0, None))
    for side in (cost, rate):
        side.set_xticks(sizes, [f"{size:,}" for size in sizes])
        side.minorticks_off()
        side.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True
