"""Which kills a run makes, and in what order: half at random instants, half aimed at a point.

Owns: what must precede an aimed kill so that its point is reached, and what else befalls a run: servers killed, messages lost,
owners frozen, instances that come and go. Never: runs anything.
Data: number of kills and seed -> `Plan`s, the same every time. Tested: `tests/test_schedule.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from . import phases
from .processor import Aim
from .wire_faults import FAULTS, WireFault

EARLY, LATE = "after its start", "after it progressed"
BACKENDS = "database sessions cut"
FREEZE = "frozen past every time-out"
NEWCOMER = "a new instance joins"
ABSENCE = "an instance stays away"
DEPARTURE = "an instance is drained"
REBALANCES = (NEWCOMER, ABSENCE, DEPARTURE)
LONGEST_EARLY_SECONDS = 1.5
LONGEST_LATE_SECONDS = 0.6
KAFKA_KILL_SHARE, POSTGRES_KILL_SHARE = 0.02, 0.03
WIRE_SHARE, FREEZE_SHARE, REBALANCE_SHARE = 0.1, 0.02, 0.15
LEAST_FOR_ALL_BOOTSTRAP = 50


@dataclass(frozen=True)
class Plan:
    """`aim` or else a random instant; `trouble` comes first: a server's name, or a constant from above. `victim` is the
    instance that dies; `wire` is met at its `turn`-th message."""

    aim: Aim | None = None
    when: str = EARLY
    delay: float = 0.0
    victim: int = 0
    wire: WireFault | None = None
    turn: int = 1
    trouble: str | None = None
    together: bool = False
    judge_before: bool = False

    def __str__(self) -> str:
        what = (
            f"aimed at {self.aim.point}:{self.aim.arrival}" if self.aim else f"{self.delay:.2f} s {self.when}"
        )
        wire = f"{self.wire} {self.turn}" if self.wire else None
        return ", ".join(part for part in (what, self.trouble, wire) if part)


@dataclass(frozen=True)
class Means:
    """What a run may do beside killing: `servers` are killed too, `wire` faults happen, with so many `instances`."""

    servers: bool = True
    wire: bool = False
    freeze: bool = False
    instances: int = 1


class Schedule:
    def __init__(self, kills: int, seed: int, means: Means = Means()) -> None:
        self.random = random.Random(seed)
        self.kills, self.means = kills, means
        aimed = self.aimed(kills // 2)
        chance = [[self.instant()] for _ in range(kills - sum(map(len, aimed)))]
        first = aimed[: self.bootstraps()]
        rest = aimed[self.bootstraps() :] + chance
        self.random.shuffle(rest)
        self.plans = [
            replace(plan, victim=victim)
            for unit in first + rest
            for victim in [self.victim(unit)]
            for plan in unit
        ]
        if means.servers:
            self.trouble_servers()
        if means.wire:
            self.trouble_wire()
        if means.freeze:
            self.trouble_plain(FREEZE, FREEZE_SHARE)
        if means.instances > 1:
            for kind in REBALANCES:
                self.trouble_plain(kind, REBALANCE_SHARE / len(REBALANCES))

    def victim(self, unit: list[Plan]) -> int:
        """One for the whole unit: what its kills prepare lies with one instance. The first one is made alone."""
        bootstraps = any(plan.aim and plan.aim.point in phases.BOOTSTRAP for plan in unit)
        return 0 if bootstraps or self.means.instances == 1 else self.random.randrange(self.means.instances)

    def bootstraps(self) -> int:
        return len(phases.BOOTSTRAP) if self.kills >= LEAST_FOR_ALL_BOOTSTRAP else 1

    def aimed(self, count: int) -> list[list[Plan]]:
        """Units of plans that must follow each other; together exactly `count` kills."""
        units = [[self.at(point, 1)] for point in phases.BOOTSTRAP[: self.bootstraps()]]
        makers = [
            self.postgres, self.kafka, self.outputs_only, self.postgres, self.recovery,
            self.take, self.postgres, self.kafka, self.replay,
        ]  # fmt: skip
        turn = 0
        while (left := count - sum(map(len, units))) > 0:
            unit = makers[turn % len(makers)]()
            turn += 1
            units.append(unit if len(unit) <= left else self.kafka())
        return units

    # -- units -------------------------------------------------------------------------------------------------------

    def at(self, point: str, arrival: int | None = None) -> Plan:
        return Plan(aim=Aim(point, arrival or self.random.randint(2, 6)))

    def any_of(self, points: tuple[str, ...], arrival: int | None = None) -> Plan:
        return self.at(self.random.choice(points), arrival)

    def postgres(self) -> list[Plan]:
        return [self.any_of(phases.POSTGRES_OPEN)]

    def kafka(self) -> list[Plan]:
        return [self.any_of((*phases.KAFKA_OPEN, *phases.DECIDED))]

    def take(self) -> list[Plan]:
        return [self.any_of(phases.TAKE, 1)]

    def outputs_only(self) -> list[Plan]:
        """PostgreSQL decided, Kafka has not: only then is there an outputs-only epoch."""
        return [self.any_of(phases.DECIDED), self.any_of(phases.OUTPUTS_ONLY, 1)]

    def replay(self) -> list[Plan]:
        """Both committed, the state not written: only then is there a muted replay."""
        return [self.any_of(("kafka-committed", "state-writing")), self.any_of(phases.REPLAY, 1)]

    def recovery(self) -> list[Plan]:
        """An epoch fails while the process lives: its database sessions are cut."""
        return [replace(self.any_of(phases.RECOVERY, 1), trouble=BACKENDS)]

    def instant(self) -> Plan:
        if self.random.random() < 0.5:
            return Plan(when=EARLY, delay=self.random.uniform(0.0, LONGEST_EARLY_SECONDS))
        delay = self.random.uniform(0.0, LONGEST_LATE_SECONDS)
        return Plan(when=LATE, delay=delay, judge_before=self.random.random() < 0.4)

    def trouble_servers(self) -> None:
        """Some of the kills at random instants come with the kill of a server, half of them at the same moment."""
        shares = {"kafka": KAFKA_KILL_SHARE, "postgres": POSTGRES_KILL_SHARE}
        wanted = [name for name, share in shares.items() for _ in range(self.number(share))]
        for name, index in zip(wanted, self.free(len(wanted)), strict=False):
            together = self.random.random() < 0.5
            self.plans[index] = replace(
                self.plans[index], when=LATE, trouble=name, together=together, judge_before=False
            )

    def trouble_wire(self) -> None:
        """Every fault in turn, from a random one on."""
        first = self.random.randrange(len(FAULTS))
        for number, index in enumerate(self.free(self.number(WIRE_SHARE))):
            wire = FAULTS[(first + number) % len(FAULTS)]
            turn = self.random.randint(1, wire.most)
            self.plans[index] = replace(self.plans[index], when=LATE, wire=wire, turn=turn)

    def trouble_plain(self, kind: str, share: float) -> None:
        for index in self.free(self.number(share)):
            self.plans[index] = replace(self.plans[index], when=LATE, trouble=kind)

    def number(self, share: float) -> int:
        return max(1, round(self.kills * share))

    def free(self, count: int) -> list[int]:
        """Plans of kills at random instants that nothing else befalls yet."""
        free = [
            index
            for index, plan in enumerate(self.plans)
            if plan.aim is None and plan.trouble is None and plan.wire is None
        ]
        return self.random.sample(free, min(count, len(free)))
