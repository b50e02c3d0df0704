"""The events of `chaos.order` are of every kind, and spread so that nothing but order and place differs."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

from chaos.order import SHORT, WAYS, Way, spread
from chaos.order_events import LATE_BY, MOST_BYTES, TOO_LATE_BY, Event, bad_values, enriched, spell

PARTITIONS = 3
START = datetime(2026, 1, 30, 1, tzinfo=UTC)
COUNT = 3_000


def line(number: int) -> bytes:
    time = (START + number * timedelta(seconds=3)).isoformat()
    user = f"user{number % 50:06}"
    return spell({"event_time": time, "user_id": user, "page_url": "/a", "event_type": "page_view"})


def log() -> list[Event]:
    return enriched([line(number) for number in range(COUNT)], 1, PARTITIONS)


def times(events: list[Event]) -> list[datetime]:
    """Of those that have one."""
    found = []
    for event in events:
        try:
            found.append(datetime.fromisoformat(json.loads(event.value)["event_time"]))
        except (TypeError, ValueError):
            pass
    return found


def test_events_are_late_too_late_copied_and_bad():
    events = log()
    assert {len(event.value or b"") > MOST_BYTES for event in events} == {True, False}
    furthest, lags = START, Counter()
    for time in times(events):
        lags[(furthest - time) // timedelta(minutes=1)] += 1
        furthest = max(furthest, time) if time.year == START.year else furthest
    assert lags[LATE_BY // timedelta(minutes=1)] > 10 and lags[TOO_LATE_BY // timedelta(minutes=1)] > 10
    copies = sum(count - 1 for value, count in Counter(event.value for event in events).items() if value)
    assert copies > 10


def test_every_bad_value_is_of_another_kind():
    event = json.loads(line(0))
    values = [make(event) for make in bad_values()]
    assert len(set(values)) == len(values) and spell(event) not in values


def test_users_whose_order_matters_keep_it_and_the_others_do_not():
    events = log()
    keyed, hop = (spread(events, way, PARTITIONS, 1) for way in (Way(), Way(keyed=False)))
    for way in (keyed, hop):
        assert sum(map(len, way)) == len(events) and all(way)
    fixed = {event.user for event in events if event.fixed}
    places = [
        {
            user: {place for place, part in enumerate(way) for event in part if event.user == user}
            for user in fixed
        }
        for way in (keyed, hop)
    ]
    assert all(len(found) == 1 for way in places for found in way.values())
    assert all(places[0][user] != places[1][user] for user in places[0])
    free = {event.user for event in events if not event.fixed}
    assert all(free == {event.user for event in part if not event.fixed} for part in hop)


def test_all_watermarks_end_alike():
    events = log()
    for way in (Way(), Way(keyed=False)):
        ends = {json.loads(part[-1].value)["event_time"] for part in spread(events, way, PARTITIONS, 1)}
        assert len(ends) == 1


def test_the_short_form_has_the_hop_and_what_it_is_compared_with():
    assert SHORT[0] == WAYS[0] and SHORT[0].keyed
    assert not any(way.keyed for way in SHORT[1:])
    assert any(way.apart for way in SHORT[1:]) and any(way.internal for way in SHORT[1:])
