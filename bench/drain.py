"""How fast and how dear a backlog is worked off, beside the plain loop on the same input.

The processor has so many workers, and the plain loop as many members of its group: one against several would flatter.

A program is run three times: before there is any event, to make what it needs; again with nothing to do; and with the
backlog. What the second run costs is taken off the third, so that starts and group protocol are not counted as events.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass

from bench.corner import Corner
from bench.log import count
from bench.pipeline import write
from bench.program import Cost, generate, measured, plain_command, run_command
from bench.recorded import Recorded
from bench.servers import Servers
from bench.truth import expect

MICROS = 1e6


@dataclass(frozen=True)
class Load:
    events: int
    partitions: int
    users: int | None = None
    seed: int = 1
    # Where the events come from, instead of the generator.
    recorded: Recorded | None = None

    def options(self) -> list[str]:
        users = ["--users", str(self.users)] if self.users else []
        return ["--seed", str(self.seed), *users]

    def fill(self, corner: Corner) -> float:
        """Fills the input; answers how fast, in events per second."""
        if self.recorded:
            return self.recorded.load(corner)
        return generate(corner, self.events, *self.options())["events_per_second"]


@dataclass(frozen=True)
class Drained:
    """What one program took for one backlog."""

    events: int
    cost: Cost

    def figures(self) -> dict[str, float | None]:
        """A load too small to be told from an idle run has no throughput."""
        each = MICROS / self.events
        return {
            "events": self.events,
            "seconds": self.cost.wall,
            "events_per_second": quotient(self.events, self.cost.wall),
            "processor_us": self.cost.processor * each,
            "broker_us": self.cost.broker * each,
            "postgres_us": self.cost.postgres * each,
            "peak_rss_mib": self.cost.memory / 1024,
        }


@dataclass(frozen=True)
class Round:
    """The processor, and the plain loop where it was asked for, on the same backlog."""

    processor: Drained
    plain: Drained | None
    rows: dict[str, int]
    # How fast the input was filled.
    filled_per_second: float

    def figures(self) -> dict:
        own = self.processor.figures()
        common = {"rows": self.rows, "filled_per_second": self.filled_per_second}
        if self.plain is None:
            return {"processor": own, **common}
        plain = self.plain.figures()
        ratios = {
            "throughput": quotient(own["events_per_second"], plain["events_per_second"]),
            "processor_cost": quotient(own["processor_us"], plain["processor_us"]),
        }
        return {"processor": own, "plain": plain, "ratio": ratios, **common}


def quotient(of: float | None, by: float | None) -> float | None:
    return of / by if of is not None and by is not None and by > 0 else None


def drain(
    pipeline: dict,
    load: Load,
    workers: int,
    with_plain: bool = True,
    count_outputs: bool = False,
) -> Round:
    servers = Servers.find()
    with Corner(load.partitions) as corner:
        file = write(pipeline, corner)
        own = run_command(file, corner, workers, "--until-end", "--http", "off")
        commands = [own, plain_command(corner, workers)] if with_plain else [own]
        idle = []
        for command in commands:
            measured(command, corner, servers)
            idle.append(measured(command, corner, servers))
        filled = load.fill(corner)
        # The processor first: whoever comes second finds all of the log in the page cache.
        costs = [measured(command, corner, servers) for command in commands]
        check(corner, load.events, costs[1].said if with_plain else None)
        if load.recorded:
            load.recorded.check(corner, pipeline)
        if count_outputs:
            for role in ("output", "copied"):
                expect(role, count(corner, role, load.events), load.events)
        drained = [Drained(load.events, cost.less(idle)) for cost, idle in zip(costs, idle, strict=True)]
        tables = [aggregate["to"]["table"] for aggregate in pipeline.get("aggregates", {}).values()]
        rows = {table: corner.rows(table) for table in tables}
        copied = drained[1] if with_plain else None
        return Round(drained[0], copied, rows, filled)


def check(corner: Corner, events: int, copied: str | None) -> None:
    """Without these there is no figure."""
    expect("processor", corner.counts(), {"read": events, "accepted": events, "duplicate": 0, "dead": 0})
    if copied is not None:
        expect("plain loop", copied, str(events))


def best(rounds: list[Round]) -> Round:
    """The one that took the least processor time: what others took more, the machine took."""
    return min(rounds, key=lambda each: each.processor.cost.processor)


def median_ratio(rounds: list[Round]) -> dict[str, float | None]:
    """Of all rounds, by throughput and by processor time: the round that `best` picks may have a lucky one."""
    found = [each.figures()["ratio"] for each in rounds]
    return {key: median([ratio[key] for ratio in found]) for key in found[0]}


def median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def as_json(load: Load, workers: int, rounds: list[Round]) -> dict:
    return {
        "load": asdict(load),
        "workers": workers,
        "plain_members": workers,
        "best": best(rounds).figures(),
        "median_ratio": median_ratio(rounds),
        "rounds": [each.figures() for each in rounds],
    }
