"""Enough of each kind of kill, in an order in which each point is reached."""

from __future__ import annotations

import pytest

from chaos import phases
from chaos.schedule import BACKENDS, Schedule


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kills", [20, 100])
def test_quotas(kills: int, seed: int) -> None:
    plans = Schedule(kills, seed).plans
    aimed = [plan.aim.point for plan in plans if plan.aim]
    assert len(plans) == kills and len(aimed) == kills // 2
    for points in phases.CLASSES.values():
        assert sum(point in points for point in aimed) >= kills // 10
    assert {"kafka", "postgres"} <= {plan.trouble for plan in plans}


@pytest.mark.parametrize("seed", range(20))
def test_prerequisites(seed: int) -> None:
    plans = Schedule(100, seed).plans
    for before, plan in zip(plans, plans[1:], strict=False):
        if plan.aim and plan.aim.point in phases.OUTPUTS_ONLY:
            assert before.aim.point in phases.DECIDED
        if plan.aim and plan.aim.point in phases.REPLAY:
            assert before.aim.point in ("kafka-committed", "state-writing")
        if plan.aim and plan.aim.point in phases.RECOVERY:
            assert plan.trouble == BACKENDS
    assert [plan.aim.point for plan in plans[:3]] == list(phases.BOOTSTRAP)


def test_a_seed_is_a_schedule() -> None:
    assert Schedule(100, 5).plans == Schedule(100, 5).plans != Schedule(100, 6).plans
