"""Metrics against their definitions, row selections, and every mistake as it is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph
from hypothesis import given, settings
from hypothesis import strategies as st
from user_code import WriteModule, write_module  # noqa: F401  (a fixture)

from prunec.ir.diagnostics import UserError
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.judging.bootstrap import resampled
from prunec.passes.judging.classification import F1
from prunec.passes.judging.default import default_metric, metric_of
from prunec.passes.judging.metrics import METRICS, parse_metric

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((60, 7)).astype(np.float32)
LABELS = RNG.integers(0, 7, 60)
TOKENS = RNG.standard_normal((5, 4, 9)).astype(np.float32)
IDS = RNG.integers(0, 9, (5, 4))
PIXELS = RNG.standard_normal((5, 3, 2, 2)).astype(np.float32)
MAP = RNG.integers(-1, 3, (5, 2, 2))


def measure(text: str, output: Any, label: Any = None, reference: Any = None) -> float:
    metric = parse_metric(text)
    columns = {} if label is None else {"label": np.asarray(label)}
    dense = None if reference is None else {"y": np.asarray(reference)}
    observations = metric.observe({"y": np.asarray(output)}, columns, dense)
    assert observations.shape[0] == len(output) and observations.dtype == np.float64
    half = metric.value(observations[::2])
    again = metric.observe(
        {"y": np.asarray(output)[::2]},
        {name: array[::2] for name, array in columns.items()},
        None if dense is None else {"y": dense["y"][::2]},
    )
    np.testing.assert_equal(half, metric.value(again))
    return metric.value(observations)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 5))
def test_f1_of_many_resamples_is_that_of_each(samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.stack([rng.integers(0, 4, samples) * 1000, rng.integers(-1, 4, samples) * 1000], axis=1)
    rows = rng.integers(0, samples, (20, samples))
    found = F1().of_rows(table.astype(np.float64), rows)
    for value, (chosen, right) in zip(found, (table[row].T for row in rows), strict=True):
        expected = macro_f1(chosen[right >= 0], right[right >= 0]) if (right >= 0).any() else np.nan
        assert value == pytest.approx(expected, nan_ok=True)


def test_f1_is_not_resampled_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F1, "value", None)
    table = np.stack([np.arange(12) % 3, np.arange(12) % 2], axis=1).astype(np.float64)
    (found,) = resampled(F1(), [table], resamples=50)
    assert found.shape == (50,)
    assert np.isfinite(found).all()


def macro_f1(chosen: np.ndarray, right: np.ndarray) -> float:
    scores = []
    for c in set(chosen) | set(right):
        hits = ((chosen == c) & (right == c)).sum()
        precision, recall = hits / max((chosen == c).sum(), 1), hits / max((right == c).sum(), 1)
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return float(np.mean(scores))


def surprise(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p = np.exp(scores.astype(np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    return -np.log(np.take_along_axis(p, labels[..., None], axis=-1)[..., 0])


CHOSEN = SCORES.argmax(axis=1)
SOFTMAX = np.exp(TOKENS) / np.exp(TOKENS).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("text", "output", "label", "expected"),
    [
        ("top1", SCORES, LABELS, (CHOSEN == LABELS).mean()),
        ("top1", SCORES, LABELS[:, None], (CHOSEN == LABELS).mean()),
        ("top1", SCORES[:, :, None, None], LABELS.astype(np.float64), (CHOSEN == LABELS).mean()),
        ("top1", CHOSEN, LABELS, (CHOSEN == LABELS).mean()),
        ("top1", TOKENS, IDS, (TOKENS.argmax(-1) == IDS).mean()),
        ("top1", PIXELS, MAP, (PIXELS.argmax(1) == MAP)[MAP >= 0].mean()),
        ("top5", SCORES, LABELS, np.mean([y in np.argsort(s)[-5:] for s, y in zip(SCORES, LABELS, strict=True)])),
        ("f1", SCORES, LABELS, macro_f1(CHOSEN, LABELS)),
        ("perplexity", TOKENS, IDS, np.exp(surprise(TOKENS, IDS).mean())),
        ("perplexity", SOFTMAX, IDS, np.exp(surprise(TOKENS, IDS).mean())),
        ("perplexity{shift=1}", TOKENS, IDS, np.exp(surprise(TOKENS[:, :-1], IDS[:, 1:]).mean())),
        ("mae", SCORES[:, 0], LABELS, np.abs(SCORES[:, 0] - LABELS).mean()),
        ("mae", SCORES[:, :1], LABELS, np.abs(SCORES[:, 0] - LABELS).mean()),
        ("rmse", TOKENS, TOKENS + 2, 2.0),
        ("rmse", SCORES, np.zeros_like(SCORES), np.sqrt(np.square(SCORES).mean())),
    ],
)  # fmt: skip
def test_metrics_with_labels(text: str, output: Any, label: Any, expected: float) -> None:
    assert measure(text, output, label) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "output", "reference", "expected"),
    [
        ("agreement", SCORES, -SCORES, 0.0),
        ("agreement", SCORES, 3 * SCORES, 1.0),
        ("agreement", PIXELS, np.flip(PIXELS, 1), (PIXELS.argmax(1) == 2 - PIXELS.argmax(1)).mean()),
        ("agreement", LABELS, CHOSEN, (LABELS == CHOSEN).mean()),
        ("agreement{axis=1}", TOKENS, TOKENS * np.sign(TOKENS), (TOKENS.argmax(1) == np.abs(TOKENS).argmax(1)).mean()),
        ("cosine", SCORES, 3 * SCORES, 1.0),
        ("cosine", TOKENS, -TOKENS, -1.0),
        ("cosine", np.zeros((2, 3)), np.array([[0, 0, 0], [0, 1, 0]]), 0.5),
    ],
)  # fmt: skip
def test_metrics_against_the_dense_model(text: str, output: Any, reference: Any, expected: float) -> None:
    assert measure(text, output, reference=reference) == pytest.approx(expected, rel=1e-6)


def test_nothing_counted_is_no_value() -> None:
    for text in METRICS.names():
        metric = parse_metric(text)
        assert np.isnan(metric.value(np.zeros((0, 2)))), text
    assert np.isnan(measure("top1", SCORES, np.full(60, -1)))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (LABELS, "top1"), (LABELS == 1, "top1"), (LABELS * 0.5, "rmse"), (None, "agreement"),
        (LABELS * 1.0, "top1"), (np.where(LABELS == 1, np.nan, LABELS), "top1"), (SCORES.round(), "rmse"),
        (np.full(60, np.inf), "rmse"), (np.full(60, np.nan), "rmse"), (LABELS + 1.0, "rmse"), (LABELS + 1, "top1"),
    ],
)  # fmt: skip
def test_the_default_follows_the_labels(label: Any, expected: str) -> None:
    arrays = {"x": SCORES} if label is None else {"x": SCORES, "label": label}
    choice = default_metric(
        CalibrationData.of(arrays), graph("net (float[N,7] x) => (float[N,7] y) { y = Exp(x) }")
    )
    assert choice.metric.name == expected
    assert choice.why


AGES = RNG.integers(0, 70, 60)


@pytest.mark.parametrize(
    ("label", "shape", "expected", "why"),
    [
        (AGES * 1.0, "N,1", "rmse", "output `y` is one number a sample"),
        (AGES, "N,1", "rmse", "output `y` is one number a sample"),
        (AGES, "N", "top1", "`label` holds whole numbers"),
        (
            AGES * 1.0,
            "N,7",
            "rmse",
            "different whole numbers up to 69, and output `y` has only 7 numbers a sample",
        ),
        (AGES * 1.0, "N,100", "top1", "and output `y` has 100 numbers a sample"),
        (AGES * 1.0, "N,M", "top1", "different whole numbers up to 69"),
        (
            LABELS * 1.0,
            "N,7,1,1",
            "top1",
            "`label` holds 7 different whole numbers up to 6, and output `y` has 7",
        ),
    ],
)
def test_whole_numbers_are_classes_where_the_output_has_so_many(
    label: Any, shape: str, expected: str, why: str
) -> None:
    module = graph(f"net (float[{shape}] z) => (float[{shape}] y) {{ y = Exp(z) }}")
    choice = metric_of(None, CalibrationData.of({"x": SCORES, "label": label}), module)
    assert choice.metric.name == expected
    assert why in choice.why
    assert metric_of("mae", CalibrationData.of({"x": SCORES}), module).why == ""


@pytest.mark.parametrize(
    "text", [*METRICS.names(), "top1{output=logits label=target}", "perplexity{shift=1}"]
)
def test_metrics_are_printed_as_they_are_written(text: str) -> None:
    assert str(parse_metric(text)) == text


@pytest.mark.parametrize(
    ("text", "output", "label", "message"),
    [
        ("top1", SCORES, None, "metric `top1` needs labels, and no array is named `label`\n  = note: arrays: target\n"
         "  = help: add labels, write METRIC{label=NAME}, or use agreement, which needs none"),
        ("top1{label=targe}", SCORES, None, "  = help: did you mean `target`?"),
        ("top1{output=z}", SCORES, LABELS, "reads output `z`, which the model does not have\n  = note: outputs: y"),
        ("top1", SCORES, LABELS[:, None] + np.zeros((1, 2), int), "output `y` is [60, 7], `label` is [60, 2]: "
         "they do not go together\n  = help: outputs are [samples, classes] beside labels [samples]"),
        ("top1", SCORES, LABELS + 5, "label 11 is beyond the 7 classes of output `y`\n  = help: classes are numbered"),
        ("top1", SCORES, LABELS + 0.5, "array `label` is of type float64 and holds more than whole numbers"),
        ("top1", SCORES, np.where(LABELS == 1, np.nan, LABELS), "array `label` has samples without a label (NaN)\n"
         "  = help: leave these samples out, or give them a negative label"),
        ("top1", SCORES, LABELS.astype(str), "array `label` is of type <U21 and holds more than whole numbers"),
        ("f1", TOKENS, IDS, "metric `f1` takes one label a sample\n  = help: use top1 for many positions"),
        ("perplexity{shift=1}", SCORES, LABELS, "`label` [60] and `y` [60, 7] have no positions to shift by 1"),
        ("rmse", SCORES, LABELS, "output `y` is [60, 7], `label` is [60]: they do not go together"),
        ("mae", SCORES[:, 0], LABELS.astype(str), "array `label` is of type <U21, not of numbers"),
        ("agreement", SCORES, LABELS, "metric `agreement` compares with the dense model, and none is given\n"
         "  = help: on the command line: --against DENSE.onnx; in Python: reference=module"),
    ],
)  # fmt: skip
def test_mistakes_with_data_are_named(text: str, output: Any, label: Any, message: str) -> None:
    columns = {"target": LABELS} if label is None else {"label": label}
    with pytest.raises(UserError) as caught:
        parse_metric(text).observe({"y": output}, columns, None)
    assert "\n" not in caught.value.message and message in str(caught.value)


def test_outputs_of_another_shape_than_those_of_the_dense_model_are_refused() -> None:
    with pytest.raises(UserError, match=r"output `y` is \[60, 7\], that of the dense model \[5, 4, 9\]"):
        measure("cosine", SCORES, reference=TOKENS)
    with pytest.raises(UserError, match=r"output `y` of shape \[60\] has no axis of classes"):
        measure("agreement", SCORES[:, 0], reference=SCORES[:, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top2", "error: <metric>:1:1: unknown metric 'top2' (did you mean 'top5'?)"),
        ("top1{lable=y}", "unknown option 'lable' (did you mean 'label'?)"),
        (
            "top1, f1",
            "error: expected one metric, got 2: 'top1, f1'\n  = help: metrics: agreement, cosine, f1",
        ),
        ("perplexity{shift=-1}", "option 'shift' takes a whole number of at least 0, got '-1'"),
    ],
)
def test_mistakes_in_the_text_are_shown_in_place(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_metric(text)
    assert message in str(caught.value)


OWN = """
import numpy as np

def margin(outputs, columns):
    return outputs["y"].max(axis=1) + columns["label"]

def distance(outputs, columns, dense):
    return np.abs(outputs["y"] - dense["y"]).sum(axis=1)

distance.needs_reference, distance.higher_is_better = True, False

class Median:
    higher_is_better = True
    def observe(self, outputs, columns, reference):
        return outputs["y"]
    def value(self, observations):
        return np.median(observations)

def fails(outputs, columns):
    return outputs["z"]

def one(outputs, columns):
    return 1.0

def leaves(outputs, columns):
    raise SystemExit(0)

def words(outputs, columns):
    return ["good"] * len(columns["label"])

def none():
    return 1

class Half:
    def observe(self, outputs):
        return outputs["y"]
    def value(self, observations):
        return 0.5

number = 3
"""


def test_a_metric_of_the_users(write_module: WriteModule) -> None:  # noqa: F811
    write_module("own", OWN)
    assert measure("own:margin", SCORES, LABELS) == pytest.approx((SCORES.max(axis=1) + LABELS).mean())
    assert measure("own:distance", SCORES, reference=SCORES + 1) == pytest.approx(7)
    assert not parse_metric("own:distance").higher_is_better
    assert measure("own:Median", SCORES) == pytest.approx(np.median(SCORES))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", "metric own:fails raises KeyError: 'z'\n  = note: at "),
        ("one", "metric own:one gives shape [] for 60 samples\n  = help: give one number a sample: an array [samples]"),
        ("leaves", "metric own:leaves raises SystemExit: 0\n  = note: at "),
        ("words", "metric own:words gives an array of type <U4, not of numbers\n  = help: give one number a sample"),
        ("none", "own:none cannot be called with (outputs, columns): too many positional arguments\n"
         "  = help: write def none(outputs, columns)"),
        ("Half", "own:Half cannot be called with (outputs, columns, reference): too many positional arguments\n"
         "  = help: write def observe(outputs, columns, reference)"),
        ("number", "own:number is an int, no metric\n  = help: name a function score(outputs, columns)"),
        ("distance", "metric own:distance compares with the dense model, and none is given"),
    ],
)  # fmt: skip
def test_a_metric_of_the_users_that_fails(write_module: WriteModule, name: str, message: str) -> None:  # noqa: F811
    write_module("own", OWN)
    with pytest.raises(UserError) as caught:
        measure(f"own:{name}", SCORES, LABELS)
    assert str(caught.value).startswith(f"error: {message}")
