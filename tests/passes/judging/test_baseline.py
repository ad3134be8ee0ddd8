"""Distributions that are stored and compared, and what a baseline says of a model on other samples."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from core_graphs import graph

import prunec
from prunec.ir.diagnostics import UserError
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.judging.baseline import Baseline, measure_baseline
from prunec.passes.judging.distributions import Distribution, input_features, output_features

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal(5000)
COUNTS = RNG.poisson(200, 5000)
LETTERS = RNG.choice(["a", "b", "c"], 5000, p=[0.5, 0.3, 0.2])


def stored(values: Any) -> Distribution:
    """A distribution that has been through JSON."""
    made = Distribution.of("x", np.asarray(values)).to_json()
    row = json.loads(json.dumps(made))
    return Distribution(
        name="x",
        samples=row["samples"],
        quantiles=tuple(row.get("quantiles", ())),
        shares=row.get("shares", {}),
    )


@pytest.mark.parametrize(
    "values", [NORMAL, COUNTS, LETTERS, NORMAL > 0, np.round(NORMAL), np.zeros(50), NORMAL.astype(np.float32)]
)
def test_other_samples_of_the_same_kind_are_stable(values: np.ndarray) -> None:  # fmt: skip
    drift = stored(values[::2]).drift(values[1::2])
    assert drift.status == "stable" and drift.psi < 0.05
    assert drift.ks is None or drift.ks < 0.05


@pytest.mark.parametrize(
    ("before", "now", "ks"),
    [
        (NORMAL, NORMAL + 1, 0.383),  # 2 Phi(1/2) - 1
        (NORMAL, np.full(100, 0.0), 0.5),
        (COUNTS, COUNTS + 20, None),
        (LETTERS, np.array(["a", "d"] * 100), None),
        (NORMAL > 0, NORMAL > 2, None),
    ],
)
def test_a_shift_is_a_drift(before: np.ndarray, now: np.ndarray, ks: float | None) -> None:
    drift = stored(before).drift(now)
    assert drift.status == "drifted" and drift.psi > 0.25
    assert ks is None or drift.ks == pytest.approx(ks, abs=0.03)
    assert stored(before).drift(now, limit=100).status == "notable"


def test_the_index_is_that_of_its_definition() -> None:
    drift = stored(["a"] * 50 + ["b"] * 50).drift(np.array(["a"] * 80 + ["b"] * 20))
    high, low = 80.5 / 101, 20.5 / 101  # half a sample more in each bin
    expected = (high - 0.5) * np.log(high / 0.5) + (low - 0.5) * np.log(low / 0.5)
    assert drift.psi == pytest.approx(expected)


def test_few_samples_alone_are_no_drift() -> None:
    """What chance gives 12 samples in ten bins is often above the usual limit, and hardly ever counts."""
    known = stored(NORMAL)
    found = [known.drift(RNG.standard_normal(12)) for _ in range(200)]
    assert np.mean([drift.psi > 0.25 for drift in found]) > 0.5
    assert np.mean([drift.status in ("notable", "drifted") for drift in found]) < 0.02
    assert np.mean([drift.status == "too few" for drift in found]) > 0.4
    assert known.drift(NORMAL[:1]).status == "too few" == stored(np.zeros(50)).drift(np.zeros(1)).status


def test_classes_of_a_table_with_gaps_are_classes() -> None:
    assert stored([1, 2, 3] * 30).drift(np.array([1.0, 2.0, np.nan, 3.0] * 20)).status == "stable"


def test_what_is_watched_of_inputs_and_outputs() -> None:
    data = {"x": np.ones((4, 3), np.float32), "ids": np.ones((4, 5), int), "label": np.arange(4)}
    assert [name for name, _ in input_features(data)] == ["label", "x_mean", "x_std", "ids_length"]
    outputs = {
        "scores": np.array([[1.0, 4.0, 2.5]]),
        "depth": np.ones((1, 4, 4), np.float32),
        "flag": np.array([True]),
        "words": np.array(["a"]),
    }
    found = {name: values.tolist() for name, values in output_features(outputs)}
    assert found == {
        "class of scores": [1],
        "margin of scores": [1.5],
        "mean of depth": [1.0],
        "spread of depth": [0.0],
        "flag": [True],
    }


NET = graph("net (float[N,4] x) => (float[N,4] y) { y = Identity(x) }")


def samples(shift: float = 0.0, *, wrong: float = 0.0, seed: int = 0) -> CalibrationData:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((600, 4)) + shift).astype(np.float32)
    labels = np.where(rng.random(600) < wrong, 0, x.argmax(axis=1))
    return CalibrationData.of({"x": x, "label": labels})


def test_a_baseline_comes_back_as_it_was_and_compares() -> None:
    before = samples()
    made = measure_baseline(NET, before, [prunec.evaluate(NET, before)])
    again = Baseline.from_json(json.loads(json.dumps(made.to_json())), file="base.json")
    assert again == made
    same = samples(seed=1)
    assert not list(again.compare(NET, same, [prunec.evaluate(NET, same)]).failures())
    shifted = again.compare(NET, samples(1.0), [])
    assert [line.partition(":")[0] for line in shifted.failures()] == ["x_mean has drifted"]
    assert shifted.absent == ("top1 of all",)
    wrong = samples(wrong=0.3, seed=1)
    failures = list(again.compare(NET, wrong, [prunec.evaluate(NET, wrong)]).failures())
    assert failures[0].startswith("the whole set: top1 is 0.7") and failures[0].endswith(
        "in the baseline 1 [0.9936, 1]"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "base.json: this is no baseline: key 'schema' is missing"),
        ([], "base.json: this is no baseline: "),
        ({"schema": "prunec.plan/1"}, "its schema is 'prunec.plan/1', not 'prunec.baseline/1'"),
        ({"schema": "prunec.baseline/1", "model": {}}, "key 'name' is missing"),
    ],
)
def test_what_is_no_baseline_is_refused(content: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Baseline.from_json(content, file="base.json")
    assert message in str(caught.value)
