"""Expected state against one snapshot: progress counts, result rows, dead-letter rows.

Owns: which word names a difference. Never: judges a record. Order: the partitions were judged exactly to the snapshot's
offsets before any function here is called.
Data: `PartitionState`, `AggregateJudge` and `Snapshot` in, violations out. Tested: `tests/test_referee.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from . import instant
from .accumulator import Column
from .aggregate import AggregateJudge, SessionAggregate
from .judge import DeadLetter, PartitionState
from .snapshot import DeadLetterRow, Place, Progress, Snapshot
from .violation import Violation, shorten

COUNTS = ("read", "accepted", "duplicate", "dead")
AGGREGATE_COUNTS = ("matched", "counted", "too_late", "partly_late")


def progress_counts(state: PartitionState, found: Progress, delay: int) -> Iterator[Violation]:
    """Every count of a progress row against the recomputed one, and the conservation equations of the row itself."""
    where = f"progress of {state.topic}/{state.partition} at {found.next}"
    if found.read != found.accepted + found.duplicate + found.dead:
        detail = f"read {found.read} <> accepted {found.accepted} + duplicate {found.duplicate} + dead {found.dead}"
        yield Violation("torn", where, detail)
    for name in COUNTS:
        yield from count_difference(where, name, getattr(state, name), getattr(found, name))
    for name in sorted(state.dead_by_reason.keys() | found.dead_by_reason.keys()):
        due, there = state.dead_by_reason[name], found.dead_by_reason.get(name, 0)
        yield from count_difference(where, f"dead by reason {name}", due, there)
    yield from expression_counts(where, state, found)
    due_watermark = None if state.max_event_time is None else state.max_event_time - delay
    for name, due, there in (
        ("max_event_time", state.max_event_time, found.max_event_time),
        ("watermark", due_watermark, found.watermark),
    ):
        if due != there:
            yield Violation("stale", where, f"{name} is {there}, due {due} (microseconds)")


def expression_counts(where: str, state: PartitionState, found: Progress) -> Iterator[Violation]:
    """Of checks and aggregates."""
    for name, due in state.failed_checks.items():
        yield from count_difference(where, f"failed check {name}", due, found.checks.get(name, 0))
    for aggregate, due in state.aggregates.items():
        there = found.aggregates.get(aggregate, {})
        if there and there.get("matched", 0) != there.get("counted", 0) + there.get("too_late", 0):
            yield Violation("torn", where, f"{aggregate}: matched <> counted + too_late: {there}")
        for name in AGGREGATE_COUNTS:
            yield from count_difference(where, f"{aggregate} {name}", due[name], there.get(name, 0))


def hop_counts(state: PartitionState, found: Progress, internal: bool, delay: int) -> Iterator[Violation]:
    """A progress row of a repartitioned source, or of its internal topic. Dead is decided at the source, accepted and duplicate
    behind the hop; a record is read once over both, so a row of either kind may count what it read, or what it decided."""
    where = f"progress of {state.topic}/{state.partition} at {found.next}"
    for name in ("accepted", "duplicate", "dead"):
        yield from count_difference(where, name, getattr(state, name), getattr(found, name))
    for name in sorted(state.dead_by_reason.keys() | found.dead_by_reason.keys()):
        due, there = state.dead_by_reason[name], found.dead_by_reason.get(name, 0)
        yield from count_difference(where, f"dead by reason {name}", due, there)
    decided = state.accepted + state.duplicate + state.dead
    allowed = {0, decided} if internal else {decided, state.read}
    if found.read not in allowed:
        yield Violation("torn", where, f"read is {found.read}, due {' or '.join(map(str, sorted(allowed)))}")
    if internal:
        yield from expression_counts(where, state, found)
    elif state.max_event_time != found.max_event_time:
        yield Violation(
            "stale", where, f"max_event_time is {found.max_event_time}, due {state.max_event_time}"
        )


def conserved(rows: list[Progress], topic: str) -> Iterator[Violation]:
    """Over a repartitioned source and its internal topic, once all is done."""
    sums = {name: sum(getattr(found, name) for found in rows) for name in COUNTS}
    if sums["read"] != sums["accepted"] + sums["duplicate"] + sums["dead"]:
        yield Violation(
            "torn",
            f"progress of {topic} and its internal topic",
            f"read <> accepted + duplicate + dead: {sums}",
        )


def count_difference(where: str, name: str, due: int, there: int) -> Iterator[Violation]:
    if due != there:
        yield Violation("lost" if there < due else "duplicated", where, f"{name} is {there}, due {due}")


def result_rows(aggregate: AggregateJudge, snapshot: Snapshot) -> Iterator[Violation]:
    """A result table against the recomputed rows: exact, doubles within their tolerance."""
    found, due = snapshot.tables.get(aggregate.name, {}), aggregate.rows
    table = aggregate.definition.table
    for key in snapshot.repeated_rows.get(aggregate.name, []):
        yield Violation("duplicated", f"table {table}", f"more than one row of key {row_key(key)}")
    for key, states in due.items():
        where, row = f"table {table} row {row_key(key)}", found.get(key)
        if row is None:
            yield Violation("lost", where, "no such row")
        else:
            yield from row_differences(where, aggregate, key, states, row)
    unexplained = [key for key in found if key not in due]
    spans = session_spans(aggregate) if unexplained and isinstance(aggregate, SessionAggregate) else {}
    for key in unexplained:
        detail = f"no record explains it: {shorten(found[key])}"
        word = "phantom"
        for start, end in spans.get(key[1:], ()):
            if start <= key[0] <= end:
                word, detail = (
                    "torn",
                    f"it is a part of the session from {instant.to_text(start)}, which replaces it",
                )
        yield Violation(word, f"table {table} row {row_key(key)}", detail)


def session_spans(aggregate: SessionAggregate) -> dict[tuple, list[tuple[int, int]]]:
    """First and last event time of every session, by key."""
    spans: dict[tuple, list[tuple[int, int]]] = {}
    for key in aggregate.rows:
        spans.setdefault(key[1:], []).append((key[0], aggregate.ends(key)[0]))
    return spans


def row_differences(
    where: str, aggregate: AggregateJudge, key: tuple, states: list, row: tuple
) -> Iterator[Violation]:
    """`row` holds the values of the end columns, then those of the selected ones."""
    due = aggregate.ends(key)
    for name, wanted, there in zip(aggregate.end_columns, due, row, strict=False):
        if type(there) is not int or there != wanted:
            behind = isinstance(aggregate, SessionAggregate) and type(there) is int and there < wanted
            yield Violation("stale" if behind else "phantom", where, f"{name} is {there}, due {wanted}")
    yield from cell_differences(where, aggregate.columns, states, row[len(due) :])


def latest_rows(aggregate: AggregateJudge, snapshot: Snapshot) -> Iterator[Violation]:
    """The view of newest rows: one a key, that of the latest start."""
    view, due = aggregate.definition.latest_view, aggregate.latest()
    found = snapshot.latest.get(aggregate.name, {})
    for by in snapshot.repeated_latest.get(aggregate.name, []):
        yield Violation("duplicated", f"view {view}", f"more than one row of {shorten(by)}")
    for by, key in due.items():
        where, row = f"view {view} row {shorten(by)}", found.get(by)
        if row is None:
            yield Violation("lost", where, "no such row")
        elif row[0] != key[0]:
            yield Violation(
                "stale", where, f"{aggregate.time_column} is {row[0]}, due {key[0]} (microseconds)"
            )
        else:
            yield from row_differences(where, aggregate, key, aggregate.rows[key], row[1:])
    for by in found.keys() - due.keys():
        yield Violation("phantom", f"view {view} row {shorten(by)}", "no record explains it")


def cell_differences(where: str, columns: list[Column], states: list, cells: tuple) -> Iterator[Violation]:
    for column, state, there in zip(columns, states, cells, strict=True):
        if not column.agrees(state, there):
            due = column.finish(state)
            yield Violation(word_for(column, due, there), where, f"{column.name} is {there}, due {due}")


def word_for(column: Column, due: object, there: object) -> str:
    if not column.additive:
        return "stale"
    if there is None or due is None:
        return "lost" if there is None else "phantom"
    grown = abs(there) > abs(due) if (there < 0) == (due < 0) else there > due
    return "duplicated" if grown else "lost"


def row_key(key: tuple) -> str:
    return shorten((instant.to_text(key[0]), *key[1:]))


def dead_letter_rows(state: PartitionState, snapshot: Snapshot) -> Iterator[Violation]:
    """Rows of one partition: each dead offset below `next` exactly once, nothing at or beyond it."""
    place: Place = (state.topic, state.partition)
    first = snapshot.dead_letters_from.get(place, 0)
    found = snapshot.dead_letters.get(place, {})
    due = {offset: letter for offset, letter in state.dead_letters.items() if offset >= first}
    where = f"dead letters of {state.topic}/{state.partition}"
    for offset in sorted(due.keys() - found.keys()):
        yield Violation("lost", where, f"offset {offset} ({due[offset].reason})")
    for offset in sorted(found.keys() - due.keys()):
        beyond = offset >= state.next
        detail = (
            f"offset {offset} is beyond the progress row's next {state.next}"
            if beyond
            else f"offset {offset}"
        )
        yield Violation("torn" if beyond else "phantom", where, detail)
    for offset in due.keys() & found.keys():
        for part, wanted, there in letter_differences(due[offset], found[offset]):
            detail = f"offset {offset}: {part} is {shorten(there)}, due {shorten(wanted)}"
            yield Violation("phantom", where, detail)
    total = snapshot.dead_letter_counts.get(place, 0)
    before = len(state.dead_letters) - len(due)
    if total - len(found) != before:
        word = "lost" if total - len(found) < before else "phantom"
        yield Violation(word, where, f"{total - len(found)} rows below offset {first}, due {before}")


def letter_differences(due: DeadLetter, found: DeadLetterRow) -> Iterator[tuple[str, object, object]]:
    record = due.record
    if found.reason != due.reason:
        yield "reason", due.reason, found.reason
    if found.key != record.key:
        yield "key", record.key, found.key
    if found.value != due.kept_value:
        yield "value", due.kept_value, found.value
    length = None if record.value is None else len(record.value)
    if found.value_bytes != length and (found.value_bytes is not None or due.reason == "TOO_LARGE"):
        yield "value_bytes", length, found.value_bytes
    if found.record_timestamp is not None and record.timestamp is not None:
        if found.record_timestamp != record.timestamp * 1_000:
            yield "record_timestamp", record.timestamp * 1_000, found.record_timestamp
    if not same_headers(record.headers, found.headers):
        yield "headers", record.headers, found.headers


def same_headers(due: tuple[tuple[str, bytes | None], ...], found: object) -> bool:
    """The table keeps headers as JSON: a list of pairs or of objects, or one object; values as text, or encoded bytes."""
    if not due:
        return found in (None, [], {})
    if isinstance(found, dict):
        pairs = list(found.items())
        due = tuple(dict(due).items())
        return len(pairs) == len(due) and all(same_value(value, dict(due).get(name)) for name, value in pairs)
    if not isinstance(found, list) or len(found) != len(due):
        return False
    for (name, value), item in zip(due, found, strict=True):
        parts = list(item.values()) if isinstance(item, dict) else list(item)
        if len(parts) < 2 or parts[0] != name and parts[1] != name:
            return False
        if not any(same_value(part, value) for part in parts[1 if parts[0] == name else 0 :]):
            return False
    return True


def same_value(found: object, due: bytes | None) -> bool:
    if found is None or due is None:
        return found is due
    spellings = {due.hex(), "\\x" + due.hex(), base64.b64encode(due).decode(), due.decode("utf-8", "replace")}
    return found in spellings
