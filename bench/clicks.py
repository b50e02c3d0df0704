"""Ten million clicks through `pipelines/clickstream-10m.yaml`: what the whole of one of the shipped pipelines takes.

The system that it replaces claims 10,000 events/s, so 17 minutes for them.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from bench.corner import CHECKOUT, Corner
from bench.drain import Drained
from bench.pipeline import write
from bench.program import generate, measured, run_command
from bench.servers import Servers
from bench.truth import expect

FILE = CHECKOUT / "pipelines" / "clickstream-10m.yaml"
PARTITIONS = 3
CLAIMED_PER_SECOND = 10_000
# A day of event time, and in every 50 events one that was held back for longer than the watermark waits.
LOAD = ("--rate", "unlimited", "--span", "24h", "--late", "2%")


def clicks(events: int, workers: int) -> dict:
    servers = Servers.find()
    with Corner(PARTITIONS) as corner:
        pipeline = of_corner(corner)
        file = write(pipeline, corner)
        command = run_command(file, corner, workers, "--until-end", "--http", "off")
        measured(command, corner, servers)
        idle = measured(command, corner, servers)
        generate(corner, events, *LOAD, profile="clickstream-10m")
        cost = measured(command, corner, servers, shown=True)
        expect("processor", corner.counts(), {"read": events, "accepted": events, "duplicate": 0, "dead": 0})
        figures = Drained(events, cost.less(idle)).figures()
        tables = [aggregate["to"]["table"] for aggregate in pipeline["aggregates"].values()]
        return {
            **figures,
            "times_claimed": figures["events_per_second"] / CLAIMED_PER_SECOND,
            "workers": workers,
            "rows": {table: corner.rows(table) for table in tables},
            "state_mib": size_of(corner.folder / "state") >> 20,
            "database_mib": database_size(corner) >> 20,
        }


def of_corner(corner: Corner) -> dict:
    """The file with names of this corner, among them those of topics that the corner removes."""
    pipeline = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    pipeline["name"] = corner.name
    source = next(iter(pipeline["sources"].values()))
    source["topic"] = {"name": corner.topics["input"]}
    pipeline["bad_data"]["topic"] = corner.topics["output"]
    pipeline["late"]["topic"] = corner.topics["copied"]
    del pipeline["tests"]
    return pipeline


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def database_size(corner: Corner) -> int:
    return corner.select("select pg_database_size(current_database())")[0][0]
