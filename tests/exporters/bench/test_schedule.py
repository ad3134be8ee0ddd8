"""Runs are spread over rounds, and end in about the time that there is."""

from __future__ import annotations

import pytest

from prunec.exporters.bench.schedule import FEWEST, ROUNDS, Schedule, plan_runs


@pytest.mark.parametrize("turn", [1e-5, 1e-3, 0.1, 1.0, 5.0, 100.0])
@pytest.mark.parametrize("seconds", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("runs", [2, 30, 1000])
def test_a_plan_holds_its_limits(turn: float, seconds: float, runs: int) -> None:
    plan = plan_runs(turn, runs=runs, seconds=seconds)
    assert min(runs, FEWEST) <= plan.rounds <= ROUNDS
    assert plan.warm_up >= 1 and plan.turns >= 1
    assert plan.rounds * plan.turns <= runs
    least = 2 * FEWEST * turn  # one turn of each round to warm up, one that counts
    assert plan.rounds * (plan.warm_up + plan.turns) * turn <= max(seconds, least) + 1e-9


def test_there_is_time_for_every_round_of_a_quick_model() -> None:
    plan = plan_runs(1e-4, runs=120, seconds=20)
    assert (plan.rounds, plan.turns) == (ROUNDS, 20)


def test_a_slow_model_gets_fewer_rounds_but_enough_for_an_interval() -> None:
    assert plan_runs(30.0, runs=120, seconds=20) == Schedule(rounds=FEWEST, warm_up=1, turns=1)
