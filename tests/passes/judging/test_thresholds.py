"""Thresholds are judged by intervals: held, failed, or left undecided by too few samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph

import prunec
from prunec.ir.diagnostics import GateError, UserError
from prunec.passes.judging.slice_file import parse_slices
from prunec.passes.judging.thresholds import Limits, checks_of


@pytest.mark.parametrize(
    ("limits", "interval", "drop", "status"),
    [
        (Limits(minimum=0.8), (0.85, 0.95), None, "holds"),
        (Limits(minimum=0.9), (0.85, 0.95), None, "undecided"),
        (Limits(minimum=0.96), (0.85, 0.95), None, "fails"),
        (Limits(maximum=0.96), (0.85, 0.95), None, "holds"),
        (Limits(maximum=0.9), (0.85, 0.95), None, "undecided"),
        (Limits(maximum=0.8), (0.85, 0.95), None, "fails"),
        (Limits(max_drop=0.1), (0, 1), (0.02, 0.05), "holds"),
        (Limits(max_drop=0.03), (0, 1), (0.02, 0.05), "undecided"),
        (Limits(max_drop=0.01), (0, 1), (0.02, 0.05), "fails"),
        (Limits(max_drop=0.0), (0, 1), (0.0, 0.0), "holds"),
        (Limits(min_size=11), (0.9, 0.9), None, "fails"),
        (Limits(minimum=0.9), (float("nan"), float("nan")), None, "undecided"),
    ],
)
def test_a_threshold_fails_only_if_the_favourable_end_is_beyond_it(
    limits: Limits, interval: tuple[float, float], drop: tuple[float, float] | None, status: str
) -> None:
    [check] = checks_of(
        limits,
        size=10,
        value=0.9,
        interval=interval,
        drop=None if drop is None else 0.03,
        drop_interval=drop or (float("nan"), float("nan")),
    )
    assert check.status == status


RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 400)
HARD = RNG.random(400) < 0.1
X = np.eye(4, dtype=np.float32)[LABELS]
DATA: dict[str, Any] = {"x": X, "label": LABELS, "hard": HARD, "number": np.arange(400)}
DENSE = graph("net (float[N,4] x) => (float[N,4] y) { y = Identity(x) }")
ORDER = "<int64[4] order = {%s}>"
BAD = graph(  # never chooses class 3
    "net (float[N,4] x) => (float[N,4] y) <float[4] b = {0.5, 0.0, 0.0, -9.0}> { y = Add(x, b) }"
)


def judged(text: str, module: prunec.Module = BAD, metric: str | None = None) -> Any:
    return prunec.evaluate(module, DATA, metric, reference=DENSE, slices=parse_slices(text))


def test_rows_are_the_whole_set_and_its_slices() -> None:
    result = judged("[slices.three]\nwhere = 'label = 3'\n[slices.rest]\nwhere = 'label < 3'")
    whole, three, rest = result.rows
    share = float((LABELS == 3).mean())
    assert whole.value == result.value == pytest.approx(1 - share) and whole.drop == pytest.approx(share)
    assert (three.value, three.drop, three.size) == (0.0, 1.0, int((LABELS == 3).sum()))
    assert (rest.value, rest.drop) == (1.0, 0.0) and rest.drop_interval == pytest.approx(
        (-0.0133, 0.0133), abs=1e-4
    )
    assert not three.checks and result.status == "holds"


@pytest.mark.parametrize(
    ("limits", "status", "failure"),
    [
        ("max-drop = 0.5", "fails", "slice `three` (116 samples): top1 drops by 1 [0.9359, 1], at most 0.5 is allowed"),
        ("max-drop = '50%'", "fails", "top1 drops by 1 [0.9359, 1] of the dense model's, at most 0.5 is allowed"),
        ("max-drop = 1", "holds", None),
        ("min = 0.1", "fails", "slice `three` (116 samples): top1 is 0 [0, 0.03205], at least 0.1 is demanded"),
        ("min-size = 200", "fails", "slice `three` (116 samples): top1 is measured on 116 samples, at least 200 are needed"),
    ],
)  # fmt: skip
def test_failures_are_told_with_numbers(limits: str, status: str, failure: str | None) -> None:
    assert (LABELS == 3).sum() == 116
    result = judged(f"[slices.three]\nwhere = 'label = 3'\n{limits}")
    assert result.status == status
    assert [failure is not None and failure in line for line in result.failures()] == [True] * (
        failure is not None
    )
    if failure:
        with pytest.raises(GateError) as caught:
            result.require(file="slices.toml")
        assert str(caught.value).startswith("error: slices.toml: slice `three` (116 samples): ")


def test_a_small_slice_is_not_judged_by_noise() -> None:
    """Two of ten samples are wrong: a demand of 90 % is neither kept nor broken, one of 99 % of all 400 is broken."""
    few = "[slices.few]\nwhere = 'number < 10'\nmin = 0.9"
    result = judged(few)
    row = result.rows[1]
    assert row.value < 0.9 and row.status == "undecided"
    assert not list(result.failures()) and len(list(result.failures(undecided=True))) == 1
    assert judged("[all]\nmin = 0.9").status == "fails"


def test_less_than_ten_samples_that_are_resampled_decide_nothing() -> None:
    result = judged("[slices.few]\nwhere = 'number < 9'\nmetric = 'f1'\nmin = 0.1\nmax-drop = 0.9\n")
    assert {check.status for check in result.rows[1].checks} == {"undecided"}
    assert "(too few samples for an interval), at least 0.1 is demanded" in result.rows[1].checks[0].why


def test_drops_are_paired() -> None:
    """Both models are wrong on the same hard samples: the value varies, the drop does not."""
    scores = X.copy()
    scores[HARD] = np.roll(scores[HARD], 1, axis=1)
    data = {"x": scores, "label": LABELS}
    twin = graph("net (float[N,4] x) => (float[N,4] y) { y = Add(x, x) }")
    row = prunec.evaluate(twin, data, reference=DENSE).rows[0]
    assert row.interval[1] - row.interval[0] > 0.05 and row.drop_interval == pytest.approx(
        (-0.0095, 0.0095), abs=1e-4
    )


def test_slices_may_have_metrics_of_their_own_and_less_may_be_better() -> None:
    text = "metric = 'f1'\n[slices.a]\nwhere = 'label < 2'\nmetric = 'perplexity'\nmax = 4\nmax-drop = 3.0"
    result = judged(text)
    assert [row.metric for row in result.rows] == ["f1", "perplexity"]
    row = result.rows[1]
    assert row.dense is not None and row.drop == pytest.approx(row.value - row.dense)
    assert {check.status for check in row.checks} == {"holds"}


@pytest.mark.parametrize(
    ("text", "metric", "message"),
    [
        ("[slices.a]\nwhere = 'true'\nmin = 1", "perplexity",
         "<slices>: 'a' limits perplexity by 'min', but lower is better\n  = help: write max = 1"),
        ("[all]\nmax = 1", None, "<slices>: 'all' limits top1 by 'max', but higher is better\n  = help: write min = 1"),
        ("[all]\nmin = 90", None, "<slices>: 'all' has min = 90, but top1 is between 0 and 1\n  = help: write min = 0.9"),
        ("[slices.a]\nwhere = 'true'\nmax-drop = 2", "agreement",
         "<slices>: 'a' has max-drop = 2, but agreement is between 0 and 1\n  = help: write max-drop = 0.02"),
    ],
)  # fmt: skip
def test_limits_go_together_with_the_metric(text: str, metric: str | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        judged(text, metric=metric)
    assert str(caught.value) == f"error: {message}"


def test_a_drop_needs_a_dense_model() -> None:
    with pytest.raises(UserError, match="'all' limits the drop against the dense model, and none is given"):
        prunec.evaluate(DENSE, DATA, slices=parse_slices("[all]\nmax-drop = 1"))
