"""Channels that a Pad adds: zero partners in a residual sum, which go with their other side."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import Array, graph, node_of, prunable, prune, reasons, weight, weights

from prunec.ir.module import Module
from prunec.passes.manager import Result

SHORTCUT = """net (float[N,3,8,8] image) => (float[N,10] logits)
<float[8,3,3,3] w0, float[16,8,3,3] w1, float[16,16,3,3] w2, float[16,10] fc,
 int64[2] from = {0, 0}, int64[2] to = {9223372036854775807, 9223372036854775807}, int64[2] axes = {2, 3},
 int64[2] steps = {2, 2}, int64[8] pads = {0, 4, 0, 0, 0, 4, 0, 0}>
{
    c0 = Conv<pads=[1,1,1,1]>(image, w0) r0 = Relu(c0)
    c1 = Conv<pads=[1,1,1,1], strides=[2,2]>(r0, w1) r1 = Relu(c1) c2 = Conv<pads=[1,1,1,1]>(r1, w2)
    half = Slice(r0, from, to, axes, steps) short = Pad(half, pads)
    sum = Add(c2, short) r2 = Relu(sum) pool = GlobalAveragePool(r2) flat = Flatten(pool) logits = MatMul(flat, fc)
}"""
"""One stage of a ResNet for CIFAR (He et al. 2016, section 4.2, option A): eight channels, and four zeros on each side."""


def amounts(result: Result, output: str = "short") -> list[int]:
    """The pads of a node after a cut."""
    operand = node_of(result.module, output).inputs[1]
    assert operand is not None and operand.const_value is not None
    numbers: list[int] = operand.const_value.numpy().tolist()
    return numbers


def test_padded_and_kept_channels_are_groups_of_their_own() -> None:
    assert prunable(graph(SHORTCUT)) == [
        "g1 size=8 {@w0:0, @w1:1, @w2:0, @fc:0}",
        "g2 size=16 {@w1:0, @w2:1}",
        "g3 size=8 {@w2:0, @fc:0}",
    ]


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.8])
def test_a_shortcut_of_option_a_is_pruned(ratio: float) -> None:
    result = prune(graph(SHORTCUT), ratio)
    after = weights(result.module)
    assert result.verdicts[0].equivalence == "masked"
    kept, padded = round(8 * (1 - ratio)), sum(amounts(result))
    assert after["w0"].shape[0] == kept and after["w2"].shape[0] == kept + padded


def test_the_padding_shrinks_on_the_side_where_slots_went() -> None:
    w2, fc = weight("w2", 16, 16, 3, 3), weight("fc", 16, 10)
    w2[:3] = fc[:3] = 0  # three of the four units whose partner is a zero in front
    text = SHORTCUT.replace("float[16,16,3,3] w2, float[16,10] fc,", "")
    result = prune(graph(text, w2=w2, fc=fc), 3 / 8)
    assert amounts(result) == [0, 1, 0, 0, 0, 4, 0, 0]


def test_a_channel_that_all_of_a_graph_pads_stays() -> None:
    """A convolution with one output channel has none to give away."""
    module = graph("""net (float[N,3,8] x) => (float[N,5,8] y) <float[1,3,1] w0, float[6,3,1] w1, float[5,6,1] w2,
        int64[6] p = {0, 2, 0, 0, 3, 0}> { a = Conv(x, w0) b = Pad(a, p) c = Conv(x, w1) s = Add(b, c) y = Conv(s, w2) }""")
    assert "an axis of size 1, which has nothing to lose" in reasons(module)
    assert weights(prune(module, 0.9).module)["w0"].shape == (1, 3, 1)


def same_padding(h: str) -> Module:
    """Padding to a multiple of 4 that the graph computes from the height of its input, as (0, 0, 0, 0, p, 0)."""
    arrays: dict[str, Array] = {"four": np.array([4]), "two": np.array([2]), "five": np.array([5]),
                                "zeros": np.zeros(4, np.int64), "one": np.zeros(1, np.int64)}  # fmt: skip
    return graph(f"""net (float[N,3,{h},4] x) => (float[N,5,A,B] y) <float[8,3,1,1] w0, float[5,8,1,1] w1>
    {{
        a = Conv(x, w0) s = Shape(a) n = Gather(s, two)
        m = Mod(n, four) r = Sub(four, m) p = Mod(r, four) pads = Concat<axis=0>(zeros, one, one, p, one)
        b = Pad(a, pads) y = Conv(b, w1)
    }}""", **arrays)  # fmt: skip


@pytest.mark.parametrize("height", ["H", "6"])
def test_an_amount_that_follows_the_input_leaves_other_axes_free(height: str) -> None:
    module = same_padding(height)
    result = prune(module)
    assert weights(result.module)["w0"].shape == (4, 3, 1, 1)
    assert (
        any("only known at run time" in text for text in reasons(module)) is False
    )  # the image pins them before


def test_an_amount_that_nothing_tells_pins_all() -> None:
    module = graph("""net (float[N,3,8] x, int64[6] p) => (float[N,5,8] y) <float[4,3,1] w0, float[5,4,1] w1>
        { a = Conv(x, w0) b = Pad(a, p) y = Conv(b, w1) }""")
    assert any("how much it pads is only known at run time" in text for text in reasons(module))


def test_positions_that_are_padded_are_no_channels() -> None:
    """Windows of attention: tokens that fill a window up have rows in the table of positions, and stay all the same."""
    module = graph("""net (float[N,6,4] x) => (float[N,5] y)
<float[4,16] w0, float[8,16] table, float[16,5] w1, int64[6] pads = {0, 1, 0, 0, 1, 0}>
{ h = MatMul(x, w0) p = Pad(h, pads) s = Add(p, table) a = ReduceMean<axes=[1], keepdims=0>(s) y = MatMul(a, w1) }""")
    assert prunable(module) == ["g1 size=16 {@w0:1, @table:1, @w1:0}"]


def test_channels_beside_those_of_an_input_are_no_padding() -> None:
    module = graph("""net (float[1,2,4] x) => (float[1,5,4] y) <float[4,2,1] w0, float[5,6,1] w1>
{ c = Conv(x, w0) j = Concat<axis = 1>(c, x) y = Conv(j, w1) }""")
    assert prunable(module) == ["g1 size=4 {@w0:0, @w1:1}"]
