"""Quantised models are compared with rounding left out where rounding alone makes them differ."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph, ops

from prunec.ir.diagnostics import VerificationError
from prunec.ir.module import Module
from prunec.passes.verifier.compare import compare_outputs
from prunec.passes.verifier.rounding import without_rounding

BORDER = """net (float[2,3] x) => (float[2,3] y) <uint8 zero = {7}, float scale = {0.1}, float nothing = {0.0}>
{ a = Mul(x, nothing) b = Add(a, half) c = Mul(b, w) q = QuantizeLinear(c, scale, zero)
  d = DequantizeLinear(q, scale, zero) y = Add(d, x) }"""


def border(w: float) -> Module:
    """A value that lies on the border of two steps, times ``w``."""
    return graph(BORDER, half=np.float32(0.05), w=np.float32(w))


def test_a_last_digit_may_decide_about_a_step() -> None:
    below, above = border(1 - 1e-6), border(1 + 1e-6)
    comparison = compare_outputs("p", below, above)
    assert not comparison.rounded
    assert comparison.error < 1e-5
    assert compare_outputs("p", below, border(1 - 1e-6)).rounded


def test_what_differs_without_rounding_is_refused() -> None:
    with pytest.raises(VerificationError, match="output `y` is off by"):
        compare_outputs("p", border(1), border(3))


def test_weights_keep_their_steps() -> None:
    text = """net (float[2,3] x) => (float[2,4] y) <uint8[3,4] k, float scale = {0.1}, uint8 zero = {7}>
    { q = QuantizeLinear(x, scale, zero) d = DequantizeLinear(q, scale, zero)
      w = DequantizeLinear(k, scale, zero) y = MatMul(d, w) }"""
    plain = without_rounding(graph(text))
    assert plain is not None
    assert ops(plain) == ["QuantizeLinear", "Identity", "DequantizeLinear", "MatMul"]
    assert without_rounding(graph("net (float[2] x) => (float[2] y) { y = Relu(x) }")) is None
