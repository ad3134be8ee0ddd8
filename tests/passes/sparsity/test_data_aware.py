"""The criteria wanda and sparsegpt: what they choose, what they are fitted to, and what they say of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_graphs import graph, node_of, outputs, weights
from numpy.typing import NDArray
from sabotage import put

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module
from prunec.passes.calibration.moments import Moments
from prunec.passes.interop import OnnxIrPass
from prunec.passes.manager import Result
from prunec.passes.sparsity.data_aware import wanda_mask
from prunec.passes.sparsity.patterns import parse_pattern
from prunec.passes.sparsity.sparsegpt import sparsegpt

Array = NDArray[Any]

TWO = """
net (float[N,16] x) => (float[N,8] y) <float[16,16] w1, float[16,8] w2> {
    a = MatMul(x, w1)
    h = Relu(a)
    y = MatMul(h, w2)
}
"""
CONVS = """
net (float[N,8,6,6] x) => (float[N,8,4,4] y) <float[16,4,3,3] w1, float[8,16,3,3] w2> {
    a = Conv<group = 2, pads = [1, 1, 1, 1]>(x, w1)
    h = Relu(a)
    y = Conv(h, w2)
}
"""


def samples(*shape: int, seed: int = 0) -> Array:
    """Samples whose channels (axis 1) depend on each other."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((shape[1], max(shape[1] // 4, 1), 1)) @ rng.standard_normal((1, 1, shape[1]))
    draws = rng.standard_normal(shape) * 0.3
    mixed = np.moveaxis(np.tensordot(rng.standard_normal(shape), mixing.sum(axis=1), axes=(1, 0)), -1, 1)
    return (mixed + draws).astype(np.float32)


def sparsify(module: Module, criterion: str, data: dict[str, Array], options: str = "layers=all") -> Result:
    return prunec.run(module, f"sparsify{{criterion={criterion} {options}}}", data=data)


def remarks(result: Result) -> str:
    return "\n".join(map(str, result.remarks))


def error(result: Result, module: Module, data: dict[str, Array]) -> float:
    new, old = (outputs(m, data)["y"] for m in (result.module, module))
    return float(np.linalg.norm(new - old) / np.linalg.norm(old))


@pytest.mark.parametrize("pattern", ["2:4", "unstructured"])
def test_wanda_keeps_the_largest_products_of_weight_and_norm_of_every_output(pattern: str) -> None:
    rng = np.random.default_rng(0)
    weight, rows = (
        rng.standard_normal((2, 3, 2, 8)).astype(np.float32),
        rng.standard_normal((2, 50, 16)) * np.arange(16),
    )
    moments = Moments(2, 16, diagonal=True)
    moments.add(rows)
    keep = wanda_mask(weight, moments, parse_pattern(pattern), None if pattern == "2:4" else 0.5)
    span = 4 if pattern == "2:4" else 16
    for group in range(2):
        for row in range(3):
            scores = np.abs(weight[group, row].ravel()) * np.sqrt(np.square(rows[group]).sum(axis=0))
            for start in range(0, 16, span):
                kept = sorted(range(start, start + span), key=lambda i: -scores[i])[: span // 2]
                assert set(np.flatnonzero(keep[group, row].ravel()[start : start + span]) + start) == set(
                    kept
                )


@pytest.mark.parametrize(
    ("text", "shape"), [(TWO, (200, 16)), (CONVS, (60, 8, 6, 6))], ids=["matmul", "conv"]
)
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "unstructured", "block:2x2"])
def test_outputs_move_least_with_sparsegpt(text: str, shape: tuple[int, ...], pattern: str) -> None:
    module, data = graph(text), {"x": samples(*shape)}
    errors = {
        name: error(sparsify(module, name, data, f"pattern={pattern} layers=all"), module, data)
        for name in ("magnitude", "wanda", "sparsegpt")
    }
    assert errors["sparsegpt"] < 0.8 * errors["magnitude"]
    assert errors["sparsegpt"] < 0.9 * errors["wanda"]


def test_a_layer_is_fitted_to_what_the_changed_layers_before_it_compute() -> None:
    module, data = graph(TWO), {"x": samples(160, 16)}
    result = sparsify(module, "sparsegpt", data)
    read = outputs(result.module, data, ["h"])["h"][:144]  # 144 of 160 samples; the others are held out
    moments = Moments(1, 16)
    moments.add(read[None])
    pattern = parse_pattern("2:4")
    expected, _ = sparsegpt(
        weights(module)["w2"].T[None],
        moments.products(),
        lambda costs: pattern.mask(costs[:, :, None])[:, :, 0],
        step=4,
    )
    np.testing.assert_allclose(weights(result.module)["w2"], expected[0].T, rtol=1e-3, atol=1e-4)


def test_every_layer_says_how_far_its_outputs_move() -> None:
    result = sparsify(graph(TWO), "sparsegpt", {"x": samples(160, 16)})
    lines = [str(r) for r in result.remarks if r.kind == "analysis"]
    assert [line.partition("outputs")[0] for line in lines] == [
        "remark[analysis]: sparsify: `a`: ",
        "remark[analysis]: sparsify: `y`: ",
    ]
    assert all("outputs on held-out samples move by " in line and ", by magnitude " in line for line in lines)


def test_quantised_weights_keep_their_scale_and_their_zeros_are_exact() -> None:
    text = """
    net (float[N,16] x) => (float[N,8] y) {
        v = DequantizeLinear<axis = 1>(w, s, z)
        y = MatMul(x, v)
    }
    """
    rng = np.random.default_rng(3)
    zero, scale = rng.integers(-9, 9, 8).astype(np.int8), rng.uniform(0.01, 0.1, 8).astype(np.float32)
    module = graph(text, opset=21, w=rng.integers(-120, 120, (16, 8)).astype(np.int8), s=scale, z=zero)
    data = {"x": samples(200, 16)}
    result = sparsify(module, "sparsegpt", data)
    made = weights(result.module)
    assert np.array_equal(made["s"], scale) and np.array_equal(made["z"], zero) and made["w"].dtype == np.int8
    assert ((made["w"] == zero).reshape(4, 4, 8).sum(axis=1) >= 2).all()
    moved = (made["w"] != weights(module)["w"]) & (made["w"] != zero)
    assert moved.any()
    assert error(result, module, data) < error(sparsify(module, "magnitude", data), module, data)


def test_inputs_that_are_integers_leave_a_layer_to_magnitude() -> None:
    text = "net (uint8[N,8] x) => (int32[N,4] y) { y = MatMulInteger(x, w) }"
    weight = np.random.default_rng(0).integers(-100, 100, (8, 4)).astype(np.int8)
    module, data = (
        graph(text, w=weight),
        {"x": np.random.default_rng(1).integers(0, 200, (20, 8)).astype(np.uint8)},
    )
    result = sparsify(module, "sparsegpt", data)
    assert "`y` is judged by magnitude\n  = reason: its inputs are u8, not floating point" in remarks(result)
    assert np.array_equal(
        weights(result.module)["w"], weights(sparsify(module, "magnitude", data).module)["w"]
    )


def test_too_few_rows_are_told_and_what_they_spoil_is_not_taken() -> None:
    module = graph(TWO)
    result = sparsify(
        module, "sparsegpt", {"x": np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)}
    )
    said = remarks(result)
    assert "`a`: 5 rows of inputs do not determine 16 columns of weights; more samples do" in said
    assert "`a` is judged by magnitude\n  = reason: outputs on held-out samples move by " in said
    assert "  = help: give more samples" in said
    kept = weights(result.module)["w1"] != 0
    assert np.array_equal(weights(result.module)["w1"][kept], weights(module)["w1"][kept])


def test_inputs_that_are_always_zero() -> None:
    data = {"x": samples(100, 16)}
    data["x"][:, 3:9] = 0
    result = sparsify(graph(TWO), "sparsegpt", data)
    assert np.isfinite(weights(result.module)["w1"]).all()
    assert not weights(result.module)["w1"][3:9].any()


@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
@pytest.mark.parametrize(("scale", "why"), [(0.0, "all zero"), (1e30, "too large to be squared")])
def test_samples_that_say_nothing_leave_the_layer_to_magnitude(
    criterion: str, scale: float, why: str
) -> None:
    module = graph(TWO)
    result = sparsify(module, criterion, {"x": samples(100, 16) * np.float32(scale)})
    assert f"`a` is judged by magnitude\n  = reason: its inputs on the samples are {why}" in remarks(result)
    plain = prunec.run(module, "sparsify{layers=all}")
    assert np.array_equal(weights(result.module)["w1"], weights(plain.module)["w1"])


def test_outputs_that_are_no_numbers_are_told() -> None:
    module = graph(TWO)
    put(module, "w2", np.full((16, 8), np.nan, np.float32))
    (verdict,) = prunec.run(module, "sparsify{layers=all only=a}").verdicts
    assert "no output is a finite number, before as after" in str(verdict)


@pytest.mark.parametrize("batch", ["4", "1"])
def test_models_that_fix_their_batch(batch: str) -> None:
    data = {"x": samples(161, 16)}
    free = weights(sparsify(graph(TWO), "sparsegpt", data).module)["w2"]
    fixed = weights(sparsify(graph(TWO.replace("[N,", f"[{batch},")), "sparsegpt", data).module)["w2"]
    assert np.mean((free != 0) == (fixed != 0)) > 0.9  # other samples are held out


def test_a_plan_replays_masks_and_the_fit() -> None:
    module, data = graph(TWO), {"x": samples(160, 16)}
    result = sparsify(module, "sparsegpt", data)
    again = prunec.run(module, "sparsify{criterion=sparsegpt layers=all}", data=data, replay=result.plan)
    for name, array in weights(result.module).items():
        np.testing.assert_allclose(weights(again.module)[name], array, rtol=1e-3, atol=1e-4)
        assert np.array_equal(weights(again.module)[name] != 0, array != 0)


@pytest.mark.parametrize(
    "text", ["sparsify{criterion=wanda}", "fold-norm, repeat{times=2}(sparsify{criterion=sparsegpt})"]
)
def test_no_data_is_an_error_before_anything_runs(text: str) -> None:
    begun: list[str] = []
    with pytest.raises(UserError) as caught:
        prunec.run(graph(TWO), text, progress=begun.append)
    assert (
        "needs calibration data, and none are given\n  = help: on the command line: --data FILE.npz"
        in str(caught.value)
    )
    assert begun == []


def test_one_layer_is_no_measure_for_another() -> None:
    with pytest.raises(UserError, match=r"criterion wanda compares the weights of one layer, not of all"):
        prunec.parse_pipeline("sparsify{criterion=wanda pattern=unstructured scope=global}")


def test_a_model_that_fails_on_the_data_is_the_users_mistake() -> None:
    module = graph("""
    net (int64[N,4] ids) => (float[N,4,8] y) <float[5,8] table, float[8,8] w> {
        e = Gather(table, ids)
        y = MatMul(e, w)
    }
    """)
    assert node_of(module, "y").op_type == "MatMul"
    with pytest.raises(
        UserError, match=r"the model fails when it runs: .*indices element out of data bounds"
    ):
        sparsify(module, "wanda", {"ids": np.full((10, 4), 7)})


def test_data_in_a_pipeline_of_onnx_ir() -> None:
    module, data = graph(TWO), {"x": samples(160, 16)}
    result = OnnxIrPass("sparsify{criterion=wanda layers=all}", data=data)(module.model.clone())
    expected = weights(sparsify(module, "wanda", data).module)
    assert np.array_equal(weights(Module(result.model))["w2"], expected["w2"])
