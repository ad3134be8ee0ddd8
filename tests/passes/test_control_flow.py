"""Bodies of If, Loop and Scan: their layers are pruned with the graph around them, or pinned with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph, groups, outputs, prunable, prune, reasons, weights

import prunec
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds
from prunec.ir.scopes import walk
from prunec.passes.manager import Result

SCAN = """net (float[T,2,4] x) => (float[T,2,3] y, float[2,3] z)
<float[4,6] wi, float[6,6] wh, float[2,6] h0, float[6,3] wo>
{
    h, hs = Scan<num_scan_inputs = 1, body = step (float[2,6] s, float[2,4] xt) => (float[2,6] n, float[2,6] o)
    { a = MatMul(xt, wi)  b = MatMul(s, wh)  c = Add(a, b)  n = Tanh(c)  o = Relu(n) }>(h0, x)
    y = MatMul(hs, wo)
    z = MatMul(h, wo)
}"""
SCAN_AXES = """net (float[2,T,4] x) => (float[2,3,T] y) <float[4,6] w1, float[6,8] w2, float[3,8] w3>
{
    ys = Scan<num_scan_inputs = 1, scan_input_axes = [-2], scan_output_axes = [-1],
    body = step (float[2,4] xt) => (float[2,8] o) { a = MatMul(xt, w1)  r = Relu(a)  o = MatMul(r, w2) }>(x)
    y = MatMul(w3, ys)
}"""
LOOP = """net (float[N,4] x, int64 trips) => (float[N,4] y, float[K,N,3] all)
<bool go = {1}, float[4,6] w1, float[6] b1, float[6,4] w2, float[4,8] w3, float[8,3] w4>
{
    y, stack = Loop<body = block (int64 i, bool c, float[N,4] s) => (bool d, float[N,4] n, float[N,8] o)
    { d = Identity(c)  a = MatMul(s, w1)  e = Add(a, b1)  r = Relu(e)  m = MatMul(r, w2)  n = Add(s, m)
      o = MatMul(n, w3) }>(trips, go, x)
    all = MatMul(stack, w4)
}"""
STATE = """net (float[N,4] x) => (float[N,3] y)
<int64 trips = {3}, bool go = {1}, float[4,6] w1, float[6,6] w2, float[6,3] w3>
{
    first = MatMul(x, w1)
    last, same = Loop<body = block (int64 i, bool c, float[N,6] s, float[N,6] t) => (bool c, float[N,6] n, float[N,6] t)
    { a = MatMul(s, w2)  r = Relu(a)  n = Add(r, t) }>(trips, go, first, first)
    sum = Add(last, same)
    y = MatMul(sum, w3)
}"""
BRANCHES = """net (float[N,3,8] x, bool go) => (float[N,5,8] y)
<float[4,3,1] w1, float[6,4,1] w2, float[10,3,1] w3, float[2,5,3] w4, float[6,2,1] w5, float[5,6,1] w6>
{
    b = If (go) <
        then_branch = yes () => (float[N,6,8] t) { a = Conv(x, w1)  ra = Relu(a)  t = Conv(ra, w2) },
        else_branch = no () => (float[N,6,8] e)
        { f = Conv(x, w3)  g = Relu(f)  h = Conv<group = 2, pads = [1, 1]>(g, w4)  e = Conv(h, w5) }
    >
    r = Relu(b)
    y = Conv(r, w6)
}"""
NESTED = """net (float[N,4] x, bool odd) => (float[N,3] y)
<int64 trips = {2}, bool go = {1}, float[4,6] w1, float[6,8] w2, float[8,6] w3, float[6,3] w4>
{
    first = MatMul(x, w1)
    last = Loop<body = block (int64 i, bool c, float[N,6] s) => (bool d, float[N,6] n)
    {
        d = Identity(c)
        n = If (odd) <
            then_branch = yes () => (float[N,6] t) { a = MatMul(s, w2)  r = Relu(a)  t = MatMul(r, w3) },
            else_branch = no () => (float[N,6] e) { e = Add(s, first) }
        >
    }>(trips, go, first)
    y = MatMul(last, w4)
}"""
NORM = """net (float[T,2,4] x) => (float[T,2,3] y) <float[4,6] wi, float[6,6] wh, float[2,6] h0, float[6] g, float[6] b, float[6,3] wo>
{
    h, hs = Scan<num_scan_inputs = 1, body = step (float[2,6] s, float[2,4] xt) => (float[2,6] n, float[2,6] o)
    { a = MatMul(xt, wi)  m = MatMul(s, wh)  c = Add(a, m)  n = LayerNormalization(c, g, b)  o = Identity(n) }>(h0, x)
    y = MatMul(hs, wo)
}"""
ZEROS = """net (float[T,N,4] x) => (float[T,N,3] y) <int64[1] one = {1}, int64[1] two = {2}, int64[1] six = {6}, float[4,6] wi, float[6,6] wh, float[6,3] wo>
{
    shape = Shape(x)
    batch = Slice(shape, one, two)
    size = Concat<axis = 0>(batch, six)
    h0 = ConstantOfShape(size)
    h, hs = Scan<num_scan_inputs = 1, body = step (float[N,6] s, float[N,4] xt) => (float[N,6] n, float[N,6] o)
    { a = MatMul(xt, wi)  b = MatMul(s, wh)  c = Add(a, b)  n = Tanh(c)  o = Identity(n) }>(h0, x)
    y = MatMul(hs, wo)
}"""
RESHAPED = """net (float[N,4] x, bool go) => (float[N,3] y) <float[4,12] w1, float[12,6] w2, float[6,3] w3, int64[3] heads = {0, 3, 4}, int64[2] flat = {0, 12}>
{
    b = If (go) <
        then_branch = yes () => (float[N,6] t)
        { a = MatMul(x, w1)  h = Reshape(a, heads)  r = Relu(h)  f = Reshape(r, flat)  t = MatMul(f, w2) },
        else_branch = no () => (float[N,6] e)
        { a = MatMul(x, w1)  n = Neg(a)  e = MatMul(n, w2) }
    >
    y = MatMul(b, w3)
}"""
CASES = {
    "scan": (SCAN, ["g1 size=6 {@h0:1, @wi:1, @wh:0, @wh:1, @wo:0}"]),
    "scan axes": (SCAN_AXES, ["g1 size=8 {@w2:1, @w3:1}", "g2 size=6 {@w1:1, @w2:0}"]),
    "loop": (LOOP, ["g1 size=8 {@w3:1, @w4:0}", "g2 size=6 {@w1:1, @b1:0, @w2:0}"]),
    "state": (STATE, ["g1 size=6 {@w1:1, @w2:0, @w2:1, @w3:0}"]),
    "branches": (
        BRANCHES,
        [
            "g1 size=6 {@w2:0, @w5:0, @w6:1}",
            "g2 size=4 {@w1:0, @w2:1}",
            "g3 size=5 {@w3:0*2, @w4:1}",
        ],
    ),
    "nested": (NESTED, ["g1 size=6 {@w1:1, @w2:0, @w3:1, @w4:0}", "g2 size=8 {@w2:1, @w3:0}"]),
    "norm": (NORM, ["g1 size=6 statistic {@h0:1, @wi:1, @wh:0, @wh:1, @g:0, @b:0, @wo:0}"]),
    "zeros": (ZEROS, ["g1 size=6 {@wi:1, @wh:0, @wh:1, @wo:0}"]),
    "reshaped": (RESHAPED, None),
}


@pytest.mark.parametrize(("text", "expected"), [c for c in CASES.values() if c[1]], ids=[k for k, c in CASES.items() if c[1]])
def test_bodies_are_pruned_with_the_graph_around_them(text: str, expected: list[str]) -> None:
    assert prunable(graph(text)) == expected


def masked(module: Module, result: Result) -> Module:
    """The module with every slice that the plan names set to zero: an oracle that knows nothing of bodies."""
    copy = module.clone()
    for tensor in (t for step in result.plan.steps for g in step.groups for t in g.tensors):
        array = weights(copy)[tensor.name].copy()
        np.moveaxis(array, tensor.axis, 0)[list(tensor.removed)] = 0
        copy.graph.initializers[tensor.name].const_value = prunec.ir.module.onnx_ir.tensor(array, name=tensor.name)
    return copy


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("text", [c[0] for c in CASES.values()], ids=list(CASES))
def test_pruned_bodies_compute_what_masked_ones_do(text: str, ratio: float) -> None:
    module = graph(text)
    result = prune(module, ratio)
    assert result.plan.steps and result.verdicts
    if "LayerNormalization" in text:
        return  # no zero of a weight takes a channel out of its statistic; the verifier's reference does
    sizes = {"T": 5, "N": 2}
    for seed in (0, 1):
        feeds = probe_feeds(module, sizes=sizes, seed=seed)
        for flag in (False, True):
            feeds |= {name: np.array(flag) for name in feeds if feeds[name].dtype == bool}
            expected, actual = outputs(masked(module, result), feeds), outputs(result.module, feeds)
            for name, array in expected.items():
                np.testing.assert_allclose(actual[name], array, rtol=1e-4, atol=1e-5)
