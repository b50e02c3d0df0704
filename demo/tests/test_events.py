"""The log gives the events that data/NOTICE.md counts."""

import json
from collections import Counter

from demo.events import LINES, PAGE_VIEWS, event_of, messages


def test_the_log_gives_the_counts_of_its_notice():
    sent = list(messages())
    events = [json.loads(message.value) for message in sent if message.key is not None]
    assert len(sent) == LINES
    assert [number for number, message in enumerate(sent, 1) if message.key is None] == [8_899]
    assert Counter(event["event_type"] for event in events) == {
        "page_view": PAGE_VIEWS,
        "asset": 5_436,
        "error": 208,
        "probe": 43,
        "submit": 5,
    }
    assert len({event["user_id"] for event in events}) == 1_861
    assert len({event["event_id"] for event in events}) == 9_980


def test_a_line_becomes_an_event():
    event = event_of(
        '83.149.9.216 - - [17/May/2015:12:05:03 +0200] "GET /a/b.png?x=1 HTTP/1.1" 200 12 "-" '
        '"Mozilla/5.0 (iPad) Version/7.0 Mobile Safari/537.36"'
    )
    assert event is not None
    assert event["event_time"] == "2015-05-17T10:05:03Z"
    assert event["page_url"] == "http://semicomplete.com/a/b.png?x=1"
    assert (event["event_type"], event["device_type"], event["browser"]) == ("asset", "tablet", "Safari")
    assert event["referrer"] is None


def test_a_line_that_never_closes_gives_no_event():
    assert (
        event_of('1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-" "Mozilla/5.0') is None
    )
