"""The whole bench at a small size, for `./dev test`: counts and shape must be right; figures are not looked at."""

from __future__ import annotations

from collections.abc import Iterator

from bench.drain import Load, drain
from bench.generator import speeds
from bench.live import Rate, live
from bench.pipeline import remembering, through_hop, with_outputs
from bench.recorded import Recorded
from bench.sweep import Point, Sweep, results

EVENTS = 3_000
REFERENCE = 2_000
# By workload W1: 200 pages at most, each in some of 115 minutes, and seven in ten events are views of one.
MOST_ROWS = EVENTS * 8 // 10
# Windows of five minutes that begin in one of those 115 minutes or in the four before; few minutes are without a user.
ACTIVE_USERS = range(90, 120)
# A fortieth as many users as events, each with two bursts, of which some come close to each other.
SESSIONS = range(EVENTS // 40 + 1, EVENTS // 20 + 1)
WORKERS = 2


class Wrong(AssertionError):
    pass


def smoke() -> Iterator[str]:
    """Tells what was found right, step by step."""
    figures = drain(with_outputs("ABCD"), Load(EVENTS, 3), WORKERS, count_outputs=True).figures()
    expect(EVENTS // 4 < figures["rows"]["page_view_counts"] < MOST_ROWS, figures)
    expect(figures["rows"]["active_users"] in ACTIVE_USERS, figures)
    expect(figures["rows"]["user_sessions"] in SESSIONS, figures)
    expect(figures["filled_per_second"] > 1, figures)
    for name in ("processor", "plain"):
        expect(figures[name]["events"] == EVENTS and figures[name]["peak_rss_mib"] > 1, figures)
    expect(set(figures["ratio"]) == {"throughput", "processor_cost"}, figures)
    yield f"drain: {EVENTS:,} events in both output topics, as many counted by the processor"

    more = drain(through_hop(remembering(with_outputs("ABCD"))), Load(EVENTS, 3), WORKERS, with_plain=False)
    expect(more.rows == figures["rows"], more.rows)
    yield "drain: dedup and the hop change no row"

    recorded = Recorded.reference(REFERENCE)
    load = Load(REFERENCE, 3, recorded=recorded)
    rows = drain(with_outputs("ABCD"), load, WORKERS, with_plain=False).rows
    truth = recorded.truth
    expect(rows["page_view_counts"] == truth.page_view_rows and rows["user_sessions"] == truth.sessions, rows)
    yield f"drain: {REFERENCE:,} reference events come out as their file says"

    found = live(with_outputs("ABD"), Rate(500, 3, 2, 1), WORKERS)
    expect(found["events"] == 1_500 and 500 < found["measured"] < 1_500, found)
    times = list(found["milliseconds"].values())
    expect(times == sorted(times) and times[0] > 0, found)
    yield f"live: {found['measured']:,} of {found['events']:,} events timed"

    sweep = Sweep(
        "partitions", "partitions", (1, 2, 3), lambda n, events: Point(with_outputs("A"), Load(events, n))
    )
    points = list(results(sweep, EVENTS, [1, 2, 3], 1))
    expect([point["size"] for point in points] == [1, 2, 3], points)
    expect({point["rows"] for point in points} == {figures["rows"]["page_view_counts"]}, points)
    expect(["plain" in point for point in points] == [True, False, True], points)
    yield "sweep: the rows do not depend on the number of partitions"

    made = speeds(EVENTS)
    expect(all(profile["lines"] > 1 and profile["topic"] > 1 for profile in made), made)
    yield f"generate: {len(made)} profiles"


def expect(holds: bool, found: object) -> None:
    if not holds:
        raise Wrong(f"not as it should be: {found}")
