"""Rules, and counts of what was seen and hit.

Owns: which message a rule meets. Never: touches a connection. Safe to use from any thread.
Tested: `tests/test_proxy.py`.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from .actions import Action, Hold, name_of


@dataclass(eq=False)
class Rule:
    """The `left`-th message of a kind from now on. `hit` when it came, `released` when a held one was let go,
    `answered` when its reply came or can come no more: then `answer` says what it was."""

    kind: str
    action: Action
    left: int
    hit: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    answer: str | None = None

    def release(self) -> None:
        self.released.set()

    def close_with(self, answer: str) -> None:
        if not self.answered.is_set():
            self.answer = answer
            self.answered.set()


class Book:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rules: list[Rule] = []
        self.holds: list[Rule] = []
        self.seen: Counter = Counter()
        self.hits: Counter = Counter()
        self.answers: Counter = Counter()

    def add(self, kind: str, action: Action, nth: int = 1) -> Rule:
        assert nth >= 1, nth
        rule = Rule(kind, action, nth)
        with self.lock:
            self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """A rule that has not been hit will not be any more."""
        with self.lock:
            if rule in self.rules:
                self.rules.remove(rule)

    def meet(self, kind: str) -> Rule | None:
        """Counts the message; the rule that it fulfils, if any. The first one wins; all that wait for the kind count."""
        with self.lock:
            self.seen[kind] += 1
            due = None
            for rule in self.rules:
                if rule.kind == kind and rule.left > 1:
                    rule.left -= 1
                elif rule.kind == kind and due is None:
                    due = rule
            if due is None:
                return None
            self.rules.remove(due)
            self.hits[f"{name_of(due.action)} {kind}"] += 1
            if isinstance(due.action, Hold):
                self.holds.append(due)
            due.hit.set()
            return due

    def held_until(self, kind: str) -> list[Rule]:
        """Held messages that this kind releases; each is given out once."""
        with self.lock:
            due = [rule for rule in self.holds if rule.action.until == kind and not rule.released.is_set()]
            for rule in due:
                rule.released.set()
            return due

    def note_answer(self, kind: str, answer: str) -> None:
        with self.lock:
            self.answers[f"{kind}: {answer}"] += 1
