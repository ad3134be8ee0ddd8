"""The pass compensate: what it restores exactly, what it improves, and what it says where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph, outputs, weight, weights
from numpy.typing import NDArray

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.passes.manager import Result

Array = NDArray[Any]

TWINS = [2, 3, 6, 7]
"""Channels that are half of those two places before them."""

CONSUMERS = {
    "conv": "float[5,8,3,3] w -> y = Conv<pads = [1, 1, 1, 1]>(h, w)",
    "conv strided": "float[5,8,3,3] w, float[5] b -> y = Conv<strides = [2, 2]>(h, w, b)",
    "conv dilated": "float[5,8,2,2] w -> y = Conv<dilations = [2, 1]>(h, w)",
    "conv grouped": "float[6,4,3,3] w -> y = Conv<group = 2>(h, w)",
    "conv transposed": "float[8,5,3,3] w -> y = ConvTranspose<strides = [2, 2]>(h, w)",
    "conv transposed grouped": "float[8,3,2,2] w -> y = ConvTranspose<group = 2>(h, w)",
    "gemm": "float[5,288] w, float[5] b -> f = Flatten(h) y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(f, w, b)",
    "gemm without a bias": "float[288,5] w -> f = Flatten(h) y = Gemm<alpha = -1.5>(f, w)",
    "matmul": "float[8,5] w -> t = Transpose<perm = [0, 2, 3, 1]>(h) y = MatMul(t, w)",
    "matmul and bias": "float[8,5] w, float[5] b -> t = Transpose<perm = [0, 2, 3, 1]>(h) p = MatMul(t, w) y = Add(b, p)",
    "matmul on the left": "float[5,8] w -> t = Transpose<perm = [0, 2, 1, 3]>(h) y = MatMul(w, t)",
    "einsum": 'float[5,8] w -> y = Einsum<equation = "nchw,oc->nohw">(h, w)',
}


def module_of(consumer: str) -> Module:
    """A 1x1 convolution whose weakest channels are twins of others, a Relu, and a consumer."""
    declared, body = CONSUMERS[consumer].split(" -> ")
    first = weight("first", 8, 3, 1, 1)
    first *= 30 / np.linalg.norm(first, axis=1, keepdims=True)  # outweighs what reads it
    first[TWINS] = 0.5 * first[[channel - 2 for channel in TWINS]]
    return graph(
        f"net (float[N,3,6,6] x) => (float y) <{declared}> {{ g = Conv(x, first) h = Relu(g) {body} }}",
        first=first,
    )


def samples(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


IMAGES = {"x": samples(48, 3, 6, 6)}
MANY = {"x": samples(400, 3, 6, 6)}
CUT = "prune-channels{ratio=50% round-to=1 criterion=l2 only=first}"


def compensate(module: Module, options: str = "", data: Any = IMAGES, cut: str = CUT) -> Result:
    return prunec.run(module, f"{cut}, compensate{options}", data=data)


def off(result: Result, module: Module, data: Any = IMAGES) -> float:
    new, old = (outputs(m, data)["y"] for m in (result.module, module))
    return float(np.abs(new - old).max() / np.abs(old).max())


def remarks(result: Result) -> str:
    return "\n".join(map(str, result.remarks))


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_channels_that_follow_from_others_are_restored(consumer: str) -> None:
    module = module_of(consumer)
    plain = prunec.run(module, CUT)
    removed = {t.removed for g in plain.plan.steps[0].groups for t in g.tensors if t.name == "first"}
    assert removed == {tuple(TWINS)}
    assert off(plain, module) > 0.05
    result = compensate(module, "", MANY if "gemm" in consumer else IMAGES)
    assert off(result, module, {"x": samples(9, 3, 6, 6, seed=1)}) < 1e-5
    assert result.cost_after.macs == plain.cost_after.macs


def test_a_constant_channel_goes_into_the_bias() -> None:
    first = weight("first", 8, 3, 1, 1)
    first[4:] = 0
    module = graph(
        """net (float[N,3,6,6] x) => (float[N,5,4,4] y) <float[8] b, float[5,8,3,3] w>
        { g = Conv(x, first, b) h = Sigmoid(g) y = Conv(h, w) }""",
        first=100 * first,
    )
    result = compensate(module, "{method=bias}")
    assert weights(result.module)["first"].shape[0] == 4
    assert off(result, module) < 1e-5
    assert weights(result.module)["w"].tolist() == weights(prunec.run(module, CUT).module)["w"].tolist()


BIASES = {
    "a transposed weight": "float[5,8] w, float[5] b -> v = Transpose(w) p = MatMul(h, v) y = Add(p, b)",
    "a bias of one number": "float[8,5] w, float[1] b -> p = MatMul(h, w) y = Add(p, b)",
    "a Gemm": "float[5,8] w, float[1,5] b -> y = Gemm<transB = 1, beta = 0.5>(h, w, b)",
}


@pytest.mark.parametrize("what", BIASES)
def test_a_bias_that_is_there_is_changed(what: str) -> None:
    declared, body = BIASES[what].split(" -> ")
    module = graph(
        f"net (float[N,8] x) => (float[N,5] y) <float[8,8] first, {declared}> {{ g = MatMul(x, first) h = Relu(g) {body} }}"
    )
    data = {"x": samples(300, 8)}
    result = compensate(module, "", data, "prune-channels{ratio=25% round-to=1}")
    assert weights(result.module).keys() == weights(module).keys()
    assert [node.op_type for node in result.module.graph] == [node.op_type for node in module.graph]
    assert not np.array_equal(weights(result.module)["b"], weights(module)["b"])
    new, old = outputs(result.module, data)["y"], outputs(module, data)["y"]
    assert np.abs((new - old).mean(axis=0)).max() < 0.05 * np.abs(old).mean()


def test_a_bias_that_several_layers_share_is_copied() -> None:
    module = graph(
        """net (float[N,3,6,6] x) => (float[N,5,6,6] y, float[N,5,6,6] z)
        <float[8,3,1,1] first, float[5,8,1,1] v, float[5,8,1,1] w, float[5] b>
        { g = Conv(x, first) h = Relu(g) y = Conv(h, v, b) z = Conv(h, w, b) }"""
    )
    result = compensate(module, "{method=bias}")
    readers = [node.inputs[2].name for node in result.module.graph if len(node.inputs) == 3]  # type: ignore[union-attr]
    assert len(set(readers)) == 2
    new, old = outputs(result.module, IMAGES), outputs(module, IMAGES)
    for name in ("y", "z"):
        mean = (new[name] - old[name]).mean(axis=(0, 2, 3))
        assert np.abs(mean).max() < 0.05 * np.abs(old[name]).mean()


STREAM = """
net (float[N,12] x) => (float[N,5] y) <float[12,16] embed, float[16,32] up1, float[32,16] down1, float[16] bd1,
    float[16,32] up2, float[32,16] down2, float[16] scale, float[16] shift, float[16,5] head> {
    s0 = MatMul(x, embed)
    n1 = LayerNormalization(s0, scale, shift)
    u1 = MatMul(n1, up1)
    r1 = Relu(u1)
    d1 = MatMul(r1, down1)
    e1 = Add(d1, bd1)
    s1 = Add(s0, e1)
    u2 = MatMul(s1, up2)
    r2 = Relu(u2)
    d2 = MatMul(r2, down2)
    s2 = Add(s1, d2)
    y = MatMul(s2, head)
}
"""


def mean_square(result: Result, module: Module, data: dict[str, Array]) -> float:
    new, old = (outputs(m, data)["y"] for m in (result.module, module))
    return float(np.square(new - old).mean() / np.square(old).mean())


def test_layers_of_a_residual_stream_that_is_cut() -> None:
    module, data = graph(STREAM), {"x": samples(800, 12)}
    cut = "prune-channels{ratio=25% round-to=1}"
    plain = prunec.run(module, cut)
    assert weights(plain.module)["embed"].shape == (12, 12)
    fresh = {"x": samples(200, 12, seed=1)}
    errors = {
        method: mean_square(compensate(module, f"{{method={method}}}", data, cut), module, fresh)
        for method in ("bias", "lstsq")
    }
    assert errors["lstsq"] < 0.3 * mean_square(plain, module, fresh)
    assert errors["lstsq"] < 0.3 * errors["bias"]


def test_layers_are_fitted_to_what_the_fitted_layers_before_them_compute() -> None:
    """With inputs from the fitted prefix the last layer's fit is a plain regression on what it then reads."""
    module, data = graph(STREAM), {"x": samples(640, 12)}
    result = compensate(module, "{ridge=0.001}", data, "prune-channels{ratio=25% round-to=1}")
    reads, before = (outputs(m, data, [n])[n] for m, n in ((result.module, "s2"), (module, "y")))
    fitting = slice(0, 560)
    x, y = reads[fitting].astype(np.float64), before[fitting].astype(np.float64)
    old = weights(prunec.run(module, "prune-channels{ratio=25% round-to=1}").module)["head"].astype(
        np.float64
    )
    x = x - x.mean(axis=0)
    residual = (y - reads[fitting] @ old) - (y - reads[fitting] @ old).mean(axis=0)
    ridge = 0.001 * np.trace(x.T @ x) / x.shape[1] * np.eye(x.shape[1])
    expected = old + np.linalg.solve(x.T @ x + ridge, x.T @ residual)
    np.testing.assert_allclose(weights(result.module)["head"], expected, rtol=1e-3, atol=1e-4)


def test_several_cuts_are_compared_with_the_model_before_the_first() -> None:
    module, data = graph(STREAM), {"x": samples(800, 12)}
    cut = "prune-channels{ratio=15% round-to=1}"
    result = prunec.run(module, f"repeat{{times=2}}({cut}, compensate)", data=data)
    plain = prunec.run(module, f"repeat{{times=2}}({cut})")
    assert weights(result.module)["embed"].shape == weights(plain.module)["embed"].shape
    assert mean_square(result, module, data) < 0.5 * mean_square(plain, module, data)


def test_types_stay() -> None:
    module = graph(
        """net (float16[N,8] x) => (float16[N,5] y) <float16[8,8] a, float16[8,5] b>
        { g = MatMul(x, a) h = Relu(g) y = MatMul(h, b) }"""
    )
    result = compensate(module, "", {"x": samples(200, 8).astype(np.float16)}, "prune-channels{round-to=1}")
    assert {array.dtype.name for array in weights(result.module).values()} == {"float16"}
    assert len(weights(result.module)) == 3  # the bias is new


def test_few_samples_keep_the_weights_and_say_so() -> None:
    module = module_of("gemm")
    data = {"x": samples(4, 3, 6, 6)}
    result = compensate(module, "{ridge=0}", data)
    plain = prunec.run(module, CUT)
    assert off(result, module, IMAGES) <= 1.2 * off(plain, module, IMAGES)


def test_nothing_was_cut() -> None:
    result = compensate(module_of("conv"), cut="prune-channels{ratio=0}")
    assert not result.changed
    assert "nothing is compensated" in remarks(result)
    assert "no channels were cut before" in remarks(result)


def test_layers_that_cannot_be_fitted_are_told() -> None:
    module = graph(
        """net (float[N,8] x) => (float[N,8] y, float[N,8] z) <float[8,8] a, float[8,8] w>
        { g = MatMul(x, a) h = Relu(g) y = MatMul(h, w) k = Neg(h) z = MatMul(k, w) }"""
    )
    result = compensate(module, "", {"x": samples(64, 8)}, "prune-channels{round-to=1}")
    assert "2 nodes share its weight" in remarks(result)


ERRORS = {
    "no cut before": (
        "fold-norm, compensate",
        "`compensate` repairs what a cut has changed, and no pass before it cuts channels",
        "put it behind one that does: prune-channels{ratio=30%}, compensate",
    ),
    "no data": (
        "prune-channels, compensate",
        "`compensate` needs calibration data, and none are given",
        "--data FILE.npz",
    ),
    "rewritten since": (
        "prune-channels{round-to=1}, sparsify{pattern=unstructured}, compensate",
        "`sparsify` changed the model between the cut and `compensate`, so that layers cannot be compared",
        "put `compensate` straight behind the pass that cuts, and `sparsify` elsewhere",
    ),
    "a ridge for biases": (
        "prune-channels, compensate{method=bias ridge=0.1}",
        "option 'ridge' is for method=lstsq, and method is bias",
        "leave `ridge` out",
    ),
    "a negative ridge": (
        "prune-channels, compensate{ridge=-1}",
        "option 'ridge' takes a number of at least 0 or none, got '-1'",
        "compensate",
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_mistakes_are_told(what: str) -> None:
    text, message, help = ERRORS[what]
    with pytest.raises(UserError) as caught:
        prunec.run(module_of("conv"), text, data=None if what == "no data" else IMAGES)
    assert message in str(caught.value)
    assert help in str(caught.value)


def test_too_few_samples_are_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"too few samples: 1, of which one is held out"):
        compensate(module_of("conv"), data={"x": samples(1, 3, 6, 6)})
