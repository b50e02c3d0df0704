"""Enough of each kind of kill, in an order in which each point is reached."""

from __future__ import annotations

import pytest

from chaos import phases
from chaos.schedule import BACKENDS, FREEZE, REBALANCES, Means, Schedule
from chaos.wire_faults import FAULTS


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


ALL_MEANS = Means(wire=True, freeze=True, instances=3)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kills", [20, 100])
def test_what_else_befalls_a_run_of_several_instances(kills: int, seed: int) -> None:
    plans = Schedule(kills, seed, ALL_MEANS).plans
    assert len(plans) == kills
    assert sum(plan.trouble in REBALANCES for plan in plans) >= kills // 10
    assert sum(plan.wire is not None for plan in plans) == kills // 10
    assert {"kafka", "postgres", FREEZE, *REBALANCES} <= {plan.trouble for plan in plans}
    assert {plan.victim for plan in plans} == {0, 1, 2}
    assert all(plan.aim is None and plan.trouble is None for plan in plans if plan.wire)
    assert all(1 <= plan.turn <= plan.wire.most for plan in plans if plan.wire)


@pytest.mark.parametrize("seed", range(20))
def test_what_a_kill_prepares_lies_with_one_instance(seed: int) -> None:
    plans = Schedule(100, seed, ALL_MEANS).plans
    for before, plan in zip(plans, plans[1:], strict=False):
        if plan.aim and plan.aim.point in (*phases.OUTPUTS_ONLY, *phases.REPLAY):
            assert before.victim == plan.victim
        if plan.aim and plan.aim.point in phases.BOOTSTRAP:
            assert plan.victim == 0


def test_every_fault_on_the_wire_gets_its_turn() -> None:
    plans = Schedule(10 * len(FAULTS), 1, ALL_MEANS).plans
    assert {plan.wire for plan in plans if plan.wire} == set(FAULTS)


def test_other_means_leave_the_kills_as_they_are() -> None:
    plain, rich = Schedule(100, 1), Schedule(100, 1, Means(wire=True, freeze=True))
    assert [plan.aim for plan in plain.plans] == [plan.aim for plan in rich.plans]
