"""Repartitioned sources: whose copy it is, what the hop may not do, and that the order of the internal topic changes no row but
where it may."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from chaos.referee import pipeline
from chaos.referee.hop import Undecidable
from chaos.referee.messages import Message
from chaos.referee.snapshot import Final

from .hop_worlds import ENRICHED, HOP, INTERNAL, TICK, HopWorld, changed, prefix
from .session_worlds import CUT, at, hit, spans
from .session_worlds import world as keyed_world
from .worlds import TOPIC, letter

MINUTE = 60_000_000
EVENING = at("20:00:00") // 1_000
HOP_CUT = CUT.replace("keyed_by", "repartition_by") + ENRICHED
HOP_DEDUP = HOP.replace("    repartition_by", "    dedup: { key: [user_id], within: 3h }\n    repartition_by")


def two_sources() -> HopWorld:
    """One user in two partitions, of which the second is an hour ahead; a dead record in each."""
    made = HopWorld().add(hit("10:00:00"), None, hit("10:20:00"), hit("10:30:00", "v"))
    return made.add(hit("11:30:00", "clock"), hit("10:50:00"), {"bad": 1}, hit("11:01:00"), partition=1)


def rows(made: HopWorld, name: str = "visits") -> dict:
    return made.snapshot().tables[name]


# -- the copies ----------------------------------------------------------------------------------------------------------


def test_every_record_that_is_not_dead_is_copied_once() -> None:
    assert two_sources().route_all().found() == []
    assert two_sources().route((0, 0), (1, 0), (0, 2), (1, 1), (0, 3), (1, 3)).found() == []


@pytest.mark.parametrize(
    ("places", "due"),
    [
        ([(0, 0), (0, 2), (0, 3), (1, 0), (1, 1)], ["lost"]),
        ([(0, 0), (0, 3), (1, 0), (1, 1), (1, 3)], ["lost"]),
        ([(0, 0), (0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)], ["duplicated"]),
        ([(0, 0), (0, 3), (0, 2), (1, 0), (1, 1), (1, 3)], ["reordered"]),
    ],
)
def test_a_router_that_errs_is_found(places: list[tuple[int, int]], due: list[str]) -> None:
    assert two_sources().route(*places).found() == due


def test_what_is_no_copy_is_found() -> None:
    made = two_sources().route_all()
    made.copies[0].append((b"u", prefix(0, 99) + b'{"user_id":"u"}'))
    assert made.found() == ["phantom"]
    made = two_sources().route_all()
    made.copies[0][0] = (b"v", made.copies[0][0][1])
    assert made.found() == ["phantom", "lost"]


def test_a_copy_in_another_partition_than_that_of_its_key_is_found() -> None:
    made = HopWorld(internal=2).add(hit("10:00:00", "u")).route_all()
    assert made.found() == []
    (right,) = (number for number, copies in made.copies.items() if copies)
    made.copies[1 - right] = made.copies.pop(right)
    made.copies[right] = []
    assert sorted(made.found()) == ["lost", "phantom"]


def test_ticks_and_gaps_mean_nothing() -> None:
    made = two_sources().route_all()
    made.copies[0] = [one for copy in made.copies[0] for one in (TICK, copy, TICK)]
    assert made.found() == []
    assert rows(made) == rows(two_sources().route_all())
    assert made.referee().partitions[(INTERNAL, 0)].read == 6


def test_equal_values_are_told_apart_by_their_offset() -> None:
    for order in ([(0, 3), (1, 301)], [(1, 301), (0, 3)]):
        made = HopWorld(HOP_DEDUP).add(None, None, None, hit("10:00:00"))
        made.add(hit("12:00:00", "clock"), *[None] * 300, hit("10:00:00"), partition=1)
        made.route((1, 0), *order)
        assert made.found() == []
        counts = made.referee().partitions[(INTERNAL, 0)].aggregates["visits"]
        # The first of two copies counts, whichever it is; that of partition 1 is too late there.
        assert counts["too_late"] == (order[0] == (1, 301))
    made.copies[0] = [(key, b"\x01" + value[15:]) for key, value in made.copies[0]]
    with pytest.raises(Undecidable):
        made.found()


# -- what comes of them --------------------------------------------------------------------------------------------------


def test_sessions_join_across_partitions() -> None:
    """In one partition, sorted by time, the same records make the same sessions; the one that is too late makes none."""
    made = two_sources().route_all()
    keyed = keyed_world(*map(hit, ("10:00:00", "10:20:00", "10:50:00", "11:01:00")))
    assert {key: row[:4] for key, row in rows(made).items() if key[1] == "u"} == {
        (at("10:00:00"), "u"): (at("10:20:00"), 1_200, 2, 2),
        (at("11:01:00"), "u"): (at("11:01:00"), 0, 1, 1),
    }
    assert spans(keyed) == [("10:00", "11:01", 4)]


def test_a_record_is_late_by_its_source_alone() -> None:
    """Drained first or last: 10:50 is too late in its own partition, 10:20 is in time in its own, though others are far ahead."""
    orders = [
        [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)],
        [(1, 0), (1, 1), (1, 3), (0, 0), (0, 2), (0, 3)],
        [(0, 0), (1, 0), (1, 1), (0, 2), (1, 3), (0, 3)],
    ]
    found = [two_sources().route(*order) for order in orders]
    assert [rows(one) for one in found] == [rows(found[0])] * 3
    for one in found:
        counts = one.referee().partitions[(INTERNAL, 0)].aggregates["visits"]
        assert (counts["matched"], counts["counted"], counts["too_late"]) == (6, 5, 1)


def test_no_order_of_the_internal_topic_changes_a_row() -> None:
    chance = random.Random(5)
    for _ in range(30):
        events = []
        for _ in range(40):
            time = f"{chance.randrange(10, 14)}:{chance.randrange(60):02}:{chance.randrange(60):02}"
            events.append((chance.randrange(3), hit(time, chance.choice("uvw"), amount=chance.randrange(9))))
        worlds = [HopWorld(partitions=3, internal=internal) for internal in (1, 2, 5)]
        for made in worlds:
            for partition, event in events:
                made.add(event, partition=partition)
            made.route_all(chance)
            assert made.found() == []
        assert rows(worlds[0]) == rows(worlds[1]) == rows(worlds[2]) != {}


def test_where_a_longest_duration_cuts_the_internal_order_decides() -> None:
    times = ["10:00:00", "10:25:00", "10:50:00", "11:15:00"]

    def made(*order: int) -> HopWorld:
        world = HopWorld(HOP_CUT.replace("allowed_lateness: 1m", "allowed_lateness: 1d"), partitions=4)
        for number, time in enumerate(times):
            world.add(hit(time), partition=number)
        return world.route(*((number, 0) for number in order))

    forth, back = made(0, 1, 2, 3), made(3, 2, 1, 0)
    assert sorted(key[0] for key in rows(forth)) == [at("10:00:00"), at("11:15:00")]
    assert sorted(key[0] for key in rows(back)) == [at("10:00:00"), at("10:25:00")]
    spoiled = forth.snapshot()
    spoiled.tables = back.snapshot().tables
    assert forth.words(forth.snapshot()) == set()
    assert {"stale", "lost"} <= forth.words(spoiled)


def test_of_two_copies_the_second_is_the_duplicate() -> None:
    made = HopWorld(HOP_DEDUP).add(hit("10:00:00", amount=1)).add(hit("10:00:01", amount=2), partition=1)
    for order, amount in (([(0, 0), (1, 0)], 1), ([(1, 0), (0, 0)], 2)):
        made.copies[0] = []
        made.route(*order)
        state = made.referee().partitions[(INTERNAL, 0)]
        assert (state.accepted, state.duplicate) == (1, 1)
        assert [row[4] for row in rows(made).values()] == [amount]


def test_a_key_lives_as_long_as_the_slowest_source_needs_it() -> None:
    """Partition 1 is past the key's expiry, partition 0 is not; an entry made again does not make it shorter."""
    made = HopWorld(HOP_DEDUP).add(hit("10:00:00"), hit("12:40:00", "other"), hit("10:00:06"))
    made.add(hit("14:00:00", "clock"), hit("09:00:00"), partition=1)
    made.route((1, 0), (0, 0), (0, 1), (1, 1), (0, 2))
    state = made.referee().partitions[(INTERNAL, 0)]
    assert (state.accepted, state.duplicate) == (4, 1)


def test_a_session_that_the_fastest_source_is_past_still_takes_records_of_a_slower_one() -> None:
    made = HopWorld().add(hit("10:00:00"), hit("10:25:00"))
    made.add(hit("10:10:00"), hit("14:00:00"), partition=1).route((0, 0), (1, 0), (1, 1), (0, 1))
    referee = made.referee(copied=False)
    ((aggregate,),) = [source.aggregates for source in referee.sources.values()]
    referee.begin((INTERNAL, 0), 0)
    for copy in made.internal_log(0):
        referee.advance((INTERNAL, 0), [copy])
        found = {key[0]: aggregate.ends(key)[0] for key in aggregate.rows}
    assert found == {at("10:00:00"): at("10:25:00"), at("14:00:00"): at("14:00:00")}


# -- progress rows -------------------------------------------------------------------------------------------------------


def test_right_progress_rows_of_either_kind() -> None:
    made = two_sources().route_all()
    assert made.words(made.snapshot()) == set()
    counted = made.snapshot()
    for number, log in made.logs.items():
        changed(counted, (TOPIC, number), read=len(log))
    changed(counted, (INTERNAL, 0), read=0)
    assert made.words(counted) == set()


@pytest.mark.parametrize(
    ("place", "values", "due"),
    [
        ((TOPIC, 0), dict(read=4), {"torn"}),
        ((TOPIC, 0), dict(read=3), {"torn"}),
        ((TOPIC, 0), dict(dead=2, read=2), {"torn", "duplicated"}),
        ((TOPIC, 0), dict(accepted=1), {"torn", "duplicated"}),
        ((TOPIC, 0), dict(dead_by_reason={}), {"lost"}),
        ((TOPIC, 0), dict(max_event_time=at("10:20:00")), {"stale"}),
        ((INTERNAL, 0), dict(accepted=5), {"torn", "lost"}),
        ((INTERNAL, 0), dict(accepted=5, duplicate=1), {"lost", "duplicated"}),
        ((INTERNAL, 0), dict(read=5), {"torn"}),
        ((INTERNAL, 0), dict(dead=1), {"torn", "duplicated"}),
        ((INTERNAL, 0), dict(aggregates={}), {"lost"}),
    ],
)
def test_a_wrong_progress_row_is_found(place: tuple, values: dict, due: set[str]) -> None:
    made = two_sources().route_all()
    assert made.words(changed(made.snapshot(), place, **values)) == due


# -- messages ------------------------------------------------------------------------------------------------------------


def test_late_letters_say_where_the_record_came_from() -> None:
    made = two_sources().route_all()
    stream = made.hop().late_stream
    own = {"aggregate": "visits", "watermark": "2026-01-30T11:29:50.000000Z", "late_by_ms": "590000"}
    right = letter(stream, 0, own, made.logs[1][1], partition=1)._replace(partition=0)
    for message, due in ((right, []), (right._replace(headers=right.headers[:-1]), ["phantom", "lost"])):
        stream = made.hop().late_stream
        stream.observe(message)
        found = stream.unexplained(stream.close_generation()) + stream.missing({0: 1_000})
        assert [one.word for one in found] == due


def enriched(made: HopWorld, order: list[tuple[int, int]]) -> list[str]:
    referee = made.referee()
    (stream,) = referee.sources[TOPIC].outputs
    for offset, (partition, at_offset) in enumerate(order):
        value = made.logs[partition][at_offset].value[:-1] + b',"at":"2026-02-01T00:00:00.000001Z"}'
        stream.observe(Message(0, offset, None, None, value, ()))
    found = stream.unexplained(stream.close_generation()) + referee.missing(made.snapshot(), to_prev=False)
    return [one.word for one in found if "late" not in one.where and "dead" not in one.where]


def test_enriched_records_stand_in_the_order_of_the_internal_topic() -> None:
    made = two_sources().route_all()
    places = [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)]
    assert enriched(made, places) == []
    assert enriched(made, places[:-1]) == ["lost"]
    assert enriched(made, [*places, places[0]]) == ["duplicated"]
    assert enriched(made, [places[1], places[0], *places[2:]]) == ["reordered"]


# -- what cannot be told -------------------------------------------------------------------------------------------------


def quiet_world(time: str, pause: int) -> HopWorld:
    """Partition 1 is far ahead. Partition 0 was quiet for so many seconds, and goes on with an event of this time."""
    made = HopWorld().add(hit("12:00:00", "clock"), partition=1, timestamp=EVENING)
    made.add(hit("10:00:00"), timestamp=EVENING)
    return made.add(hit(time), timestamp=EVENING + pause * 1_000).route_all()


def test_a_source_that_may_have_been_idle_is_not_judged_where_that_matters() -> None:
    assert len(rows(quiet_world("10:10:00", 20))) == 2
    with pytest.raises(Undecidable, match="idle"):
        rows(quiet_world("10:10:00", 40))
    assert len(rows(quiet_world("11:50:00", 40))) == 3


def test_a_source_that_is_past_the_others_again_is_judged() -> None:
    made = quiet_world("12:30:00", 40).add(hit("12:10:00"), timestamp=EVENING + 42_000)
    made.copies[0] = []
    assert len(rows(made.route_all())) == 3


def test_a_first_record_that_comes_late_may_be_judged_by_the_others() -> None:
    made = HopWorld().add(hit("12:00:00", "clock"), partition=1, timestamp=EVENING)
    made.add(hit("10:00:00"), timestamp=EVENING + 40_000)
    with pytest.raises(Undecidable):
        made.route_all().snapshot()


# -- finality ------------------------------------------------------------------------------------------------------------


def test_final_is_what_the_slowest_source_lets_be_final() -> None:
    made = two_sources().route_all()
    snapshot = made.snapshot()
    snapshot.taken = at("23:00:00")
    for partition, log in made.logs.items():
        made.logs[partition] = [one._replace(timestamp=snapshot.taken // 1_000) for one in log]
    for through, due in (
        ("10:18:50", []),
        ("10:28:50", []),
        ("10:28:50.000001", ["premature"]),
        ("09:00:00", []),
    ):
        claim = replace(snapshot, finality={"visits": Final(at(through), 30 * MINUTE)})
        assert [one.word for one in made.referee().final_rows(claim, {TOPIC: 2}, set())] == due


def test_only_fields_with_a_plain_text_are_routed_by() -> None:
    text = HOP.replace("amount: bigint", "amount: bigint, rate: double!").replace(
        "repartition_by: user_id", "repartition_by: rate"
    )
    with pytest.raises(ValueError, match="not keyed"):
        pipeline.parse(text, {})
    text = text.replace("by: [user_id]", "by: [user_id, rate]").replace(
        "latest: [user_id]", "latest: [user_id, rate]"
    )
    with pytest.raises(pipeline.Unsupported, match="double"):
        HopWorld(text).referee()
