"""Totals of files that can be counted by hand, and what does not agree with them is refused."""

import json
from types import SimpleNamespace

import pytest

import bench.recorded
from bench.pipeline import with_outputs
from bench.recorded import Recorded, apart, check_estimates
from bench.truth import Miscounted, NotW1, Records, Truth, truth_of, user_of

# Minutes since 1970 of the hour in which events happen.
HOUR = 29_453_760 + 60


def event(time: str, user: str, page: str, kind: str = "page_view") -> bytes:
    fields = {"event_time": f"2026-01-01T01:{time}Z", "user_id": user, "page_url": page, "event_type": kind}
    return json.dumps(fields).encode()


@pytest.fixture
def file(tmp_path):
    def made(*lines: bytes) -> str:
        path = tmp_path / "events.ndjson"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return str(path)

    return made


def test_rows_are_pages_of_a_minute_and_sessions_end_after_more_than_ten(file):
    truth = truth_of(
        file(
            event("00:00.000", "a", "/x"),
            event("00:59.999", "b", "/x"),
            event("00:30.000", "a", "/y", "click"),
            event("01:00.000", "a", "/x"),
            event("11:00.000", "a", "/x"),
            event("21:00.001", "a", "/x"),
            event("21:02.500", "a", "/z"),
        )
    )
    # Of a: ten minutes apart are one session, a millisecond more are two, of 660 and 2.499 s.
    assert (truth.records.count, truth.page_views, truth.page_view_rows) == (7, 6, 5)
    assert (truth.sessions, truth.session_seconds) == (3, 662)


def test_user_counts_once_in_each_of_five_windows(file):
    truth = truth_of(
        file(
            event("00:01", "a", "/x"),
            event("01:59", "a", "/y", "click"),
            event("01:59", "b", "/x"),
            event("07:00", "b", "/x"),
        )
    )
    first = {HOUR - 4: 1, HOUR - 3: 2, HOUR - 2: 2, HOUR - 1: 2, HOUR: 2, HOUR + 1: 2}
    assert truth.active_users == first | {HOUR + minute: 1 for minute in range(3, 8)}


def test_late_event_and_what_is_no_event_are_refused(file):
    assert truth_of(file(event("02:00", "a", "/x"), event("00:00", "b", "/x"))).records.count == 2
    with pytest.raises(NotW1, match="120.1 s older"):
        truth_of(file(event("02:00.1", "a", "/x"), event("00:00", "b", "/x")))
    for line in (b"", b"{}", b'{"user_id":"a"}', b'[{"user_id":"a"}]', event("00:00", "a", "/x")[:-1]):
        with pytest.raises(NotW1, match="line 2: "):
            truth_of(file(event("00:00", "a", "/x"), line))
    with pytest.raises(NotW1, match="no events"):
        truth_of(file())


def test_key_is_the_user_as_it_stands_in_the_line():
    assert user_of(b'{"a":1,"user_id":"user7","b":2}') == user_of(b'{"user_id" : "user7"}') == b"user7"


def test_checksum_depends_on_every_byte_and_not_on_order():
    lines = [b'{"a":1}', b'{"a":{"b":2}}']
    kept = Records.of(lines, b"}")
    copies = [line[:-1] + b',"processing_time":"now"}' for line in reversed(lines)]
    assert Records.of(copies, b',"processing_time":') == kept
    assert kept != Records.of([lines[0], lines[0]], b"}")
    assert kept != Records.of(lines, b',"processing_time":')
    assert kept != Records.of([*lines, b""], b"}")


def test_estimates_may_be_off_each_but_not_all_to_one_side():
    wanted = {minute: 1_000 for minute in range(100)}
    check_estimates({minute: 1_070 if minute % 2 else 930 for minute in wanted}, wanted)
    for found in (wanted | {7: 1_081}, {minute: 1_021 for minute in wanted}, wanted | {100: 1}):
        with pytest.raises(Miscounted, match="active_users"):
            check_estimates(found, wanted)


RIGHT = {
    "page_view_counts": [(5, 6)],
    "user_sessions": [(3, 662, 6, 7)],
    "active_users": [(HOUR, 2)],
    "output": Records(7, 123),
}


@pytest.fixture
def check(monkeypatch):
    def checked(found: dict) -> None:
        corner = SimpleNamespace(select=lambda query: found[query.rpartition(" ")[2]])
        monkeypatch.setattr(bench.recorded, "apart", lambda *_: found["output"])
        truth = Truth(Records(7, 123), 6, 5, 3, 662, {HOUR: 2})
        Recorded("events.ndjson", truth).check(corner, with_outputs("ABCD"))

    return checked


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("page_view_counts", [(5, 7)]),
        ("page_view_counts", [(4, 6)]),
        ("user_sessions", [(3, 661, 6, 7)]),
        ("active_users", [(HOUR, 3)]),
        ("output", Records(7, 124)),
    ],
)
def test_output_that_is_wrong_is_found(check, where, wrong):
    check(RIGHT)
    with pytest.raises(Miscounted, match=where):
        check(RIGHT | {where: wrong})


def test_work_apart_answers_and_fails_as_here():
    assert apart(user_of, b'{"user_id":"a"}') == b"a"
    with pytest.raises(ValueError, match="no user_id"):
        apart(user_of, b"{}")
