"""The verifier's reference: zeros where weights are cut, the kept slots alone where a statistic is taken."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph

import prunec

CONVOLUTIONS = """net (float[N,3,4,4] x) => (float[N,5,4,4] y)
    <float[8,3,1,1] v, float[8] b, float[5,8,1,1] w>
    { h = Conv(x, v, b)  r = Relu(h)  y = Conv(r, w) }"""
SHARED_BIAS = """net (float[N,3] x) => (float[N,5] y) <float[3,8] v, float[8,8] u, float[8,5] w, float[8] b>
    { g = MatMul(x, v)  h = Add(g, b)  i = MatMul(h, u)  j = Add(i, b)  y = MatMul(j, w) }"""
MEAN = """net (float[N,3] x) => (float[N,5] y) <float[3,8] v, float[8,5] w>
    { h = MatMul(x, v)  m = ReduceMean<axes = [1]>(h)  d = Sub(h, m)  y = MatMul(d, w) }"""


@pytest.mark.parametrize(
    ("text", "equivalence"),
    [(CONVOLUTIONS, "masked"), (SHARED_BIAS, "masked"), (MEAN, "masked-kept-statistics")],
    ids=["convolutions", "shared-bias", "mean"],
)
def test_only_statistics_are_restricted(text: str, equivalence: str) -> None:
    result = prunec.run(graph(text), "prune-channels{ratio=50% round-to=1}")
    (verdict,) = result.verdicts
    assert verdict.equivalence == equivalence
    assert {group.equivalence for group in result.plan.steps[0].groups} == {equivalence}


@pytest.mark.parametrize("opset", [12, 17])
def test_bytes_that_a_statistic_makes_are_masked(opset: int) -> None:
    """DynamicQuantizeLinear measures the kept channels; before opset 14 no Mul takes its bytes."""
    module = graph(
        """net (float[2,3] x) => (float[2,5] y) <float[3,8] v, float[8,5] w, float s = {0.02}>
        { h = MatMul(x, v) q, t, z = DynamicQuantizeLinear(h) i = MatMulInteger(q, k, z) f = Cast<to=1>(i)
          u = Mul(t, s) g = Mul(f, u) y = MatMul(g, w) }""",
        opset=opset,
        k=np.random.default_rng(0).integers(-128, 128, (8, 8)).astype(np.int8),
    )
    (verdict,) = prunec.run(module, "prune-channels{ratio=50% round-to=1}").verdicts
    assert verdict.equivalence == "masked-kept-statistics"
