"""Criteria against plain loops over every unit, every member and every slot."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import coupling_of, graph, weights
from coupling_graphs import GRAPHS, coupled

from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.passes.coupling.groups import Group, Member
from prunec.passes.pruning.importance import Criterion, Importance, power_sums

SCALES = {
    ("BatchNormalization", 1),
    ("LayerNormalization", 1),
    ("InstanceNormalization", 1),
    ("Mul", 0),
    ("Mul", 1),
}
BIASES = {("Add", 0), ("Add", 1), ("Conv", 2), ("ConvTranspose", 2), ("Gemm", 2), ("BatchNormalization", 2),
          ("LayerNormalization", 2)}  # fmt: skip
STATISTICS = {("BatchNormalization", 3), ("BatchNormalization", 4)}


def kind(member: Member) -> str:
    """What a constant is, by who reads it: the test's own table."""
    uses = (
        [member.operand.use] if member.operand.use else [(u.node, u.idx) for u in member.operand.value.uses()]
    )
    where = {(node.op_type, index) for node, index in uses}
    if len(member.operand.value.shape or ()) > 1:
        return "weight"
    if where & SCALES:
        return "scale"
    return "bias" if where & (BIASES | STATISTICS) else "operand"


def judged(group: Group, kinds: tuple[str, ...]) -> list[Member]:
    return [m for m in group.members if kind(m) in kinds] or list(group.members)


def slices(module: Module, member: Member, unit: int) -> list[np.ndarray]:
    """The slices of a tensor that belong to a unit, in order."""
    array = weights(module)[member.name].astype(np.float64)
    return [np.take(array, slot, member.axis).ravel() for slot, u in enumerate(member.units) if u == unit]


def vector(module: Module, group: Group, unit: int) -> np.ndarray:
    parts = [s for m in judged(group, ("weight", "scale")) for s in slices(module, m, unit)]
    return np.concatenate(parts)


def naive(module: Module, group: Group, criterion: str) -> list[float]:
    everything = [vector(module, group, unit) for unit in range(group.units)]
    if criterion == "l1":
        return [float(sum(abs(x) for x in row)) for row in everything]
    if criterion == "l2":
        return [float(sum(x * x for x in row)) ** 0.5 for row in everything]
    if criterion == "fpgm":
        return [sum(float(np.sqrt(sum((a - b) ** 2))) for b in everything) for a in everything]
    members = judged(group, ("scale",))
    return [
        sum(float(np.abs(s).sum()) for m in members for s in slices(module, m, u)) for u in range(group.units)
    ]


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm", "bn-scale"])
@pytest.mark.parametrize("name", [name for name in GRAPHS if "Constant node" not in name])
def test_scores_equal_plain_loops(name: str, criterion: Criterion) -> None:
    module = coupled(name)
    coupling = coupling_of(module)
    for group in coupling.prunable:
        score = Importance(coupling, criterion).score(group)
        np.testing.assert_allclose(score, naive(module, group, criterion), rtol=1e-5, atol=1e-5)


def scores(module: Module, criterion: Criterion, seed: int = 0) -> list[list[float]]:
    coupling = coupling_of(module)
    importance = Importance(coupling, criterion, seed)
    return [importance.score(g).tolist() for g in coupling.prunable]


NORMED = """net (float[N,3,8] x) => (float[N,5,8] y)
<float[3] g = {3, -5, 1}, float[3] b = {9, 9, 9}, float[3] m = {0, 0, 0}, float[3] v = {1, 1, 1}, float[5,3,1] w2>
{ a = Conv(x, w1) n = BatchNormalization(a, g, b, m, v) y = Conv(n, w2) }"""


def test_bn_scale_looks_at_gamma_alone() -> None:
    module = graph(NORMED, w1=np.ones((3, 3, 1), np.float32))
    assert scores(module, "bn-scale") == [[3, 5, 1]]


def test_bn_scale_falls_back_to_all_weights_where_there_is_no_norm() -> None:
    module = coupled("tied weights")
    assert scores(module, "bn-scale")[0] == pytest.approx(scores(module, "l1")[0])


def test_a_bias_does_not_make_a_unit_important() -> None:
    big = GRAPHS["plain"].replace("float[4] b1", "float[4] b1 = {100, 0, 0, 0}")
    assert scores(graph(big), "l1") == scores(coupled("plain"), "l1")


def test_running_statistics_do_not_count() -> None:
    module = graph(NORMED, w1=np.ones((3, 3, 1), np.float32))
    other = graph(NORMED.replace("m = {0, 0, 0}", "m = {0, 50, 0}"), w1=np.ones((3, 3, 1), np.float32))
    assert scores(module, "l2") == scores(other, "l2")


def test_random_depends_on_the_seed_alone() -> None:
    module = coupled("residual")
    assert scores(module, "random") == scores(module, "random", 0)
    assert scores(module, "random") != scores(module, "random", 1)


def test_weights_in_a_constant_node_count() -> None:
    module = graph(
        GRAPHS["weight in a Constant node"].replace(
            "<float[4,5] w2>", "<float[4,5] w2 = {" + ", ".join(["1"] * 20) + "}>"
        )
    )
    assert scores(module, "l1") == [[15 + 5, 18 + 5, 21 + 5, 24 + 5]]


def test_half_precision_is_summed_in_more() -> None:
    text = "net (float16[N,3000] x) => (float16[N,1] y) <float16[2,1] w2> { a = MatMul(x, w1) y = MatMul(a, w2) }"
    module = graph(text, w1=np.ones((3000, 2), np.float16))
    second = np.abs(weights(module)["w2"].astype(np.float64)).ravel()
    assert scores(module, "l1")[0] == pytest.approx((3000 + second).tolist())


DEQUANTISED = """net (float[N,3] x) => (float[N,5] y)
{ w1 = DequantizeLinear<axis=1>(q, scale, point) a = MatMul(x, w1) y = MatMul(a, w2) }"""


def test_integer_weights_count_with_what_they_stand_for() -> None:
    """The integers alone would say that unit 0 matters most; with scale and zero point it is unit 3."""
    integers = np.array([[255, 128, 128, 100], [255, 128, 140, 100], [255, 128, 128, 90]], np.uint8)
    scale = np.array([0.001, 10, 0.1, 1], np.float32)
    point = np.array([0, 128, 128, 200], np.uint8)
    module = graph(DEQUANTISED, q=integers, scale=scale, point=point, w2=np.zeros((4, 5), np.float32))
    real = (integers.astype(np.float32) - point) * scale
    np.testing.assert_allclose(scores(module, "l1"), [np.abs(real).sum(axis=0)], rtol=1e-6)
    np.testing.assert_allclose(scores(module, "l2"), [np.sqrt((real**2).sum(axis=0))], rtol=1e-6)


NBITS = """net (float[N,3] x) => (float[N,5] y)
{ a = MatMul(x, w1) b = com.microsoft.MatMulNBits<K=16, N=4, bits=4, block_size=16>(a, q, scale)
  y = Gemm<transB=1>(b, w2) }"""


def test_packed_weights_count_with_what_they_stand_for() -> None:
    integers = np.array([0x88, 0x87, 0x68, 0x1F], np.uint8)[:, None, None].repeat(8, 2)
    scale = np.array([[1], [2], [3], [0.1]], np.float32)
    module = graph(
        NBITS, q=integers, scale=scale, w2=np.zeros((5, 4), np.float32), w1=np.zeros((3, 16), np.float32)
    )
    deviations = np.array([[0, 0], [1, 0], [0, 2], [7, 7]])  # low and high four bits, less 8
    expected = (
        8 * np.abs(deviations).sum(axis=1) * scale[:, 0] + scale[:, 0]
    )  # the scales themselves count too
    np.testing.assert_allclose(scores(module, "l1"), [expected], rtol=1e-6)


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(criterion: Criterion, value: float) -> None:
    arrays = {"w": np.ones((4, 8), np.float32), "v": np.ones((8, 4), np.float32)}
    arrays["w"][1, 2:4] = value
    text = "net (float[2,4] x) => (float[2,4] y) { h = MatMul(x, w) y = MatMul(h, v) }"
    coupling = coupling_of(graph(text, **arrays))
    with np.errstate(all="ignore"), pytest.raises(UserError, match="`w` holds 2 NaN or infinite"):
        Importance(coupling, criterion).score(coupling.prunable[0])


def test_squares_beyond_float32_still_rank() -> None:
    arrays = {"w": np.full((4, 8), 1e30, np.float32), "v": np.ones((8, 4), np.float32)}
    arrays["w"][:, 3] = 1e25
    text = "net (float[2,4] x) => (float[2,4] y) { h = MatMul(x, w) y = MatMul(h, v) }"
    coupling = coupling_of(graph(text, **arrays))
    assert np.argmin(Importance(coupling, "l2").score(coupling.prunable[0])) == 3


@pytest.mark.parametrize("criterion", ["l1", "l2", "fpgm", "bn-scale"])
def test_units_without_any_number_are_alike(criterion: Criterion) -> None:
    """Samples that constant indices choose: nothing but the indices goes with them."""
    module = graph(
        """net (float[3,4] x) => (float[1,4] y) <int64[3,1] i = {2, 0, 1}, int64[1] zero = {0}>
        { a = GatherND(x, i) y = ReduceSum(a, zero) }"""
    )
    coupling = coupling_of(module)
    (group,) = [g for g in coupling.groups if "@i:0" in str(g)]
    assert Importance(coupling, criterion).score(group).tolist() == [0.0] * group.units


@pytest.mark.parametrize("shape", [(7,), (0, 5), (5, 0), (3, 40_000), (70_000, 2), (4, 1, 3, 2)])
@pytest.mark.parametrize("power", [1, 2])
def test_sums_by_blocks_are_those_of_the_whole(shape: tuple[int, ...], power: int) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    whole = np.abs(array.astype(np.float64)) ** power
    for axis, sums in enumerate(power_sums(array, power)):
        others = tuple(a for a in range(array.ndim) if a != axis)
        np.testing.assert_allclose(sums, whole.sum(axis=others), rtol=1e-12)


def test_slots_that_are_equal_have_equal_sums() -> None:
    row = np.random.default_rng(0).standard_normal((1, 999)).astype(np.float32)
    rows, columns = power_sums(np.repeat(row, 101, 0), 2)
    assert len(set(rows.tolist())) == 1
    assert len(set(power_sums(np.repeat(row.T, 101, 1), 2)[1].tolist())) == 1
    assert len(columns) == 999
