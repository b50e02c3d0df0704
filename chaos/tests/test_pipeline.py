"""Reading the file."""

from __future__ import annotations

import pytest

from chaos.referee import pipeline, units

from .click_worlds import CLICKS
from .session_worlds import CUT, SESSIONS
from .worlds import TEXT


def test_environment_and_defaults() -> None:
    text = TEXT.replace("name: sample", 'name: "${APP:-plain}"').replace("name: events", 'name: "${TOPIC}"')
    assert pipeline.parse(text, {"TOPIC": "t1"}).name == "plain"
    found = pipeline.parse(text, {"TOPIC": "t1", "APP": "other"})
    assert (found.name, found.sources["activity"].topic) == ("other", "t1")
    with pytest.raises(ValueError, match="TOPIC"):
        pipeline.parse(text, {})


def test_names_and_numbers() -> None:
    found = pipeline.parse(TEXT, {}, "renamed")
    source = found.sources["activity"]
    assert found.name == "renamed"
    assert (source.dead_topic, source.late_topic) == ("activity.dead-letters", "activity.late")
    assert (source.delay, source.max_future, source.max_record_bytes) == (10_000_000, 300_000_000, 100_000)
    assert [one.window.size for one in found.aggregates] == [60_000_000, 300_000_000]


def with_window(text: str) -> pipeline.Pipeline:
    return pipeline.parse(TEXT.replace("window: { tumble: 1m }", f"window: {{ {text} }}"), {})


def test_sliding_windows() -> None:
    window = with_window("slide: 1m, size: 5m").aggregates[0].window
    assert (window.size, window.slide) == (300_000_000, 60_000_000)
    assert [one.window.slide for one in pipeline.parse(TEXT, {}).aggregates] == [60_000_000, 300_000_000]


@pytest.mark.parametrize("text", ["slide: 0s, size: 5m", "slide: 6m, size: 5m"])
def test_a_slide_that_leaves_gaps_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="slide"):
        with_window(text)


@pytest.mark.parametrize("text", ["max_duration: 1h", "slide: 1m", "tumble: 1m, size: 1m"])
def test_what_is_not_judged_is_refused(text: str) -> None:
    with pytest.raises(pipeline.Unsupported):
        with_window(text)


def test_sessions() -> None:
    keyed = SESSIONS.replace("    keyed_by: user_id\n", "")
    assert pipeline.parse(SESSIONS, {}).aggregates[0].window == pipeline.Sessions(1_800_000_000)
    assert pipeline.parse(CUT, {}).aggregates[0].window == pipeline.Sessions(1_800_000_000, 3_600_000_000)
    assert pipeline.parse(SESSIONS, {}).aggregates[0].latest_view == "visits_latest"
    with pytest.raises(ValueError, match="not keyed"):
        pipeline.parse(keyed, {})
    with pytest.raises(pipeline.Unsupported, match="latest"):
        pipeline.parse(SESSIONS.replace("latest: [user_id]", "latest: [other]"), {})


def test_dedup_and_record_tables() -> None:
    found = pipeline.parse(CLICKS, {})
    assert found.sources["clicks"].dedup == pipeline.Dedup((("id", "id"),), 48_000_000)
    assert [(one.table, one.key) for one in found.tables] == [("raw_clicks", ("id",)), ("journal", ())]
    assert [one.topic for one in found.records] == ["enriched"]


def test_repartitioned_sources() -> None:
    text = SESSIONS.replace("keyed_by: user_id", "repartition_by: user_id")
    found = pipeline.parse(text, {})
    assert found.sources["activity"].internal_topic(found.name) == "sample.activity.by-user_id"
    other = text.replace("repartition_by: user_id", "repartition_by: { field: user_id, partitions: 6 }")
    assert pipeline.parse(other, {}).sources == found.sources
    with pytest.raises(ValueError, match="not keyed"):
        pipeline.parse(text.replace("repartition_by: user_id", "repartition_by: event_type"), {})


def test_units() -> None:
    assert units.duration_micros("1h30m") == 5_400_000_000
    assert units.size_bytes("1MiB") == 1_048_576
    with pytest.raises(ValueError):
        units.duration_micros("5 parsecs")
