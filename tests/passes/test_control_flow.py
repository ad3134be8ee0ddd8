"""Bodies of If, Loop and Scan: their layers are pruned with the graph around them, or pinned with a reason."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from core_graphs import graph, outputs, prunable, prune, reasons, weights
from sabotage import change, saboteur

import prunec
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds
from prunec.ir.scopes import walk
from prunec.passes.coupling import analyse
from prunec.passes.coupling.graph import why
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
CASES: dict[str, tuple[str, list[str] | None]] = {
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


@pytest.mark.parametrize(
    ("text", "expected"), [c for c in CASES.values() if c[1]], ids=[k for k, c in CASES.items() if c[1]]
)
def test_bodies_are_pruned_with_the_graph_around_them(text: str, expected: list[str]) -> None:
    assert prunable(graph(text)) == expected


def masked(module: Module, result: Result) -> Module:
    """The module with every slice that the plan names set to zero: an oracle that knows nothing of bodies."""
    copy = module.clone()
    for tensor in (t for step in result.plan.steps for g in step.groups for t in g.tensors):
        array = weights(copy)[tensor.name].copy()
        np.moveaxis(array, tensor.axis, 0)[list(tensor.removed)] = 0
        copy.graph.initializers[tensor.name].const_value = onnx_ir.tensor(array, name=tensor.name)
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


GROWING = """net (float[N,4] x) => (float[N,3] y, float[M,4] all)
<int64 trips = {3}, bool go = {1}, float[4,6] w1, float[6,4] w2, float[4,8] w3, float[8,3] w4>
{
    h = MatMul(x, w3)
    y = MatMul(h, w4)
    all = Loop<body = grow (int64 i, bool c, float[K,4] s) => (bool d, float[L,4] n)
    { d = Identity(c)  a = MatMul(x, w1)  r = Relu(a)  m = MatMul(r, w2)  n = Concat<axis = 0>(s, m) }>(trips, go, x)
}"""


def test_a_state_that_grows_keeps_its_shape_and_pins_no_more_than_itself() -> None:
    module = graph(GROWING)
    assert prunable(module) == ["g1 size=8 {@w3:1, @w4:0}", "g2 size=6 {@w1:1, @w2:0}"]
    facts = infer_facts(module.model)
    grown = next(o for n in walk(module.graph) for o in n.outputs if o.name == "n")
    assert grown not in facts.shapes
    assert prune(module).cost_after.parameters == prune(module).cost_before.parameters / 2


def test_a_state_that_changes_its_size_says_so() -> None:
    text = """net (float[2,6] x, int64 trips) => (float[K,L] y) <bool go = {1}, float[6,6] w> {
        first = MatMul(x, w)
        y = Loop<body = grow (int64 i, bool c, float[A,B] s) => (bool d, float[C,D] n)
        { d = Identity(c)  n = Concat<axis = 1>(s, x) }>(trips, go, first) }"""
    assert "the shape of `first` changes in `Loop`, or may, from iteration to iteration" in reasons(
        graph(text)
    )


def test_a_number_of_iterations_never_becomes_a_constant() -> None:
    text = """net (float[2,6] x, int64 trips) => (float[M] y) <bool go = {1}, float[6,6] w, int64[1] one = {-1}> {
        stack = Loop<body = block (int64 i, bool c) => (bool d, float[2,6] n)
        { d = Identity(c)  n = MatMul(x, w) }>(trips, go)
        shape = Shape(stack)
        size = ReduceProd<keepdims = 1>(shape)
        y = Reshape(stack, size) }"""
    module = graph(text)
    facts = infer_facts(module.model)
    stack = next(o for n in module.graph for o in n.outputs if o.name == "stack")
    assert facts.dynamic[stack] == {0}
    result = prunec.run(module, "canonicalize")
    feeds = {"x": np.ones((2, 6), np.float32), "trips": np.array(5)}
    assert outputs(result.module, feeds)["y"].shape == (60,)


def test_branches_of_different_shapes_are_pinned() -> None:
    text = """net (float[2,6] x, bool go) => (float[K,3] y) <float[6,8] w1, float[6,8] w2, float[8,3] w3> {
        b = If (go) < then_branch = yes () => (float[2,8] t) { t = MatMul(x, w1) },
            else_branch = no () => (float[4,8] e) { a = MatMul(x, w2)  e = Concat<axis = 0>(a, a) } >
        y = MatMul(b, w3) }"""
    assert "`If` makes `b` of different shapes, or unknown ones, in its branches" in reasons(graph(text))


def test_a_constant_that_a_branch_returns_is_pinned() -> None:
    text = """net (float[N,4] x, bool go) => (float[1,3] y) <float[1,6] v, float[4,6] w1, float[6,3] w2> {
        b = If (go) < then_branch = yes () => (float[1,6] t) { t = Constant<value = float[1,6] {1, 2, 3, 4, 5, 6}>() },
            else_branch = no () => (float[1,6] e) { a = MatMul(x, w1)  e = ReduceSum(a, zero) } >
        y = MatMul(b, w2) }"""
    module = graph(text, zero=np.array([0]))
    assert "`t` is a constant that passes between `If` and its body" in reasons(module)
    assert prunable(module) == []


def test_bodies_may_use_the_same_names() -> None:
    text = """net (float[N,4] x, bool go) => (float[N,3] y) <float[4,6] w1, float[6,8] w2, float[6,8] w4, float[8,3] w3> {
        h = MatMul(x, w1)
        b = If (go) < then_branch = yes () => (float[N,8] t) { r = Relu(h)  t = MatMul(r, w2) },
            else_branch = no () => (float[N,8] t) { r = Tanh(h)  t = MatMul(r, w4) } >
        y = MatMul(b, w3) }"""
    result = prune(graph(text))
    assert [len(g.removed) for g in result.plan.steps[0].groups] == [3, 4]
    names = [o.name for node in walk(result.module.graph) for o in node.outputs]
    assert len(set(names)) == len(names)
    again = prunec.run(graph(text), "prune-channels", replay=result.plan)
    for name, array in weights(result.module).items():
        np.testing.assert_array_equal(weights(again.module)[name], array)


def test_a_shared_bias_is_copied_for_a_body_that_cuts_it_differently() -> None:
    text = """net (float[N,4] x, bool go) => (float[N,3] y)
    <float[4,6] w1, float[6] b, float[4,6] w5, float[6,3] w3, float[6,3] w4> {
        h = Gemm(x, w1, b)
        r = Relu(h)
        z = If (go) < then_branch = yes () => (float[N,3] t) { a = Gemm(x, w5, b)  q = Relu(a)  t = MatMul(q, w4) },
            else_branch = no () => (float[N,3] e) { e = MatMul(r, w3) } >
        y = Neg(z) }"""
    module = graph(text)
    assert len([g for g in prunable(module) if "@b(" in g]) == 2
    result = prune(module)
    assert result.verdicts[0].ways == (2, 2)
    assert (result.cost_before.parameters, result.cost_after.parameters) == (90, 45 + 3)  # b is there twice


def test_weights_inside_a_body_are_cut_there() -> None:
    proto_text = """net (float[N,2] x, bool go) => (float[N,2] y) {
        y = If (go) <
            then_branch = yes () => (float[N,2] t) <float[2,4] u = {1, 2, 3, 4, 5, 6, 7, 8}, float[4,2] v = {1, 2, 3, 4, 5, 6, 7, 8}>
            { a = MatMul(x, u)  r = Relu(a)  t = MatMul(r, v) },
            else_branch = no () => (float[N,2] e) { e = Identity(x) }
        > }"""
    module = graph(proto_text)
    assert prunable(module) == ["g1 size=4 {@u:1, @v:0}"]
    result = prune(module)
    assert (result.cost_before.parameters, result.cost_after.parameters) == (16, 8)


def test_why_two_layers_in_different_graphs_are_coupled() -> None:
    steps = why(analyse(graph(BRANCHES).model), "w2:0", "w6:1")
    assert "If" in [step.op_type for step in steps]


def test_costs_count_each_body_once() -> None:
    layers = {layer.output: layer for layer in prune(graph(LOOP)).cost_before.layers}
    assert (layers["a"].macs, layers["all"].parameters) == (24, 24)


def test_a_branch_that_the_probes_do_not_take_is_checked_too() -> None:
    """The condition holds for no probe: what is wrong in that branch shows all the same."""
    text = """net (float[N,4] x) => (float[N,3] y) <float most = {1000000}, float[4,8] w1, float[8,3] w2, float[4,8] w3, float[8,3] w4> {
        sum = ReduceSum<keepdims = 0>(x)
        go = Greater(sum, most)
        y = If (go) < then_branch = yes () => (float[N,3] t) { a = MatMul(x, w1)  r = Relu(a)  t = MatMul(r, w2) },
            else_branch = no () => (float[N,3] e) { f = MatMul(x, w3)  s = Relu(f)  e = MatMul(s, w4) } > }"""
    (verdict,) = prune(graph(text)).verdicts
    assert verdict.ways == (2, 2)
    for weight in ("w2", "w4"):
        with pytest.raises(prunec.VerificationError, match="off by"):
            prunec.run(graph(text), saboteur(change(weight, lambda a: a * 2)))


FUNCTIONS = """<ir_version: 9, opset_import: ["" : 18, "my" : 1]>
net (float[N,2] x, bool go) => (float[N,2] y) <float[2,4] w1 = {1, 2, 3, 4, 5, 6, 7, 8}, float[4,2] w2 = {1, 2, 3, 4, 5, 6, 7, 8}>
{ h = my.gated<slope = 0.5>(x, w1, go)  y = MatMul(h, w2) }
<domain: "my", opset_import: ["" : 18, "my" : 1]>
gated <slope> (x, w, go) => (y) {
    a = my.product(x, w)
    y = If (go) < then_branch = yes () => (float[N,4] p) { p = Relu(a) },
        else_branch = no () => (float[N,4] q) { q = LeakyRelu<alpha: float = @slope>(a) } >
}
<domain: "my", opset_import: ["" : 18]>
product (x, w) => (y) { y = MatMul(x, w) }
"""


@pytest.mark.parametrize(
    "pipeline", ["prune-channels{round-to=1}", "canonicalize, prune-channels{round-to=1}"]
)
def test_functions_that_hold_branches_and_call_functions_are_inlined(pipeline: str) -> None:
    result = prunec.run(prunec.load(onnx.parser.parse_model(FUNCTIONS)), pipeline)
    assert (result.cost_before.parameters, result.cost_after.parameters) == (16, 8)
    assert "2 local functions are inlined, so that what is in them can be pruned" in [
        r.message for r in result.remarks
    ]
    assert result.verdicts[-1].ways == (2, 2)
    assert prunec.run(prunec.load(onnx.parser.parse_model(FUNCTIONS)), "fold-norm").module.model.functions
