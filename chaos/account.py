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

    def kill(self, phase: phases.Phase | None, moving: bool) -> None:
        """`moving`: partitions were on their way from one instance to another."""
        point = point_of(phase)
        self.points[point] += 1
        self.hits.update(phases.classes_of(point))
        if moving:
            self.hits[REBALANCE] += 1

    def freeze(self, phase: phases.Phase | None) -> None:
        self.frozen[point_of(phase)] += 1

    def note(self, plan: Plan, phase: phases.Phase | None, report: Report, seconds: float) -> None:
        """A round that passed."""
        self.passed += 1
        point = f"{phase.point}:{phase.arrival}" if phase else point_of(phase)
        text = f"{self.passed:>4}/{self.schedule.kills}  killed at {point:<32} {report.counts['read']:>8} read, agrees"
        print(f"{text}  {seconds:4.1f} s  ({plan})", flush=True)

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
            print(f"points not reached because partitions had moved away: {self.missed}")
        due = self.schedule.kills // 10
        thin = [f"only {self.hits[name]} of {due} {name}" for name in due_names if self.hits[name] < due]
        if self.missed > MOST_MISSED_SHARE * self.schedule.kills:
            thin.append(f"{self.missed} points not reached")
        return thin


def point_of(phase: phases.Phase | None) -> str:
    return phase.point if phase else "before any point"


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
