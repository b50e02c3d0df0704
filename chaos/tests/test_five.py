"""Each file of `pipelines/` with a small load on real servers. They fail where no servers answer, or nothing was built;
`./dev test` sees to both."""

from __future__ import annotations

import pytest

from chaos import five
from chaos.processor import ChaosFailure

EVENTS = 3_000


def test_the_systems_are_found() -> None:
    assert {"clickstream-minute", "enriched-activity", "user-activity", "user-sessions"} <= set(five.names())


@pytest.mark.usefixtures("needs_servers")
@pytest.mark.parametrize("name", five.names())
def test_a_system_is_right(name: str) -> None:
    report = five.run(name, EVENTS, seed=1)
    assert five.lines(name, report)[0].startswith(f"{name}: read {EVENTS} = accepted ")


@pytest.mark.usefixtures("needs_servers")
@pytest.mark.parametrize("name", ["clickstream-minute", "user-sessions"])
def test_the_less_is_allowed_the_more_is_too_late(name: str) -> None:
    none, hour = (five.run(name, EVENTS, seed=1, allowed_lateness=lateness) for lateness in ("0s", "1h"))
    counts = [count for count in none.counts if count.endswith(" too_late")]
    assert counts and all(none.counts[count] > hour.counts[count] > 0 for count in counts)
    for report in (none, hour):
        (late,) = [found for topic, found in report.messages.items() if topic.endswith(".late")]
        assert late == sum(report.counts[count] for count in counts)


def test_a_late_topic_with_a_message_too_few_or_too_many_is_not_right() -> None:
    counts = {"hits matched": 9, "hits counted": 7, "hits too_late": 2}
    five.require_lateness(["hits"], counts, messages=2)
    for wrong in (1, 3):
        with pytest.raises(ChaosFailure, match=f"{wrong} messages"):
            five.require_lateness(["hits"], counts, messages=wrong)
    with pytest.raises(ChaosFailure, match="matched 10 <> counted 7"):
        five.require_lateness(["hits"], {**counts, "hits matched": 10}, messages=2)
