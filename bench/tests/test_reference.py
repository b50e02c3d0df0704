"""The reference events are the same bytes wherever they are made."""

import hashlib

import pytest

from bench.reference import write
from bench.truth import NotW1, truth_of


def test_bytes_and_totals_are_those_the_peers_were_measured_with(tmp_path):
    file = tmp_path / "new" / "events.ndjson"
    write(20_000, file)
    # Of the generator that made the peers' events; its 2,000,000 have 64d344d96dad3db7...
    assert hashlib.sha256(file.read_bytes()).hexdigest() == (
        "e99040aaa5a226d4dae06d482bb742477658fbf76952bccdd83f73822acbc2b6"
    )
    truth = truth_of(str(file))
    assert (truth.records.count, truth.page_views, truth.page_view_rows, truth.sessions) == (
        20_000,
        13_964,
        7_172,
        882,
    )
    assert [path.name for path in file.parent.iterdir()] == ["events.ndjson"]


def test_every_user_has_as_many_events(tmp_path):
    with pytest.raises(NotW1, match="not a multiple of 40"):
        write(50, tmp_path / "events.ndjson")
    assert list(tmp_path.iterdir()) == []
