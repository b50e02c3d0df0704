"""The referee bites: right outputs pass, and each thing spoiled is named by the right word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.referee import instant
from chaos.referee.record import Record
from chaos.referee.messages import Message
from chaos.referee.referee import Referee
from chaos.referee.snapshot import Snapshot

from .worlds import COMMIT_TIME, TEXT, TOPIC, World, encode, enriched_stream, event, letter

PLACE = (TOPIC, 0)
START = instant.parse("2026-01-30T01:18:00Z")


def world() -> World:
    made = World()
    for i in range(20):
        made.add(event(user_id=f"user{i}", amount=i * 10, price=i / 7), key=f"user{i % 4}".encode())
    made.add(event(page_url="bad"), key=None, headers=(("trace", b"t1"),))
    made.add(None, key=b"")
    made.add(event("2026-01-30T05:00:00Z"), key=b"user1")
    return made


def words(snapshot: Snapshot, made: World | None = None) -> set[str]:
    return {violation.word for violation in (made or world()).referee().compare_snapshot(snapshot)}


def test_right_outputs_pass() -> None:
    assert words(world().snapshot()) == set()


def spoil_row(snapshot: Snapshot, index: int, change) -> None:
    rows = snapshot.tables["page_view_counts"]
    key = (START, "/products")
    row = list(rows[key])
    row[index] = change(row[index])
    rows[key] = tuple(row)


ROW_SPOILS = {
    "count too small": (1, lambda n: n - 1, "lost"),
    "count too large": (1, lambda n: n + 1, "duplicated"),
    "filtered count": (2, lambda n: n + 1, "duplicated"),
    "sum too small": (3, lambda n: n - 10, "lost"),
    "sum too large": (3, lambda n: n + 10, "duplicated"),
    "least": (4, lambda n: n + 1, "stale"),
    "greatest": (5, lambda n: n - 1, "stale"),
    "mean": (6, lambda n: n * (1 + 1e-12), "stale"),
    "sum of doubles": (7, lambda n: n * (1 + 1e-8), "duplicated"),
    "mean of doubles": (8, lambda n: n * (1 - 1e-8), "stale"),
    "window end": (0, lambda n: n + 1, "phantom"),
    "null": (3, lambda n: None, "lost"),
    "boolean for a count": (2, lambda n: bool(n), "lost"),
}


@pytest.mark.parametrize("name", ROW_SPOILS)
def test_a_wrong_cell_is_found(name: str) -> None:
    index, change, word = ROW_SPOILS[name]
    snapshot = world().snapshot()
    spoil_row(snapshot, index, change)
    assert words(snapshot) == {word}


def test_doubles_may_differ_by_their_order_of_adding() -> None:
    snapshot = world().snapshot()
    spoil_row(snapshot, 7, lambda n: n * (1 + 1e-12))
    assert words(snapshot) == set()


def test_rows_lost_phantom_and_repeated() -> None:
    lost = world().snapshot()
    del lost.tables["page_view_counts"][(START, "/products")]
    phantom = world().snapshot()
    phantom.tables["page_view_counts"][(START, "/other")] = (
        START + instant.MINUTE,
        1,
        0,
        None,
        None,
        None,
        None,
        None,
        None,
    )
    repeated = world().snapshot()
    repeated.repeated_rows["page_view_counts"] = [(START, "/products")]
    assert [words(one) for one in (lost, phantom, repeated)] == [{"lost"}, {"phantom"}, {"duplicated"}]


PROGRESS_SPOILS = {
    "read": (dict(read=24), {"torn", "duplicated"}),
    "accepted": (dict(accepted=20), {"torn", "lost"}),
    "dead and read": (dict(dead=3, read=24), {"duplicated"}),
    "reason": (dict(dead_by_reason={"NULL_VALUE": 1, "CHECK_FAILED:other": 1}), {"lost", "duplicated"}),
    "checks": (dict(checks={}), {"lost"}),
    "aggregates": (dict(aggregates={}), {"lost"}),
    "matched": (
        dict(aggregates={"page_view_counts": {"matched": 21, "counted": 20, "too_late": 0}}),
        {"torn", "lost"},
    ),
    "watermark": (dict(watermark=START), {"stale"}),
    "max_event_time": (dict(max_event_time=None), {"stale"}),
}


@pytest.mark.parametrize("name", PROGRESS_SPOILS)
def test_a_wrong_progress_row_is_found(name: str) -> None:
    change, due = PROGRESS_SPOILS[name]
    snapshot = world().snapshot()
    snapshot.progress[PLACE] = replace(snapshot.progress[PLACE], **change)
    assert words(snapshot) == due


SLIDING = TEXT.replace("tumble: 1m", "slide: 1m, size: 5m").replace("count(*)", "approx_distinct(user_id)", 1)


def sliding_world() -> World:
    made = World(SLIDING)
    made.add(*[event(user_id=f"user{i}") for i in range(9)], event("2026-01-30T01:22:10Z"))
    return made.add(event("2026-01-30T01:18:59Z"))


@pytest.mark.parametrize("by", [1, -1])
def test_a_wrong_distinct_count_in_one_of_five_windows_is_found(by: int) -> None:
    snapshot = sliding_world().snapshot()
    assert words(snapshot, sliding_world()) == set()
    spoil_row(snapshot, 1, lambda n: n + by)
    assert words(snapshot, sliding_world()) == {"stale"}


def test_a_window_too_few_or_too_many_is_found() -> None:
    first = (START - 4 * instant.MINUTE, "/products")
    lost, phantom = sliding_world().snapshot(), sliding_world().snapshot()
    row = lost.tables["page_view_counts"].pop(first)
    phantom.tables["page_view_counts"][(START - 5 * instant.MINUTE, "/products")] = row
    assert words(lost, sliding_world()) == {"lost"}
    assert words(phantom, sliding_world()) == {"phantom"}


def test_a_wrong_count_of_partly_late_records_is_found() -> None:
    snapshot = sliding_world().snapshot()
    counts = snapshot.progress[PLACE].aggregates["page_view_counts"]
    assert counts.pop("partly_late") == 1
    assert words(snapshot, sliding_world()) == {"lost"}


def test_dead_letter_rows() -> None:
    first = 20
    assert words(world().snapshot()) == set()
    for change, due in (
        (lambda rows: rows.pop(first), {"lost"}),
        (lambda rows: rows.update({3: rows[first]}), {"phantom"}),
        (lambda rows: rows.update({99: rows[first]}), {"torn"}),
        (lambda rows: rows.update({first: rows[first]._replace(reason="NOT_JSON")}), {"phantom"}),
        (lambda rows: rows.update({first: rows[first]._replace(value=b"")}), {"phantom"}),
        (lambda rows: rows.update({first: rows[first]._replace(key=b"")}), {"phantom"}),
        (lambda rows: rows.update({21: rows[21]._replace(key=None)}), {"phantom"}),
        (lambda rows: rows.update({first: rows[first]._replace(headers=[])}), {"phantom"}),
    ):
        snapshot = world().snapshot()
        change(snapshot.dead_letters[PLACE])
        snapshot.dead_letter_counts[PLACE] = len(snapshot.dead_letters[PLACE])
        assert words(snapshot) == due


def test_dead_letters_below_what_is_verified_are_counted() -> None:
    snapshot = world().snapshot()
    snapshot.dead_letters_from[PLACE] = 21
    del snapshot.dead_letters[PLACE][20]
    assert words(snapshot) == set()
    snapshot.dead_letter_counts[PLACE] -= 1
    assert words(snapshot) == {"lost"}


def test_too_large_values_are_kept_as_a_prefix() -> None:
    made = World().add(b'{"a":"' + b"x" * 100_000 + b'"}')
    snapshot = made.snapshot()
    row = snapshot.dead_letters[PLACE][0]
    assert len(row.value) == 65_536 and row.value_bytes == 100_008
    assert words(snapshot, made) == set()
    snapshot.dead_letters[PLACE][0] = row._replace(value_bytes=None)
    assert words(snapshot, made) == {"phantom"}


def test_progress_that_goes_back_is_stale() -> None:
    referee, snapshot = world().referee(), world().snapshot()
    assert referee.regressions(snapshot) == []
    referee.compare_snapshot(snapshot)
    back = replace(snapshot.progress[PLACE], next=snapshot.progress[PLACE].next - 1)
    assert [one.word for one in referee.regressions(Snapshot({PLACE: back}))] == ["stale"]
    assert [one.word for one in referee.regressions(Snapshot({}))] == ["lost"]


# -- topics --------------------------------------------------------------------------------------------------------------


def topic_words(referee: Referee, messages: list[Message], due: int = 1000) -> list[str]:
    stream = enriched_stream(referee)
    for message in messages:
        stream.observe(message)
    violations = stream.unexplained(stream.close_generation()) + stream.missing({0: due})
    return [violation.word for violation in violations]


def test_enriched_topic_right() -> None:
    assert topic_words(world().referee(), world().enriched()) == []


def test_enriched_topic_lost_duplicated_phantom_reordered() -> None:
    right = world().enriched()
    swapped = [right[0], right[4], *right[1:4], *right[5:]]
    foreign = right[0]._replace(value=b'{"processing_time":"2026-02-01T00:00:00.000001Z"}')
    other_key = [right[0]._replace(key=b"other"), *right[1:]]
    other_partition = [right[0]._replace(partition=1), *right[1:]]
    assert topic_words(world().referee(), right[1:]) == ["lost"]
    assert topic_words(world().referee(), [*right, right[5]]) == ["duplicated"]
    assert topic_words(world().referee(), [*right, foreign]) == ["phantom"]
    assert set(topic_words(world().referee(), swapped)) == {"reordered"}
    assert topic_words(world().referee(), other_key) == ["phantom", "lost"]
    assert topic_words(world().referee(), other_partition) == ["phantom", "lost"]


def test_enriched_topic_commit_times() -> None:
    right = world().enriched()
    spoiled = right[0]._replace(value=right[0].value.replace(b"2026-02-01T00", b"2026-02-01 00"))
    assert topic_words(world().referee(), [spoiled, *right[1:]]) == ["stale"]
    older = right[5]._replace(value=right[5].value.replace(b"000001Z", b"000002Z"))
    referee = world().referee()
    assert topic_words(referee, [*right[:5], older, *right[6:]]) == []
    assert {one.word for one in referee.commit_times(world().snapshot())} == {"stale"}
    assert {one.word for one in referee.interleaved_commit_times()} == {"torn"}
    referee = world().referee()
    topic_words(referee, right)
    assert referee.commit_times(world().snapshot()) + referee.interleaved_commit_times() == []


def test_messages_before_their_record_is_judged_wait() -> None:
    made = world()
    referee = made.referee(upto={0: 10})
    stream, right = enriched_stream(referee), made.enriched()
    for message in right[:10]:
        stream.observe(message)
    generation = stream.close_generation()
    for message in right[10:]:
        stream.observe(message)
    assert stream.unexplained(generation) == []
    referee.advance(PLACE, made.logs[0][10:])
    assert stream.unexplained(stream.close_generation()) == []
    assert stream.missing({0: 1000}) == []


def test_messages_found_before_and_after_their_records_are_judged_stand_in_their_order() -> None:
    made = world()
    referee = made.referee(upto={0: 10})
    stream, right = enriched_stream(referee), made.enriched()
    for message in right[:12]:
        stream.observe(message)
    referee.advance(PLACE, made.logs[0][10:])
    for message in right[12:]:
        stream.observe(message)
    assert stream.unexplained(stream.close_generation()) == []
    assert stream.missing({0: 1000}) == []


def test_messages_beyond_the_snapshot_are_phantoms_in_their_generation() -> None:
    made = world()
    referee = made.referee(upto={0: 10})
    stream = enriched_stream(referee)
    for message in made.enriched()[:11]:
        stream.observe(message)
    assert [one.word for one in stream.unexplained(stream.close_generation())] == ["phantom"]


def test_equal_events_are_a_multiset() -> None:
    made = World().add(*[event()] * 3)
    assert topic_words(made.referee(), made.enriched()) == []
    assert topic_words(made.referee(), made.enriched()[:2]) == ["lost"]
    assert topic_words(made.referee(), [*made.enriched(), made.enriched()[0]]) == ["duplicated"]


def dead_messages(made: World) -> list[Message]:
    stream = made.referee().sources[TOPIC].dead_stream
    log = made.logs[0]
    return [
        letter(stream, 0, {"reason": "CHECK_FAILED:url_is_path", "detail": "anything"}, log[20]),
        letter(stream, 1, {"reason": "NULL_VALUE", "detail": ""}, log[21]),
    ]


def letter_words(made: World, messages: list[Message], late: bool = False) -> list[str]:
    source = made.referee().sources[TOPIC]
    stream = source.late_stream if late else source.dead_stream
    for message in messages:
        stream.observe(message)
    violations = stream.unexplained(stream.close_generation()) + stream.missing({0: 1000})
    return [violation.word for violation in violations]


def test_dead_letter_topic() -> None:
    made = world()
    first, second = dead_messages(made)
    assert letter_words(made, [first, second]) == []
    assert letter_words(made, [first]) == ["lost"]
    assert letter_words(made, [first, second, first]) == ["duplicated"]
    assert letter_words(made, [second, first]) == ["reordered"]
    assert letter_words(made, [first._replace(value=b"x"), second]) == ["phantom"]
    assert letter_words(made, [first._replace(partition=1), second]) == ["phantom"]
    assert letter_words(made, [first._replace(headers=first.headers[1:]), second]) == ["phantom"]
    assert letter_words(made, [first._replace(headers=()), second]) == ["phantom", "lost"]
    wrong = [(name, b"NOT_JSON" if name == "reason" else value) for name, value in first.headers]
    assert letter_words(made, [first._replace(headers=tuple(wrong)), second]) == ["phantom"]


def test_late_topic() -> None:
    made = World().add(event("2026-01-30T02:00:00.0005Z"), event(), key=b"k", headers=(("h", b"1"),))
    own = {
        "aggregate": "page_view_counts",
        "watermark": "2026-01-30T01:59:50.000500Z",
        "late_by_ms": str((40 * 60 + 50) * 1000),
    }
    stream = made.referee().sources[TOPIC].late_stream
    right = letter(stream, 0, own, made.logs[0][1])
    assert letter_words(made, [right], late=True) == []
    assert letter_words(made, [], late=True) == ["lost"]
    assert letter_words(made, [right, right], late=True) == ["duplicated"]
    wrong = letter(stream, 0, {**own, "late_by_ms": "0"}, made.logs[0][1])
    assert letter_words(made, [wrong], late=True) == ["phantom"]


def test_a_record_changes_nothing_twice() -> None:
    referee = world().referee()
    with pytest.raises(AssertionError):
        referee.advance(PLACE, [Record(0, None, None, encode(event()))])


def test_commit_time_is_a_constant_of_these_tests() -> None:
    assert instant.to_text(COMMIT_TIME) == "2026-02-01T00:00:00.000001Z"
