"""Which numbers of a graph are the same for all sizes of its inputs."""

from __future__ import annotations

import onnx.parser
import pytest

from prunec.ir.facts import Facts, infer_facts
from prunec.ir.load import load

PADDED = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N, 3, H, W] x) => (float[N, 3, A, B] y) <int64 multiple = {MULTIPLE}, int64[2] none = {0, 0}>
{
    h = Shape <start = 2, end = 3> (x)
    over = Mod (h, multiple)
    lacks = Sub (multiple, over)
    pad = Mod (lacks, multiple)
    zeros = Sub (pad, pad)
    pads = Concat <axis = 0> (none, none, none, pad, zeros)
    y = Pad (x, pads)
}
"""


def facts_of(text: str) -> tuple[Facts, dict[str, object]]:
    module = load(onnx.parser.parse_model(text))
    facts = infer_facts(module.model)
    numbers = {o.name: facts.number(o) for node in module.graph for o in node.outputs if o in facts.derived}
    return facts, numbers


@pytest.mark.parametrize("multiple", [2, 7, 8, 32])
def test_padding_to_a_multiple_is_no_constant(multiple: int) -> None:
    """Both usual probe sizes may be multiples already, which makes the padding 0 twice."""
    _, numbers = facts_of(PADDED.replace("MULTIPLE", str(multiple)))
    assert "pad" in numbers
    assert numbers["pad"] is None


def test_numbers_of_static_axes_are_constants() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]>
    net (float[N, 6, T] x) => (int64[1] channels, int64[1] steps) {
        channels = Shape <start = 1, end = 2> (x)
        steps = Shape <start = 2> (x)
    }"""
    _, numbers = facts_of(text)
    assert numbers["steps"] is None
    assert numbers["channels"] is not None


def test_sizes_that_the_graph_does_not_accept_tell_nothing() -> None:
    """Two halves of the width only add up where it is even; what follows stays known."""
    text = """<ir_version: 9, opset_import: ["" : 18]>
    net (float[1, 4, 64, W] x) => (float[1, 4, 64, V] y, int64[1] channels) <int64[2] half = {32, 32}> {
        top, bottom = Split <axis = 2> (x, half)
        both = Concat <axis = 2> (top, bottom)
        y = Add (both, x)
        channels = Shape <start = 1, end = 2> (y)
    }"""
    facts, numbers = facts_of(text)
    assert numbers["channels"] is not None
    assert not facts.unstable


def test_weights_that_are_quantised_in_the_graph_are_no_shape_arithmetic() -> None:
    text = """<ir_version: 9, opset_import: ["" : 18]>
    net (float[N, 2] x) => (float[N, 3] y)
    <float[2, 3] w = {1, 2, 3, 4, 5, 6}, float scale = {0.5}, int8 zero = {0}> {
        q = QuantizeLinear (w, scale, zero)
        d = DequantizeLinear (q, scale, zero)
        y = MatMul (x, d)
    }"""
    _, numbers = facts_of(text)
    assert "q" not in numbers
