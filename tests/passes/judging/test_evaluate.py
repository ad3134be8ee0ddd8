"""Models on samples: values, intervals, batches of every kind, and what a model or a metric does wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph

import prunec
from prunec.ir.diagnostics import PassFailure, UserError
from prunec.passes.judging.bootstrap import interval_of, resampled
from prunec.passes.judging.metrics import METRICS, parse_metric
from prunec.passes.judging.slice_file import parse_slices

RNG = np.random.default_rng(0)
X = RNG.standard_normal((23, 5)).astype(np.float32)
LABELS = RNG.integers(0, 5, 23)
DATA = {"x": X, "label": LABELS}
HITS = float((X.argmax(axis=1) == LABELS).mean())


def identity(batch: str, output: str | None = None) -> prunec.Module:
    return graph(f"net (float[{batch},5] x) => (float[{output or batch},5] y) {{ y = Identity(x) }}")


@pytest.mark.parametrize("batch", ["N", "1", "4", "23", "40"])
def test_every_sample_counts_once_whatever_the_batch(batch: str) -> None:
    result = prunec.evaluate(identity(batch), DATA)
    assert result.value == pytest.approx(HITS) and result.samples == 23
    assert result.observations[:, 0].tolist() == (X.argmax(axis=1) == LABELS).tolist()


def test_models_of_different_batches_are_compared_sample_by_sample() -> None:
    result = prunec.evaluate(identity("4"), DATA, "cosine", reference=identity("7"))
    np.testing.assert_allclose(result.observations[:, 0], 1)


def test_outputs_without_their_own_axis_of_samples_get_it_back() -> None:
    tokens = RNG.standard_normal((6, 3, 5)).astype(np.float32)
    flat = graph("net (float[N,3,5] x) => (float[M,5] y) <int64[2] s = {-1, 5}> { y = Reshape(x, s) }")
    data = {"x": tokens, "label": tokens.argmax(axis=-1)}
    assert prunec.evaluate(flat, data).value == 1.0


def test_what_is_an_output_of_samples_is_the_same_in_every_run() -> None:
    text = "net (float[N,5] x) => (float[10] aux, float[N,5] y) <float[10] w> { aux = Identity(w)  y = Identity(x) }"
    data = {"x": X[:21], "label": X[:21].argmax(axis=1)}  # 5 samples in the last run, and 10 % 5 == 0
    result = prunec.evaluate(graph(text), data, reference=graph(text))
    assert result.value == 1.0 and result.samples == 21


def test_stacks_of_whole_inputs_are_judged_one_at_a_time() -> None:
    net = graph("net (float[3] x) => (float[3] y) { y = Identity(x) }")
    stack = RNG.standard_normal((7, 3)).astype(np.float32)
    assert prunec.evaluate(net, {"x": stack, "label": stack.argmax(axis=1)}).value == 1.0


def test_a_model_agrees_with_itself_and_the_file_of_the_example_has_its_accuracy() -> None:
    module = prunec.load("examples/digits.onnx")
    with np.load("examples/digits.npz") as file:
        accuracy = prunec.evaluate(module, file)
        agreement = prunec.evaluate(module, {"image": file["image"]}, reference=module)
    assert str(accuracy.metric) == "top1" and accuracy.value == pytest.approx(449 / 450)
    assert accuracy.interval[0] < accuracy.value <= accuracy.interval[1]
    assert str(agreement.metric) == "agreement" and agreement.value == 1.0
    assert (
        accuracy.to_json()["value"] == accuracy.value
        and accuracy.to_json()["schema"] == "prunec.evaluation/1"
    )


def test_intervals_are_those_of_the_normal_approximation_and_repeat() -> None:
    values = RNG.standard_normal(400)
    table, metric = np.stack([values, np.ones(400)], axis=1), parse_metric("mae")
    low, high = interval_of(resampled(metric, [table], seed=1)[0], samples=400)
    width = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - width, abs=width / 6)
    assert high == pytest.approx(values.mean() + width, abs=width / 6)
    assert (low, high) == interval_of(resampled(metric, [table], seed=1)[0], samples=400)
    assert np.isnan(interval_of(resampled(metric, [table * 0])[0], samples=400)).all()
    assert np.isnan(interval_of(resampled(metric, [table[:0]])[0], samples=400)).all()


@pytest.mark.parametrize("name", [name for name in METRICS.names() if name != "f1"])
def test_sums_over_samples_give_what_resampled_tables_give(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [np.stack([RNG.random(50), RNG.integers(0, 3, 50)], axis=1) for _ in range(2)]
    metric = parse_metric(name)
    by_sums = resampled(metric, tables, seed=3, resamples=40)
    monkeypatch.setattr("prunec.passes.judging.bootstrap._DRAWN", 170)
    np.testing.assert_allclose(resampled(metric, tables, seed=3, resamples=40), by_sums)
    monkeypatch.setattr("prunec.passes.judging.bootstrap.SumMetric", type(None))
    np.testing.assert_allclose(resampled(metric, tables, seed=3, resamples=40), by_sums)


NAN = "net (float[N,5] x) => (float[N,5] y) { z = Sub(x, x)\n y = Div(z, z) }"


@pytest.mark.parametrize(
    ("module", "data", "metric", "message"),
    [
        (identity("N"), {"x": X}, "top1", "error: <memory>: metric `top1` needs labels, and no array is named `label`"),
        (identity("N"), {"x": X, "label": LABELS[:-1]}, None, "array `x` has 23 samples, array `label` has 22"),
        (identity("N"), {"x": X}, None, "metric `agreement` compares with the dense model, and none is given"),
        (graph(NAN), DATA, None, "error: <memory>: output `y` is NaN, first for sample 0"),
        (graph("net (float[N,5] x) => (float y) { y = ReduceSum<keepdims=0>(x) }"), DATA, None,
         "no output has an axis of samples, so that none can be judged"),
        (identity("N"), {"x": X, "label": np.where(LABELS[:, None] > 3, np.nan, X)}, "mae",
         f"<memory>: `label` is missing in sample {np.argmax(LABELS > 3)} (NaN), and in {(LABELS > 3).sum() - 1} more of 23\n"
         "  = help: leave these samples out"),
        (identity("N"), {"x": X, "label": np.where(np.arange(23) == 5, np.nan, LABELS)}, None,
         "`label` is missing in sample 5 (NaN)\n"
         "  = help: leave these samples out, or give them a negative label: those do not count"),
        (identity("N"), {"x": X, "label": np.full(23, -1)}, None,
         "<memory>: metric `top1` has no value: 0 of 23 samples have a label\n  = note: all of array `label` there are"),
        (identity("N"), {"x": X, "label": LABELS + 0.5}, None,
         "`label` is float64; where it names classes, number them from 0 and use top1"),
        (graph("net (float[N,1] x) => (float[N,1] y) { y = Identity(x) }"), {"x": X[:, :1], "label": LABELS * 1.0}, "top1",
         "  = help: where labels are amounts and not classes, use rmse or mae"),
    ],
)  # fmt: skip
def test_mistakes_are_one_clear_line(
    module: prunec.Module, data: Any, metric: str | None, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        prunec.evaluate(module, data, metric)
    assert "\n" not in caught.value.message and message in str(caught.value)


def test_a_few_samples_have_no_interval() -> None:
    few = {"x": X[:9], "label": X[9:18]}
    result = prunec.evaluate(identity("N"), few, "mae", reference=identity("N"))
    assert np.isnan(result.interval).all() and result.to_json()["interval"] == [None, None]
    assert result.rows[0].drop == 0 and np.isnan(result.rows[0].drop_interval or ()).all()


def test_whole_numbers_are_classes_whatever_their_type() -> None:
    result = prunec.evaluate(identity("N"), {"x": X, "label": LABELS.astype(np.float64)})
    assert str(result.metric) == "top1" and result.value == pytest.approx(HITS)


def test_a_slice_without_labels_is_refused_before_the_model_runs() -> None:
    data = {"x": X * np.nan, "label": np.where(np.arange(23) < 4, -1, LABELS), "number": np.arange(23)}
    slices = parse_slices("[slices.first]\nwhere = 'number < 4'")
    with pytest.raises(UserError, match="no value: 0 of 4 samples of slice 'first' have a label"):
        prunec.evaluate(identity("N"), data, slices=slices)


def test_a_pass_that_spoils_the_outputs_is_blamed() -> None:
    with pytest.raises(PassFailure, match="output `y` is NaN"):
        prunec.evaluate(graph(NAN), DATA, blame="pass")
