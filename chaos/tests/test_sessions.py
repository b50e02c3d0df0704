"""Sessions on the borders: the gap, bridges, both grades of lateness, prefixes of the log, and the longest duration."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from chaos.referee import instant, pipeline
from chaos.referee.aggregate import SessionAggregate
from chaos.referee.record import Record
from chaos.referee.referee import Referee

from .session_worlds import CUT, DAY, SESSIONS, at, hit, spans, world
from .worlds import TOPIC, encode


def test_a_gap_of_exactly_thirty_minutes_continues_a_session() -> None:
    assert spans(world(hit("10:00:00"), hit("10:30:00"))) == [("10:00", "10:30", 2)]
    found = spans(world(hit("10:00:00"), hit("10:30:00.000001")))
    assert found == [("10:00", "10:00", 1), ("10:30:00.000001", "10:30:00.000001", 1)]


def test_columns() -> None:
    made = world(
        hit("10:00:00.5", amount=7),
        hit("10:00:02.499999", kind="click", amount=5),
        hit("10:00:01"),
        hit("10:00:03", kind="noise"),
    )
    ((key, row),) = made.rows("visits").items()
    assert key == (at("10:00:00.5"), "u")
    assert row == (at("10:00:02.499999"), 1, 3, 2, 12, 5, 0)
    assert made.state().aggregates["visits"] == {"matched": 3, "counted": 3}


def test_keys_have_sessions_of_their_own_and_the_empty_one_too() -> None:
    made = world(hit("10:00:00", "a"), hit("10:01:00", ""), hit("10:02:00", "a"))
    assert spans(made, "a") == [("10:00", "10:02", 2)]
    assert spans(made, "") == [("10:01", "10:01", 1)]


BRIDGED = [hit("10:00:00"), hit("10:50:00"), hit("10:25:00"), hit("11:15:00"), hit("11:50:00")]


@pytest.mark.parametrize("order", list(permutations(range(5))))
def test_any_order_makes_the_same_sessions(order: tuple[int, ...]) -> None:
    text = SESSIONS.replace("allowed_lateness: 1m", "allowed_lateness: 2h")
    made = world(*(BRIDGED[i] for i in order), text=text)
    assert spans(made) == [("10:00", "11:15", 4), ("11:50", "11:50", 1)]


def test_late_begins_where_event_time_plus_gap_meets_the_watermark() -> None:
    """Delay 10 s: the watermark is 11:00:00."""
    late = world(hit("11:00:10", "other"), hit("10:30:00"))
    just = world(hit("11:00:10", "other"), hit("10:30:00.000001"))
    assert late.rows("visits")[(at("10:30:00"), "u")][-1] == 1
    assert just.rows("visits")[(at("10:30:00.000001"), "u")][-1] == 0
    assert late.state().aggregates["visits"] == {"matched": 2, "counted": 2}


def test_too_late_begins_where_event_time_plus_gap_plus_lateness_meets_the_watermark() -> None:
    """Lateness 1 m, watermark 11:01:00. The session that would have taken the record is still there."""
    made = world(hit("10:45:00"), hit("11:01:10"), hit("10:30:00"))
    assert spans(made) == [("10:45", "11:01:10", 2)]
    assert made.state().aggregates["visits"] == {"matched": 3, "counted": 2, "too_late": 1}
    (letter,) = made.referee().sources[TOPIC].late_stream.expected.values()
    assert letter.own["late_by_ms"] == "60000"
    assert letter.own["watermark"] == f"{DAY}11:01:00.000000Z"
    made = world(hit("10:45:00"), hit("11:01:10"), hit("10:30:00.000001"))
    assert spans(made) == [("10:30:00.000001", "11:01:10", 3)]
    assert made.state().aggregates["visits"] == {"matched": 3, "counted": 3}


def test_a_record_that_is_dead_joins_nothing() -> None:
    assert spans(world(hit("10:00:00"), {**hit("10:10:00"), "amount": "x"})) == [("10:00", "10:00", 1)]


def test_every_prefix_of_the_log_has_its_own_rows() -> None:
    made = world(hit("10:00:00"), hit("10:50:00"), hit("10:25:00"), hit("12:00:00", "other"))
    referee = Referee(made.pipeline)
    referee.begin((TOPIC, 0), 0)
    (aggregate,) = referee.sources[TOPIC].aggregates
    seen = []
    for record in made.logs[0]:
        referee.advance((TOPIC, 0), [record])
        seen.append([(key[0], aggregate.ends(key)[0]) for key in sorted(aggregate.rows)])
    ten, bridge_end, other = at("10:00:00"), at("10:50:00"), at("12:00:00")
    assert seen == [
        [(ten, ten)],
        [(ten, ten), (bridge_end, bridge_end)],
        [(ten, bridge_end)],
        [(ten, bridge_end), (other, other)],
    ]


def test_a_key_in_two_partitions_cannot_be_judged() -> None:
    referee = Referee(pipeline.parse(SESSIONS, {}))
    for number in (0, 1):
        referee.begin((TOPIC, number), 0)
    referee.advance((TOPIC, 0), [Record(0, None, None, encode(hit("10:00:00")))])
    with pytest.raises(ValueError, match="not keyed"):
        referee.advance((TOPIC, 1), [Record(0, None, None, encode(hit("10:00:00")))])


# -- against a naive model -------------------------------------------------------------------------------------------------


def components(times: list[int], gap: int) -> set[tuple[int, int, int]]:
    """First, last and number of each group of times that are connected by steps of at most the gap."""
    groups = [{i} for i in range(len(times))]
    for i in range(len(times)):
        near = [group for group in groups if any(abs(times[i] - times[j]) <= gap for j in group)]
        groups = [group for group in groups if group not in near] + [set().union(*near)]
    members = [[times[i] for i in group] for group in groups]
    return {(min(one), max(one), len(one)) for one in members}


@pytest.mark.parametrize("seed", range(30))
def test_sessions_are_connected_components_whenever_they_are_looked_at(seed: int) -> None:
    """Records far out of order, some too late; rows asked for at random moments, so that some sessions are let go early."""
    chance = random.Random(seed)
    gap, delay, lateness = 30 * instant.MINUTE, 10 * instant.SECOND, instant.MINUTE
    referee = Referee(pipeline.parse(SESSIONS, {}))
    referee.begin((TOPIC, 0), 0)
    (aggregate,) = referee.sources[TOPIC].aggregates
    taken: dict[str, list[int]] = {}
    most = None
    for offset in range(250):
        time = at("10:00:00") + offset * 6 * instant.MINUTE + chance.randrange(-90, 30) * instant.MINUTE
        user = chance.choice("abcde")
        event = {"event_time": instant.to_text(time), "user_id": user, "event_type": "view"}
        referee.advance((TOPIC, 0), [Record(offset, None, None, encode(event))])
        if most is None or time + gap + lateness > most - delay:
            taken.setdefault(user, []).append(time)
        most = time if most is None else max(most, time)
        if chance.random() < 0.1 or offset == 249:
            due = {(a, b, n, user) for user, times in taken.items() for a, b, n in components(times, gap)}
            rows = aggregate.rows
            assert {(k[0], aggregate.ends(k)[0], states[0], k[1]) for k, states in rows.items()} == due
    assert isinstance(aggregate, SessionAggregate)
    held = sum(len(owner.model.entries) for owner in aggregate.owners.values())
    assert held < sum(map(len, taken.values()))


# -- a longest duration of one hour ----------------------------------------------------------------------------------------


def cut(*times: str) -> list[tuple[str, str, int]]:
    return spans(world(*(hit(f"{time}:00" if len(time) == 5 else time) for time in times), text=PATIENT_CUT))


PATIENT_CUT = CUT.replace("allowed_lateness: 1m", "allowed_lateness: 1d")


def test_a_session_of_exactly_the_longest_duration_fits() -> None:
    assert cut("10:00", "10:30", "11:00") == [("10:00", "11:00", 3)]
    over = ("11:00:00.000001", "11:00:00.000001", 1)
    assert cut("10:00", "10:30", "11:00:00.000001") == [("10:00", "10:30", 2), over]


def test_a_record_joins_the_earlier_neighbour_else_the_later_else_none() -> None:
    found = cut("10:00", "10:40", "11:20", "11:00", "10:20")
    assert found == [("10:00", "10:20", 2), ("10:40", "11:20", 3)]
    found = cut("10:00", "10:30", "10:55", "11:05", "11:02")
    assert found == [("10:00", "10:55", 3), ("11:02", "11:05", 2)]
    found = cut("10:00", "10:30", "10:50", "11:10", "11:40", "12:10", "11:05")
    assert found == [("10:00", "10:50", 3), ("11:05", "11:05", 1), ("11:10", "12:10", 3)]


def test_neighbours_are_merged_only_if_the_whole_fits() -> None:
    assert cut("10:00", "10:40", "10:20") == [("10:00", "10:40", 3)]
    assert cut("10:00", "11:00", "10:30") == [("10:00", "11:00", 3)]
    assert cut("10:00", "11:00:00.000001", "10:30:00.000001") == [
        ("10:00", "10:00", 1),
        ("10:30:00.000001", "11:00:00.000001", 2),
    ]
    found = cut("10:00", "10:30", "11:05", "11:10", "10:50")
    assert found == [("10:00", "10:50", 3), ("11:05", "11:10", 2)]


def test_a_record_inside_a_session_joins_it() -> None:
    assert cut("10:00", "10:30", "10:15", "10:00", "10:30") == [("10:00", "10:30", 5)]


def test_the_order_of_records_matters() -> None:
    assert cut("10:00", "10:25", "10:50", "11:15") == [("10:00", "10:50", 3), ("11:15", "11:15", 1)]
    assert cut("11:15", "10:50", "10:25", "10:00") == [("10:00", "10:00", 1), ("10:25", "11:15", 3)]


@pytest.mark.parametrize("seed", range(20))
def test_where_nothing_is_cut_both_ways_agree(seed: int) -> None:
    chance = random.Random(seed)
    long = CUT.replace("max_duration: 1h", "max_duration: 365d")
    times = [at("10:00:00") + chance.randrange(2_000) * instant.MINUTE // 2 for _ in range(120)]
    events = [{**hit("10:00:00", chance.choice("ab")), "event_time": instant.to_text(time)} for time in times]
    lateness = [text.replace("allowed_lateness: 1m", "allowed_lateness: 2h") for text in (SESSIONS, long)]
    plain, ordered = (world(*events, text=text) for text in lateness)
    assert plain.rows("visits") == ordered.rows("visits")
    assert plain.state().aggregates["visits"]["too_late"] > 0


@pytest.mark.parametrize("seed", range(20))
def test_sessions_are_disjoint_fit_and_could_not_be_one(seed: int) -> None:
    chance = random.Random(seed)
    minutes = sorted(range(300), key=lambda _: chance.random())[:60]
    found = cut(*(f"{10 + minute // 60}:{minute % 60:02}" for minute in minutes))
    pairs = [(at(padded(start)), at(padded(end))) for start, end, _ in found]
    assert sum(count for *_, count in found) == 60
    assert all(end - start <= instant.HOUR for start, end in pairs)
    for (first, end), (start, last) in zip(pairs, pairs[1:], strict=False):
        assert end < start
        assert start - end > 30 * instant.MINUTE or last - first > instant.HOUR


def padded(time: str) -> str:
    return f"{time}:00" if len(time) == 5 else time
