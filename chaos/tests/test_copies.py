"""Copies of one event in several source partitions look alike in the topic: none may be blamed for the other, and what is really
out of order, lost or there twice is found beside them all the same."""

from __future__ import annotations

import json
import random

import pytest

from chaos.referee.messages import Message

from .worlds import COMMIT_TEXT, TEXT, TOPIC, World, encode, enriched_stream, event

LATER = COMMIT_TEXT.replace(b"000001Z", b"000002Z")


def world(*logs: str) -> World:
    """A log a partition, an event a letter; all of one key, so that they lie in one output partition."""
    made = World(TEXT, partitions=len(logs))
    for number, log in enumerate(logs):
        made.add(*[event(user_id=letter) for letter in log], partition=number, key=b"k")
    return made


def topic(text: str, time: bytes = COMMIT_TEXT) -> list[Message]:
    values = [encode(event(user_id=letter))[:-1] + b',"processing_time":' + time + b"}" for letter in text]
    return [Message(0, offset, None, b"k", value, ()) for offset, value in enumerate(values)]


def judged(made: World, messages: list[Message], complete: bool = False) -> list[str]:
    stream = enriched_stream(made.referee())
    stream.complete = complete
    return words(stream, messages, made)


def words(stream, messages: list[Message], made: World) -> list[str]:
    target = stream.partitioner.partition(b"k", 0)
    for message in messages:
        stream.observe(message._replace(partition=target))
    violations = stream.unexplained(stream.close_generation())
    violations += stream.missing({number: len(log) for number, log in made.logs.items()})
    return [violation.word for violation in violations]


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(
    ("logs", "text", "due"),
    [
        # The copy of the second partition comes first, then that of the first: once cried `reordered`.
        (("abc", "xby"), "xbaybc", []),
        (("abc", "xby"), "xbyabc", []),
        (("abc", "xby"), "xabbyc", []),
        (("abc", "xby"), "xabycb", ["reordered"]),
        (("abc", "xby"), "bxabyc", ["reordered"]),
        (("abc", "xby"), "xbycba", ["reordered", "reordered"]),
        (("abc", "xby"), "xbyac", ["lost"]),
        (("abc", "xby"), "xbyabbc", ["duplicated"]),
        (("abc", "xby"), "xbyabzc", ["phantom"]),
        (("b", "b"), "b", ["lost"]),
        (("b", "b"), "bbb", ["duplicated"]),
        (("abc", "abc"), "abcabc", []),
        (("abc", "abc"), "aabbcc", []),
        (("abc", "abc"), "abacbc", []),
        (("abc", "abc"), "abccab", ["reordered"]),
        (("abcd", "bd", "db"), "dabbcdbd", []),
    ],
)
def test_copies(logs: tuple[str, ...], text: str, due: list[str], complete: bool) -> None:
    found = judged(world(*logs), topic(text), complete)
    if due == ["reordered"] * len(due):
        assert set(found) == set(due)
    else:
        assert found == due


def test_of_one_partition_and_key_a_copy_elsewhere_lends_no_order() -> None:
    """A true reorder among copies: `c` stands before the only `b` that is left for its partition."""
    assert set(judged(world("abc", "b"), topic("babc"))) == set()
    assert set(judged(world("abc", "b"), topic("acbb"))) == {"reordered"}
    assert set(judged(world("abc", "xb"), topic("acbxb"))) == {"reordered"}
    assert set(judged(world("abc", "b"), topic("bacb"))) == {"reordered"}


def test_a_copy_that_is_not_judged_yet_waits_for_its_record() -> None:
    """The copy of partition 1 is found before its record is judged, and must not pass for that of partition 0."""
    made = world("abc", "xb")
    referee = made.referee(upto={0: 3, 1: 1})
    stream = enriched_stream(referee)
    target = stream.partitioner.partition(b"k", 0)
    messages = [message._replace(partition=target) for message in topic("xbabc")]
    stream.observe(messages[0])
    generation = stream.close_generation()
    for message in messages[1:]:
        stream.observe(message)
    assert stream.unexplained(generation) == []
    assert stream.missing({0: 3, 1: 1}) == []
    referee.advance((TOPIC, 1), made.logs[1][1:])
    assert stream.unexplained(stream.close_generation()) == []
    assert stream.missing({0: 3, 1: 2}) == []


def test_commit_times_of_copies_are_nobodys() -> None:
    """Each partition's own epoch: the copies could be told apart by their times alone, so they accuse nobody."""
    made = world("abc", "xby")
    first, second = topic("abc"), topic("xby", LATER)
    for order in ([*second, *first], [second[0], second[1], first[0], first[1], second[2], first[2]]):
        referee = made.referee()
        stream = enriched_stream(referee)
        assert words(stream, order, made) == []
        assert referee.interleaved_commit_times() == []
    torn = [first[0], topic("b", LATER)[0], first[2]]
    referee = world("abc").referee()
    assert words(enriched_stream(referee), torn, world("abc")) == []
    assert [one.word for one in referee.interleaved_commit_times()] == ["torn"]


def test_many_copies_in_any_order_of_partitions() -> None:
    chance = random.Random(3)
    for _ in range(200):
        logs = ["".join(chance.choices("abcdef", k=chance.randrange(1, 9))) for _ in range(3)]
        left, text = [list(log) for log in logs], ""
        while any(left):
            text += chance.choice([log for log in left if log]).pop(0)
        assert judged(world(*logs), topic(text)) == [], (logs, text)


def test_the_events_of_these_tests_are_what_they_seem() -> None:
    made = world("ab", "b")
    assert json.loads(made.logs[0][1].value) == json.loads(made.logs[1][0].value)
    assert made.verdicts(0) + made.verdicts(1) == ["accepted"] * 3
