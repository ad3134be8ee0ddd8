"""Turns, percentiles and the intervals of ratios, on times that nobody measured."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from prunec.ir.timing import (
    Latency,
    Ratio,
    Seconds,
    balanced_orders,
    paired_ratio,
    ratio_of_rounds,
    take_turns,
)


class Machine:
    """A clock that calls put forward.

    Args:
        steps: seconds that each call takes.
    """

    def __init__(self, *steps: float) -> None:
        self.now = 0.0
        self.order: list[int] = []
        self.calls = [lambda which=which: self._run(which, steps[which]) for which in range(len(steps))]

    def _run(self, which: int, seconds: float) -> None:
        self.order.append(which)
        self.now += seconds

    def clock(self) -> float:
        return self.now


def test_ratio_of_pairs_ignores_what_slows_both_down() -> None:
    machine = np.random.default_rng(0).uniform(1, 10, 100)  # the machine's mood, the same for both of a pair
    assert paired_ratio(3 * machine, machine) == pytest.approx((3, 3, 3))


def test_interval_holds_the_median_and_narrows_with_more_pairs() -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.2, (2, 1000))
    few = paired_ratio(noise[0, :20], noise[1, :20])
    many = paired_ratio(noise[0], noise[1])
    for ratio, low, high in (few, many):
        assert low < ratio < high
    assert many[2] - many[1] < (few[2] - few[1]) / 2
    assert many[1] < 1 < many[2]


def test_same_seed_same_interval() -> None:
    a, b = np.random.default_rng(0).lognormal(0, 0.2, (2, 30))
    assert paired_ratio(a, b, seed=1) == paired_ratio(a, b, seed=1) != paired_ratio(a, b, seed=2)


def test_percentiles() -> None:
    found = Latency.of(np.arange(1, 102, dtype=float))
    assert (found.p50, found.p95, found.p99, found.best) == (51, 96, 100, 1)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_call_is_behind_every_other_equally_often(count: int) -> None:
    orders = balanced_orders(count)
    neighbours = Counter(pair for order in orders for pair in pairwise(order))
    positions = Counter(place for order in orders for place in enumerate(order))
    assert len(neighbours) == count * (count - 1)
    assert len(positions) == count * count
    assert len(set(neighbours.values())) == len(set(positions.values())) == 1


def test_times_are_those_of_their_calls() -> None:
    machine = Machine(0.5, 0.25, 1.0)
    seconds = take_turns(machine.calls, 4, warm_up=2, clock=machine.clock)
    assert seconds.tolist() == [[0.5] * 4, [0.25] * 4, [1.0] * 4]
    assert len(machine.order) == 3 * 6


def test_time_that_is_up_ends_the_turns_but_leaves_two() -> None:
    machine = Machine(1.0, 1.0)
    assert take_turns(machine.calls, 100, warm_up=1, seconds=9, clock=machine.clock).shape == (2, 4)
    assert take_turns(machine.calls, 100, warm_up=1, seconds=0, clock=machine.clock).shape == (2, 2)


def of_one_model(generator: np.random.Generator, rounds: int, between: float) -> tuple[Seconds, Seconds]:
    """Seconds of a model against itself, [rounds, 20]: sessions differ by ``between``, runs by 5 %."""
    sessions = generator.lognormal(0, between, (2, rounds, 1))
    seconds = sessions * generator.lognormal(0, 0.05, (2, rounds, 20))
    return seconds[0], seconds[1]


@pytest.mark.parametrize("rounds", [3, 5, 10])
def test_interval_of_rounds_holds_one_for_a_model_against_itself(rounds: int) -> None:
    generator = np.random.default_rng(rounds)
    found = [paired_ratio(*of_one_model(generator, rounds, 0.02)) for _ in range(150)]
    assert np.mean([ratio.low <= 1 <= ratio.high for ratio in found]) >= 0.9


def test_pairs_of_one_session_hide_how_sessions_differ() -> None:
    generator = np.random.default_rng(0)
    flat = [paired_ratio(*(part.ravel() for part in of_one_model(generator, 2, 0.05))) for _ in range(60)]
    assert np.mean([ratio.low <= 1 <= ratio.high for ratio in flat]) < 0.7  # which is why there are rounds


def test_rounds_of_different_speed_have_the_same_ratio() -> None:
    speed = np.array([[1.0], [5.0], [0.2]])
    b = np.random.default_rng(0).lognormal(0, 0.01, (3, 30)) * speed
    assert paired_ratio(1.5 * b, b) == pytest.approx(Ratio(1.5, 1.5, 1.5))


def test_rounds_may_differ_in_length() -> None:
    long, short = np.array([[4.0, 4, 4, 9], [2.0, 2, 2, 2]]), np.array([[9.0], [2.0]])
    assert ratio_of_rounds([long, short], 0, 1).value == pytest.approx(3)  # of 2 and of 4.5
    assert ratio_of_rounds([long], 1, 0) == paired_ratio(long[1], long[0])
