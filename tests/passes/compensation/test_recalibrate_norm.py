"""The pass recalibrate-norm: the statistics of numpy, norm by norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph, outputs, weights
from numpy.typing import NDArray

import prunec
from prunec.ir.diagnostics import UserError
from prunec.passes.compensation.norms import ChannelStatistics

Array = NDArray[Any]

NET = """
net (float[N,3,6,6] x) => (float[N,4,6,6] y)
    <float[8,3,1,1] a, float[8] s1, float[8] b1, float[8] m1, float[8] var1,
     float[4,8,1,1] c, float[4] s2, float[4] b2, float[4] m2, float[4] var2> {
    [first] g = Conv(x, a)
    [norm1] n = BatchNormalization(g, s1, b1, m1, var1)
    h = Relu(n)
    i = Conv(h, c)
    [norm2] y = BatchNormalization(i, s2, b2, m2, var2)
}
"""


def samples(count: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(0).normal(3, 2, (count, 3, 6, 6)).astype(np.float32)}


def test_channel_statistics_of_pieces_are_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(1e4, 1, (50, 3, 4))
    statistics = ChannelStatistics.empty(3)
    for piece in np.array_split(values, [1, 8, 30]):
        statistics.add(piece)
    np.testing.assert_allclose(statistics.mean, values.mean(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(statistics.variance, values.var(axis=(0, 2)), rtol=1e-9)


@pytest.mark.parametrize("cut", ["prune-channels{ratio=50% round-to=1}, ", ""], ids=["cut", "as it was"])
def test_statistics_are_those_of_numpy_one_norm_after_the_other(cut: str) -> None:
    data = samples(70)
    result = prunec.run(graph(NET), f"{cut}recalibrate-norm", data=data)
    now = weights(result.module)
    for name, (mean, variance) in {"g": ("m1", "var1"), "i": ("m2", "var2")}.items():
        read = outputs(result.module, data, [name])[name].astype(np.float64)
        np.testing.assert_allclose(now[mean], read.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(now[variance], read.var(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert result.verdicts[-1].equivalence == "repaired"
    assert result.verdicts[-1].error > 0.01


def test_norms_that_share_statistics_get_their_own() -> None:
    shared = NET.replace("(i, s2, b2, m2, var2)", "(i, s2, b2, m1, m1)").replace("[4,8,1,1] c", "[8,8,1,1] c")
    shared = (
        shared.replace("[N,4,6,6] y", "[N,8,6,6] y")
        .replace("float[4]", "float[8]")
        .replace("m1, var1)", "m1, m1)")
    )
    module = graph(shared.replace("m1", "var0").replace("float[8] m2, float[8] var2", "float[8] m2"))
    data = samples(40)
    result = prunec.run(module, "recalibrate-norm", data=data)
    y = outputs(result.module, data)["y"]
    scale, shift = (weights(module)[name] for name in ("s2", "b2"))
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), shift, atol=1e-3)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), np.abs(scale), rtol=1e-2)


def test_remarks() -> None:
    result = prunec.run(graph(NET), "recalibrate-norm{ignore=norm1}", data=samples(40))
    text = "\n".join(map(str, result.remarks))
    assert "`norm2`: means move by up to" in text
    assert "norm1" not in text
    assert "1 batch norms have the statistics of 40 samples" in text


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("fold-norm, recalibrate-norm", "the model has no BatchNormalization"),
        ("recalibrate-norm{ignore=norm*}", "no BatchNormalization is left"),
    ],
)
def test_nothing_to_estimate_is_told(pipeline: str, reason: str) -> None:
    result = prunec.run(graph(NET), pipeline, data=samples(40))
    remark = next(r for r in result.remarks if r.message == "no statistics are estimated")
    assert remark.urgent
    assert remark.reason == reason


def test_statistics_that_are_no_constants_stay() -> None:
    text = NET.replace("[norm2] y =", "v = Exp(m2)\n[norm2] y =").replace("m2, var2)", "m2, v)")
    result = prunec.run(graph(text), "recalibrate-norm", data=samples(40))
    remark = next(r for r in result.remarks if r.kind == "missed")
    assert remark.message == "`norm2` keeps its statistics"
    assert remark.reason == "`v` is not a constant"


def test_without_data() -> None:
    with pytest.raises(UserError, match="`recalibrate-norm` needs calibration data, and none are given"):
        prunec.run(graph(NET), "recalibrate-norm")
