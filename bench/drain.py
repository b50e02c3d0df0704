"""How fast and how dear a backlog is worked off, beside the plain loop on the same input.

A program is run three times: before there is any event, to make what it needs; again with nothing to do; and with the
backlog. What the second run costs is taken off the third, so that starts and group protocol are not counted as events.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bench.corner import Corner
from bench.log import count
from bench.pipeline import write
from bench.program import Cost, generate, measured, plain, run_command
from bench.servers import Servers

MICROS = 1e6


@dataclass(frozen=True)
class Load:
    events: int
    partitions: int
    users: int | None = None
    seed: int = 1

    def options(self) -> list[str]:
        users = ["--users", str(self.users)] if self.users else []
        return ["--seed", str(self.seed), *users]


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

    def figures(self) -> dict:
        own = self.processor.figures()
        if self.plain is None:
            return {"processor": own, "rows": self.rows}
        plain = self.plain.figures()
        ratios = {
            "throughput": quotient(own["events_per_second"], plain["events_per_second"]),
            "processor_cost": quotient(own["processor_us"], plain["processor_us"]),
        }
        return {"processor": own, "plain": plain, "ratio": ratios, "rows": self.rows}


def quotient(of: float | None, by: float | None) -> float | None:
    return of / by if of is not None and by is not None and by > 0 else None


class Miscounted(Exception):
    pass


def drain(
    pipeline: dict,
    load: Load,
    workers: int | None = None,
    with_plain: bool = True,
    count_outputs: bool = False,
) -> Round:
    servers = Servers.find()
    with Corner(load.partitions) as corner:
        file = write(pipeline, corner)
        own = run_command(file, corner, workers, "--until-end", "--http", "off")
        copy = [plain(), corner.topics["input"], corner.topics["copied"], f"{corner.name}-plain", "bench"]
        commands = [own, copy] if with_plain else [own]
        idle = []
        for command in commands:
            measured(command, corner, servers)
            idle.append(measured(command, corner, servers))
        generate(corner, load.events, *load.options())
        # The processor first: whoever comes second finds all of the log in the page cache.
        costs = [measured(command, corner, servers) for command in commands]
        check(corner, load.events, costs[1].said if with_plain else None)
        if count_outputs:
            for role in ("output", "copied"):
                expect(role, count(corner, role, load.events), load.events)
        drained = [Drained(load.events, cost.less(idle)) for cost, idle in zip(costs, idle, strict=True)]
        tables = [aggregate["to"]["table"] for aggregate in pipeline.get("aggregates", {}).values()]
        rows = {table: corner.rows(table) for table in tables}
        return Round(drained[0], drained[1] if with_plain else None, rows)


def check(corner: Corner, events: int, copied: str | None) -> None:
    """Without these there is no figure."""
    expect("processor", corner.counts(), {"read": events, "accepted": events, "duplicate": 0, "dead": 0})
    if copied is not None:
        expect("plain loop", copied, str(events))


def expect(who: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Miscounted(f"{who}: {found} instead of {wanted}")


def best(rounds: list[Round]) -> Round:
    """The one that took the least processor time: what others took more, the machine took."""
    return min(rounds, key=lambda each: each.processor.cost.processor)


def as_json(load: Load, rounds: list[Round]) -> dict:
    figures = [each.figures() for each in rounds]
    return {"load": asdict(load), "best": best(rounds).figures(), "rounds": figures}
