"""Rare forms of ops between two convolutions: they are cut, and the verifier agrees; or they pin, and say why."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph, node_of, prune, shape_of

from prunec.ir.module import Module
from prunec.passes.coupling import analyse

FAR = -(2**31)


def between(
    body: str, *, shape: str = "N,3,6,6", opset: int = 17, more: str = "", columns: int = 8
) -> Module:
    """``body`` makes ``b`` of the eight channels ``a`` of a convolution; a second one reads it."""
    declared = f"float[8,3,1,1] w1, float[8] b1, float[5,{columns},1,1] w2{', ' * bool(more)}{more}"
    return graph(
        f"net (float[{shape}] x) => (float[N,5,H,W] y) <{declared}> "
        f"{{ a = Conv(x, w1, b1) {body} y = Conv(b, w2) }}",
        opset=opset,
    )


CUT: dict[str, Module] = {
    "expand to a shorter shape": between("e = Expand(a, s) b = Relu(e)", more="int64[2] s = {6, 6}"),
    "resize of two axes": between(
        'b = Resize<axes=[2, 3], mode="nearest">(a, , , s)', opset=18, more="int64[2] s = {12, 12}"
    ),
    "a backward slice beside a cut one": between(
        "b = Slice(a, s, e, x2, p)",
        more="int64[2] s = {-1, 0}, int64[2] e = {-3, 4}, int64[2] x2 = {2, 1}, int64[2] p = {-1, 1}",
        columns=4,
    ),
    "a backward slice that is cut": between(
        "b = Slice(a, s, e, x2, p)",
        more=f"int64[1] s = {{3}}, int64[1] e = {{{FAR}}}, int64[1] x2 = {{1}}, int64[1] p = {{-1}}",
        columns=4,
    ),
    "channels that are no slice any more beside a backward slice": between(
        "b = Slice(a, s, e, x2, p)",
        more="int64[2] s = {-1, 1}, int64[2] e = {-3, 8}, int64[2] x2 = {2, 1}, int64[2] p = {-1, 1}",
        columns=7,
    ),
    "group norm with a scale per channel": between(
        "b = GroupNormalization<num_groups=2>(a, s, t)", opset=21, more="float[8] s, float[8] t"
    ),
    "a bias as a list of floats": between(
        "v = Constant<value_floats=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]>() b = Conv(a, w, v)",
        more="float[8,8,1,1] w",
    ),
    "batch norm that trains": between(
        "b, m, v = BatchNormalization<training_mode=1>(a, s, t, mean, var)",
        more="float[8] s, float[8] t, float[8] mean, float[8] var",
    ),
}


@pytest.mark.parametrize("ratio", [0.4, 0.8])
@pytest.mark.parametrize("what", CUT)
def test_rare_forms_are_cut(what: str, ratio: float) -> None:
    assert prune(CUT[what], ratio).plan.steps


PINNED: dict[str, tuple[Module, str]] = {
    "positions that a pooling found": (
        between("p, i = MaxPool<kernel_shape=[2, 2]>(a) f = Cast<to=1>(i) b = Add(p, f)"),
        "`MaxPool`: its indices count the elements of all channels",
    ),
    "interpolation between channels": (
        between('b = Resize<mode="linear">(a, , s)', shape="2,3,6,6", more="float[4] s = {1, 1.1, 1, 1}"),
        "a spatial axis of Resize",
    ),
    "the keys that attention chooses among": (
        graph(
            """net (float[2,4,6] x) => (float[2,4,5] y) <float[8,4] w1, float[6,6] q, float[6,6] k, float[6,5] w2>
            { a = MatMul(w1, x) Q = MatMul(x, q) K = MatMul(a, k)
              o = com.microsoft.MultiHeadAttention<num_heads=2>(Q, K, K) y = MatMul(o, w2) }"""
        ),
        "the head size or a position of MultiHeadAttention",
    ),
}


@pytest.mark.parametrize("what", PINNED)
def test_rare_forms_that_pin(what: str) -> None:
    module, reason = PINNED[what]
    frozen = {g.frozen.text for g in analyse(module.model).groups if g.frozen and "@w1:0" in str(g)}
    assert frozen == {reason}


def test_groups_of_a_group_norm_stay_equal() -> None:
    (group,) = analyse(CUT["group norm with a scale per channel"].model).prunable
    assert group.statistic
    assert [str(member) for member in group.members] == ["@w1:0*2", "@b1:0*2", "@s:0*2", "@t:0*2", "@w2:1*2"]


def test_squeezing_all_axes_spares_one_that_shrinks_to_one() -> None:
    text = """net (float[2,3,6,6] x) => (float[2,5] y) <float[2,3,1,1] w, float[5,2] f>
    { a = Conv(x, w) g = GlobalAveragePool(a) s = Squeeze(g) y = Gemm<transB=1>(s, f) }"""
    for opset in (11, 17):
        module = prune(graph(text, opset=opset), 0.5).module
        assert shape_of(module, "f") == (5, 1)
        assert len(node_of(module, "s").inputs) == (1 if opset < 13 else 2)


def test_a_vector_that_is_a_graph_output_keeps_its_size() -> None:
    text = """net (float[N,3,6,6] x) => (float[N,5,6,6] y, float[8] v) <float[8,3,1,1] w1, float[8,3,1,1] w3,
        float[5,8,1,1] w2 VECTOR>
    { NODE a = Conv(x, w1, v) b = Conv(x, w3, v) c = Add(a, b) y = Conv(c, w2) }"""
    floats = "v = Constant<value_floats=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]>()"
    for vector, node in ((", float[8] v", ""), ("", floats)):
        module = prune(graph(text.replace("VECTOR", vector).replace("NODE", node))).module
        assert shape_of(module, "w1")[0] == 4
        assert [output.shape for output in module.graph.outputs][1] == (8,)


def test_a_computed_shape_keeps_its_minus_one() -> None:
    """Batch and heads are one axis, written as -1 beside a sequence length that is computed."""
    text = """net (float[N,T,6] x) => (float[N,T,5] y) <float[6,12] w, float[12,5] f, int64[1] zero = {0},
        int64[1] one = {1}, int64[1] two = {2}, int64[4] split = {0, 0, 4, 3}, int64[1] any = {-1},
        int64[1] three = {3}, int64[1] four = {4}>
    {
        q = MatMul(x, w)
        shape = Shape(x)
        t = Slice(shape, one, two)
        heads = Reshape(q, split)
        first = Transpose<perm=[0, 2, 1, 3]>(heads)
        flat = Concat<axis=0>(any, t, three)
        merged = Reshape(first, flat)
        r = Relu(merged)
        full = Concat<axis=0>(any, four, t, three)
        apart = Reshape(r, full)
        last = Transpose<perm=[0, 2, 1, 3]>(apart)
        joint = Concat<axis=0>(zero, t, any)
        o = Reshape(last, joint)
        y = MatMul(o, f)
    }"""
    assert prune(graph(text), 0.4).plan.steps


def test_a_computed_shape_in_an_opset_without_where() -> None:
    text = """net (float[N,4,6] x) => (float[N,4,5] y) <float[6,12] w, float[12,5] f, int64[1] first = {0},
        int64[3] split = {4, 4, 3}, int64[2] join = {4, 12}>
    { h = MatMul(x, w) s = Shape(x) n = Gather(s, first) t = Concat<axis=0>(n, split) a = Reshape(h, t)
      r = Relu(a) u = Concat<axis=0>(n, join) b = Reshape(r, u) y = MatMul(b, f) }"""
    for opset, made in ((8, {"Mul", "Add"}), (13, {"Where"})):
        module = prune(graph(text, opset=opset), 0.5).module
        assert {node.op_type for node in module.graph} - {
            "MatMul",
            "Shape",
            "Gather",
            "Concat",
            "Reshape",
            "Relu",
        } == made


def test_a_shape_that_is_read_off_another_cut_value() -> None:
    """The number of channels comes from `a`, which is cut in another way than the value that is resized."""
    text = """net (float[N,3,H,W] x) => (float[N,5,H2,W2] y) <float[8,3,1,1] w, float[8,8,1,1] v, float[5,8,1,1] f,
        int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}, int64[2] double = {2, 2}>
    { a = Conv(x, w) b = Conv(a, v) s = Shape(a) n = Slice(s, zero, two) h = Slice(s, two, four)
      t = Mul(h, double) u = Concat<axis=0>(n, t) r = Resize<mode="nearest">(b, , , u) y = Conv(r, f) }"""
    result = prune(graph(text), 0.5, only="w")
    assert shape_of(result.module, "w")[0] == 4
    assert shape_of(result.module, "f")[1] == 8


def test_the_batch_of_a_constant_stays_where_that_of_the_data_is_open() -> None:
    module = between("b = com.microsoft.MaxpoolWithMask<kernel_shape=[2, 2]>(a, m)", more="int32[2,1,6,6] m")
    (group,) = [g for g in analyse(module.model).groups if "@m:0" in str(g)]
    assert group.frozen is not None
    assert group.frozen.text == "an axis that no other operand of MaxpoolWithMask shares"


MASK = np.random.default_rng(0).standard_normal((1, 4, 4, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("opset", "attention"),
    [
        (23, "Attention<q_num_heads=4, kv_num_heads=4>(Q, K, V, mask)"),
        (17, "com.microsoft.MultiHeadAttention<num_heads=4>(Q, K, V, , , mask)"),
    ],
)
def test_the_mask_of_every_head_goes_with_its_head(opset: int, attention: str) -> None:
    text = f"""net (float[N,4,12] q) => (float[N,4,5] y) <float[12,12] wq, float[12,12] wk, float[12,12] wv,
        float[12,5] f>
    {{ Q = MatMul(q, wq) K = MatMul(q, wk) V = MatMul(q, wv) o = {attention} y = MatMul(o, f) }}"""
    module = prune(graph(text, opset=opset, mask=MASK), 0.5).module
    assert shape_of(module, "mask") == (1, 2, 4, 4)
