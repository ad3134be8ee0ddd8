"""Intervals for few samples: published values, all right and all wrong, and what is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph

import prunec
from prunec.passes.judging.custom import custom_metric
from prunec.passes.judging.intervals import Intervals, intervals_of, tango, wilson
from prunec.passes.judging.metrics import Metric, parse_metric
from prunec.passes.judging.slice_file import parse_slices

NET = graph("net (float[N,4] x) => (float[N,4] y) { y = Identity(x) }")
RIGHT = np.arange(3)


def test_score_intervals_are_the_published_ones() -> None:
    """81 of 263 (Newcombe 1998), and 1 against 7 discordant pairs of 21 (Fagerland et al. 2014)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=1e-3)
    assert tango(7, 1, 21) == pytest.approx((0.026, 0.517), abs=1e-3)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (3, 0), (0, 3), (1, 1)])
def test_a_difference_is_within_its_interval(lost: int, won: int) -> None:
    low, high = tango(lost, won, 3)
    assert -1 <= low <= (lost - won) / 3 <= high <= 1 and high - low > 0.9


@pytest.mark.parametrize(
    ("labels", "limits", "status"),
    [
        (RIGHT, "min = 0.99", "undecided"),
        (RIGHT, "min = 0.4", "holds"),
        (RIGHT, "max-drop = 0.001", "undecided"),
        (RIGHT, "max-drop = '0.1%'", "undecided"),
        (RIGHT, "max-drop = 0.6", "holds"),
        (RIGHT + 1, "min = 0.01", "undecided"),
        (RIGHT + 1, "min = 0.6", "fails"),
    ],
)
def test_three_samples_decide_little(labels: Any, limits: str, status: str) -> None:
    data = {"x": np.eye(4, dtype=np.float32)[:3], "label": labels}
    result = prunec.evaluate(NET, data, "top1", reference=NET, slices=parse_slices(f"[all]\n{limits}"))
    assert result.value in (0, 1) and result.status == status


def found(metric: Metric | str, own: Any, dense: Any = None) -> Intervals:
    chosen = parse_metric(metric) if isinstance(metric, str) else metric
    tables = [None if t is None else np.asarray(t, np.float64) for t in (own, dense)]
    assert tables[0] is not None
    return intervals_of(chosen, tables[0], tables[1])


def test_samples_without_labels_do_not_count() -> None:
    assert found("top1", [[1, 1]] * 3 + [[0, 0]] * 50).value == wilson(3, 3)


def test_shares_of_many_positions_and_f1_know_their_edge() -> None:
    assert found("top1", [[7, 7]] * 5).value == pytest.approx(wilson(5, 5))
    assert found("f1", [[1, 1], [0, 0]] * 3).value == pytest.approx(wilson(6, 6))
    assert found("top1", [[6, 7]] * 5, [[7, 7]] * 5).drop == pytest.approx(tango(5 / 7, 0, 5))


@pytest.mark.parametrize(
    ("rows", "known"), [([[1.0, 1]] * 59, False), ([[1.0, 1]] * 60, True), ([[1.0, 1], [2.0, 1]] * 4, False)]
)
def test_few_or_equal_errors_say_nothing_of_other_samples(rows: Any, known: bool) -> None:
    both = found("mae", rows, rows)
    assert both.drop is not None
    assert [not np.isnan(end) for end in (*both.value, *both.drop)] == [known] * 4


def test_means_of_zeros_and_ones_of_the_users_are_shares() -> None:
    metric = custom_metric("operator:and_")
    assert found(metric, [[1.0]] * 9 + [[0.0]]).value == wilson(9, 10)
    assert found(metric, [[0.5]] * 9 + [[0.0]]).value != wilson(9, 10)


def test_what_is_unknown_is_undecided_and_told() -> None:
    data = {"x": np.zeros((3, 4), np.float32), "label": np.ones((3, 4), np.float32)}
    result = prunec.evaluate(NET, data, "mae", slices=parse_slices("[all]\nmax = 2"))
    assert result.status == "undecided" and result.to_json()["interval"] == [None, None]
    [line] = result.failures(undecided=True)
    assert line.endswith("mae is 1 (too few samples for an interval), at most 2 is allowed")
