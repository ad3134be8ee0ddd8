"""fold-norm: batch normalisation into the layers behind it, where none before it can take it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from fold_norm_harness import Array, Feeds, batch_norm, fold, model, random
from hypothesis import given, settings
from hypothesis import strategies as st

NORM = "BatchNormalization (x, gamma, beta, mean, var)"
UNSHIFTED = {"beta": np.zeros(4, np.float32), "mean": np.zeros(4, np.float32)}


def norm_conv(conv: str, kernel: Array, rank: int = 2, **weights: Array) -> onnx.ModelProto:
    """x -> norm -> conv -> y with 4 input channels."""
    sizes, axes = ", ".join(["9"] * rank), ", ".join("hvd"[:rank])
    text = f"g (float[2, 4, {sizes}] x) => (float[n, o, {axes}] y) {{ [bn] a = {NORM} [conv] y = {conv} }}"
    return model(text, w=kernel, **{**batch_norm(4), **weights})


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("attributes", ["strides = 2", 'auto_pad = "VALID"'])
def test_an_unpadded_convolution_takes_the_norm(rank: int, group: int, attributes: str) -> None:
    attributes = f"strides = [{', '.join('2' * rank)}]" if "strides" in attributes else attributes
    kernel = random(8, 4 // group, *[3] * rank)
    proto = norm_conv(f"Conv <group = {group}, {attributes}> (a, w, b)", kernel, rank, b=random(8))
    folded = fold(proto)
    assert folded.ops() == ["Conv"]
    assert sorted(folded.weights()) == ["b", "w"]
    folded.must_compute_the_same(x=random(2, 4, *[9] * rank))


@settings(deadline=None, max_examples=30)
@given(
    group=st.integers(1, 3),
    per_in=st.integers(1, 3),
    per_out=st.integers(1, 3),
    k=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_any_unpadded_convolution_computes_the_same(
    group: int, per_in: int, per_out: int, k: int, seed: int
) -> None:
    fan_in = group * per_in
    text = f"""g (float[2, {fan_in}, 5, 4] x) => (float[n, o, h, v] y) {{
        a = {NORM} y = Conv <group = {group}> (a, w) }}"""
    weights = {"w": random(group * per_out, per_in, k, k, seed=seed), **batch_norm(fan_in, seed=seed)}
    folded = fold(model(text, **weights))
    assert folded.ops() == ["Conv"]
    folded.must_compute_the_same(2e-5, x=random(2, fan_in, 5, 4, seed=seed))


@pytest.mark.parametrize("attributes", ["pads = [0, 0, 0, 1]", 'auto_pad = "SAME_UPPER"'])
def test_a_padded_convolution_takes_only_a_norm_that_does_not_shift(attributes: str) -> None:
    conv = f"Conv <{attributes}> (a, w)"
    fold(norm_conv(conv, random(6, 4, 3, 3))).must_be_unchanged(
        "`conv` pads its input, and the norm shifts it"
    )
    folded = fold(norm_conv(conv, random(6, 4, 3, 3), **UNSHIFTED))
    assert folded.ops() == ["Conv"]
    assert sorted(folded.weights()) == ["w"]
    folded.must_compute_the_same(x=random(2, 4, 9, 9))


def test_a_transposed_convolution_takes_only_a_norm_that_does_not_shift() -> None:
    conv = "ConvTranspose <group = 2> (a, w)"
    fold(norm_conv(conv, random(4, 3, 3, 3))).must_be_unchanged("the norm shifts it")
    folded = fold(norm_conv(conv, random(4, 3, 3, 3), **UNSHIFTED))
    assert folded.ops() == ["ConvTranspose"]
    folded.must_compute_the_same(x=random(2, 4, 9, 9))


@pytest.mark.parametrize(
    ("layer", "weights"),
    [
        ("y = Gemm (a, w)", {"w": (4, 3)}),
        ("y = Gemm <transB = 1, alpha = 0.5, beta = 3.0> (a, w, b)", {"w": (3, 4), "b": (3,)}),
        ("y = Gemm <beta = 0.0> (a, w, b)", {"w": (4, 3), "b": (2, 1)}),
        ("y = MatMul (a, w)", {"w": (4, 3)}),
        ("m = MatMul (a, w) y = Add (m, b)", {"w": (4, 3), "b": (3,)}),
    ],
)
def test_a_matrix_takes_the_norm(layer: str, weights: dict[str, tuple[int, ...]]) -> None:
    text = f"g (float[2, 4] x) => (float[n, o] y) {{ a = {NORM} {layer} }}"
    folded = fold(model(text, **{name: random(*shape) for name, shape in weights.items()}, **batch_norm(4)))
    assert "BatchNormalization" not in folded.ops()
    assert folded.ops().count("Add") == ("MatMul" in layer)
    folded.must_compute_the_same(x=random(2, 4))


@pytest.mark.parametrize(
    ("between", "rows"),
    [
        ("f = Flatten (a)", 4 * 15),
        ("f = Flatten <axis = -3> (a)", None),
        ("p = GlobalAveragePool (a) f = Flatten (p)", 4),
        ("i = Identity (a) f = Flatten <axis = 1> (i)", 4 * 15),
    ],
)
def test_the_norm_crosses_flatten_and_pooling(between: str, rows: int | None) -> None:
    text = f"g (float[2, 4, 3, 5] x) => (float[n, o] y) {{ a = {NORM} {between} y = Gemm (f, w, b) }}"
    folded = fold(model(text, w=random(rows or 60, 3), b=random(3), **batch_norm(4)))
    if rows is None:
        folded.must_be_unchanged("its output reaches `f` (Flatten)")
        return
    assert "BatchNormalization" not in folded.ops()
    folded.must_compute_the_same(x=random(2, 4, 3, 5))


def test_the_norm_crosses_transpose_into_a_matmul_over_channels() -> None:
    text = f"""g (float[2, 4, 5] x) => (float[n, l, o] y) {{
        a = {NORM} t = Transpose <perm = [0, 2, 1]> (a) y = MatMul (t, w) }}"""
    folded = fold(model(text, w=random(4, 3), **batch_norm(4)))
    assert folded.ops() == ["Transpose", "MatMul", "Add"]
    folded.must_compute_the_same(x=random(2, 4, 5))


def test_a_matmul_over_another_axis_does_not_take_the_norm() -> None:
    text = f"g (float[2, 4, 5] x) => (float[n, c, o] y) {{ a = {NORM} [mm] y = MatMul (a, w) }}"
    folded = fold(model(text, w=random(5, 3), **batch_norm(4)))
    folded.must_be_unchanged("`mm` is not known to reduce over the channel axis")


def test_a_transposed_gemm_does_not_take_the_norm() -> None:
    text = f"g (float[4, 4] x) => (float[n, o] y) {{ a = {NORM} [fc] y = Gemm <transA = 1> (a, w) }}"
    fold(model(text, w=random(4, 3), **batch_norm(4))).must_be_unchanged("`fc` is not known to reduce over")


def test_all_consumers_take_the_norm_or_none() -> None:
    layers = "[one] y = Conv (a, w) [two] z = Conv (a, v)"
    head = "g (float[2, 4, 9, 9] x) => (float[n, o, h, v] y, float[n, o, h, v] z)"
    weights: Feeds = {"w": random(6, 4, 3, 3), "v": random(5, 4, 1, 1), **batch_norm(4)}
    folded = fold(model(f"{head} {{ [bn] a = {NORM} {layers} }}", **weights))
    assert folded.ops() == ["Conv", "Conv"]
    assert "`bn` is folded into `one`, `two` behind it" in str(folded.remarks[0])
    folded.must_compute_the_same(x=random(2, 4, 9, 9))
    mixed = layers.replace("Conv (a, v)", "Relu (a)")
    fold(model(f"{head} {{ [bn] a = {NORM} {mixed} }}", **weights)).must_be_unchanged("reaches `two` (Relu)")


def test_a_norm_whose_output_is_a_graph_output_stays() -> None:
    text = f"""g (float[2, 4, 9, 9] x) => (float[n, c, h, v] a, float[n, o, h, v] y) {{
        a = {NORM} y = Conv (a, w) }}"""
    fold(model(text, w=random(6, 4, 3, 3), **batch_norm(4))).must_be_unchanged("`a` is a graph output")


def test_the_layer_before_is_preferred() -> None:
    text = f"""g (float[2, 3, 9, 9] i) => (float[n, o, h, v] y) {{
        [front] x = Conv (i, v) [bn] a = {NORM} [back] y = Conv (a, w) }}"""
    folded = fold(model(text, v=random(4, 3, 3, 3), w=random(6, 4, 3, 3), **batch_norm(4)))
    assert "folded into `front` before it" in str(folded.remarks[0])
    folded.must_compute_the_same(i=random(2, 3, 9, 9))


def test_a_shared_producer_sends_the_norm_ahead() -> None:
    text = f"""g (float[2, 3, 9, 9] i) => (float[n, o, h, v] y, float[n, o, h, v] z) {{
        x = Conv (i, v) a = {NORM} y = Conv (a, w) z = Relu (x) }}"""
    folded = fold(model(text, v=random(4, 3, 3, 3), w=random(6, 4, 3, 3), **batch_norm(4)))
    assert folded.ops() == ["Conv", "Conv", "Relu"]
    folded.must_compute_the_same(i=random(2, 3, 9, 9))
