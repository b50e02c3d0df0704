"""What a run of kills hit, counted and printed.

Owns: the classes of kills, and how many of each a run must have. Never: makes a round fail.
Data: phases and reports in, lines and shortcomings out.
"""

from __future__ import annotations

from collections import Counter

from . import phases
from .arena import Arena
from .referee.__main__ import conservation
from .referee.inspection import Report
from .schedule import Plan, Schedule
from .servers import NAMES

REBALANCE = "rebalance"
TRANSACTION_REQUESTS = ("InitProducerId", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn")
MOST_MISSED_SHARE = 0.2


class Account:
    def __init__(self, schedule: Schedule, arena: Arena) -> None:
        self.schedule, self.arena = schedule, arena
        self.points: Counter = Counter()
        self.hits: Counter = Counter()
        self.servers: Counter = Counter()
        self.wire: Counter = Counter()
        self.frozen: Counter = Counter()
        self.missed = 0
        self.passed = 0

    def kill(self, where: list[phases.Phase], moving: bool) -> None:
        """`moving`: partitions were on their way from one instance to another."""
        points = points_of(where)
        self.points.update(points)
        self.hits.update(phases.classes_of(points))
        if moving:
            self.hits[REBALANCE] += 1

    def freeze(self, where: list[phases.Phase]) -> None:
        self.frozen.update(points_of(where))

    def note(
        self, plan: Plan, where: list[phases.Phase], report: Report, seconds: float, judging: float
    ) -> None:
        """A round that passed. `judging` is the part of its `seconds` in which the referee read and judged."""
        self.passed += 1
        place = phases.listed(where)
        text = f"{self.passed:>4}/{self.schedule.kills}  killed at {place:<32} {report.counts['read']:>8} read, agrees"
        print(f"{text}  {seconds:5.1f} s, {judging:5.1f} of it judging  ({plan})", flush=True)

    def show_end(self, report: Report) -> None:
        print(conservation(report.counts))
        for name, counts in (("rows", report.rows), ("messages", report.messages)):
            print(f"{name}: " + listed({what.split(".", 1)[-1]: count for what, count in counts.items()}))
        print("referee: everything agrees at the end")

    def show_hits(self) -> list[str]:
        """Prints what was hit; returns the classes that were not hit often enough."""
        due_names = [*phases.CLASSES, *([REBALANCE] if self.schedule.means.instances > 1 else [])]
        print("kills: " + ", ".join(f"{self.hits[name]} {name}" for name in [*due_names, phases.ELSEWHERE]))
        print("points: " + listed(dict(sorted(self.points.items()))))
        print("servers killed: " + listed({name: self.servers[name] for name in NAMES}))
        if self.schedule.means.wire:
            print("faults on the wire: " + listed(self.wire))
            for name, proxy in self.arena.proxies.items():
                print(f"answers of {name} that were not ok: " + listed(troubled(proxy.book.answers)))
        if self.schedule.means.freeze:
            print("frozen at: " + listed(self.frozen))
        if self.missed:
            print(f"points not reached, or passed before anybody looked: {self.missed}")
        due = self.schedule.kills // 10
        thin = [f"only {self.hits[name]} of {due} {name}" for name in due_names if self.hits[name] < due]
        if self.missed > MOST_MISSED_SHARE * self.schedule.kills:
            thin.append(f"{self.missed} points not reached")
        return thin


def points_of(where: list[phases.Phase]) -> list[str]:
    return [phase.point for phase in where] or [phases.listed(where)]


def troubled(answers: dict[str, int]) -> dict[str, int]:
    """Errors: of Kafka by name, of PostgreSQL by SQLSTATE."""
    kept = {}
    for text, count in answers.items():
        kind, _, answer = text.partition(" reply: ")
        if kind == "error" or (kind in TRANSACTION_REQUESTS and answer != "ok"):
            kept[f"{kind}: {answer}"] = count
    return kept


def listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
