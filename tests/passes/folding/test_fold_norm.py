"""fold-norm: batch normalisation and per-channel arithmetic into the layer before them."""

from __future__ import annotations

import sys
from subprocess import run

import ml_dtypes
import numpy as np
import onnx
import pytest
from fold_norm_harness import Array, Feeds, batch_norm, fold, model, random
from hypothesis import given, settings
from hypothesis import strategies as st

from prunec.passes.fold_norm import FoldNorm

NORM = "BatchNormalization (c, gamma, beta, mean, var)"
SPATIAL = {1: "12", 2: "9, 8", 3: "5, 6, 7"}
X2 = random(2, 4, 9, 8)


def conv_norm(norm: str = NORM, *, conv: str = "Conv (x, w__weight)", **options: object) -> onnx.ModelProto:
    """x -> conv -> norm -> y with 4 input and 6 output channels."""
    defaults: dict[str, object] = {"w__weight": random(6, 4, 3, 3), **batch_norm(6)}
    text = f"g (float[2, 4, 9, 8] x) => (float[n, o, h, v] y) {{ [conv] c = {conv} [bn] y = {norm} }}"
    return model(text, **{**defaults, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("group", "bias"), [(1, False), (1, True), (2, True), (4, False)])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_convolutions_of_every_rank_take_the_norm(op: str, dims: int, group: int, bias: bool) -> None:
    kernel = (8, 4 // group, *[3] * dims) if op == "Conv" else (4, 8 // group, *[3] * dims)
    axes = ", ".join(f"s{i}" for i in range(dims))
    pads = ", ".join(["1"] * 2 * dims)
    text = f"""g (float[2, 4, {SPATIAL[dims]}] x) => (float[n, o, {axes}] y) {{
        c = {op} <group = {group}, pads = [{pads}]> (x, conv__weight{", conv__bias" if bias else ""})
        y = {NORM} }}"""
    weights = {"conv__weight": random(*kernel)} | ({"conv__bias": random(8)} if bias else {})
    folded = fold(model(text, **weights, **batch_norm(8)))
    assert folded.ops() == [op]
    assert sorted(folded.weights()) == ["conv.bias", "conv.weight"]
    folded.must_compute_the_same(x=random(2, 4, *(int(size) for size in SPATIAL[dims].split(","))))


@pytest.mark.parametrize("c_shape", [None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize(
    "attributes", ["", "alpha = 0.5, beta = 2.0", "transB = 1, beta = 0.0", "transA = 1"]
)
def test_gemm_takes_the_norm(attributes: str, c_shape: tuple[int, ...] | None) -> None:
    a, b = (7, 3) if "transA" in attributes else (3, 7), (5, 7) if "transB" in attributes else (7, 5)
    bias = {} if c_shape is None else {"b": np.asarray(random(*c_shape), dtype=np.float32)}
    text = f"""g (float[{a[0]}, {a[1]}] x) => (float[m, n] y) {{
        c = Gemm <{attributes}> (x, w{", b" if bias else ""}) y = {NORM} }}"""
    folded = fold(model(text.replace("<>", ""), w=random(*b), **bias, **batch_norm(5)))
    assert folded.ops() == ["Gemm"]
    folded.must_compute_the_same(x=random(*a))


@pytest.mark.parametrize("bias", [None, (), (5,), (1, 5)])
def test_matmul_takes_the_norm_with_or_without_a_bias(bias: tuple[int, ...] | None) -> None:
    add = "" if bias is None else "c = Add (b, m)"
    product = "c" if bias is None else "m"
    text = f"g (float[3, 7] x) => (float[m, n] y) {{ {product} = MatMul (x, w) {add} y = {NORM} }}"
    weights: Feeds = {} if bias is None else {"b": np.asarray(random(*bias), dtype=np.float32)}
    folded = fold(model(text, w=random(7, 5), **weights, **batch_norm(5)))
    assert folded.ops() == ["MatMul", "Add"]
    folded.must_compute_the_same(x=random(3, 7))


def test_matmul_of_rank_3_has_its_outputs_on_another_axis() -> None:
    text = f"g (float[2, 5, 7] x) => (float[b, m, n] y) {{ c = MatMul (x, w) y = {NORM} }}"
    folded = fold(model(text, w=random(7, 5), **batch_norm(5)))
    folded.must_be_unchanged("is not known to put its outputs on axis 1")


def test_matmul_with_its_constant_on_the_left_is_left_alone() -> None:
    text = f"g (float[5, 7] x) => (float[m, n] y) {{ c = MatMul (w, x) y = {NORM} }}"
    fold(model(text, w=random(3, 5), **batch_norm(7))).must_be_unchanged("`x` is not a constant")


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_convolution_and_norm_compute_the_same(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(["Conv", "ConvTranspose"]))
    group, per_in, per_out = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride, size = (
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 2)),
        data.draw(st.integers(4, 7)),
    )
    pads = data.draw(st.lists(st.integers(0, kernel - 1), min_size=4, max_size=4))
    fan_in, fan_out = group * per_in, group * per_out
    shape = (fan_out, per_in, kernel, kernel) if op == "Conv" else (fan_in, per_out, kernel, kernel)
    text = f"""g (float[2, {fan_in}, {size}, {size}] x) => (float[n, o, h, v] y) {{
        c = {op} <group = {group}, pads = {pads}, strides = [{stride}, {stride}]> (x, w, b) y = {NORM} }}"""
    seed = data.draw(st.integers(0, 99))
    weights = {
        "w": random(*shape, seed=seed),
        "b": random(fan_out, seed=seed),
        **batch_norm(fan_out, seed=seed),
    }
    folded = fold(model(text, **weights))
    assert folded.ops() == [op]
    folded.must_compute_the_same(2e-5, x=random(2, fan_in, size, size, seed=seed))


@pytest.mark.parametrize("opset", [7, 8, 9, 12, 13, 14, 15, 18, 21, 22])
def test_every_opset_has_the_same_norm(opset: int) -> None:
    folded = fold(conv_norm(opset=opset))
    assert folded.ops() == ["Conv"]
    folded.must_compute_the_same(x=X2)


@pytest.mark.parametrize("opset", [23, 24])
def test_newest_opsets_fold_too(opset: int) -> None:
    folded = fold(conv_norm(opset=opset, ir_version=11))
    assert folded.ops() == ["Conv"]
    folded.must_compute_the_same(reference=True, x=X2)


def test_ir_version_3_lists_its_initializers_as_inputs_yet_folds() -> None:
    folded = fold(conv_norm(opset=8, ir_version=3))
    assert folded.ops() == ["Conv"]
    assert [value.name for value in folded.after.graph.input] == ["x", "w.weight", "w.bias"]
    folded.must_compute_the_same(x=X2)


def test_epsilon_counts() -> None:
    norm = "BatchNormalization <epsilon = 0.5> (c, gamma, beta, mean, var)"
    folded = fold(conv_norm(norm))
    folded.must_compute_the_same(x=X2)
    assert not np.array_equal(folded.weights()["w.weight"], fold(conv_norm()).weights()["w.weight"])


@pytest.mark.parametrize("variance", [0.0, 1e-42, -1e-6, 1e-12])
def test_strange_variances_that_epsilon_saves(variance: float) -> None:
    folded = fold(conv_norm(var=np.full(6, variance, np.float32)))
    assert folded.ops() == ["Conv"]
    folded.must_compute_the_same(x=X2)


@pytest.mark.parametrize(
    ("variance", "reason"), [(-1.0, "not positive in 1 of 6"), (np.nan, "not positive in 1 of 6")]
)
def test_hopeless_variances_are_left_alone(variance: float, reason: str) -> None:
    values = np.array([1, 1, variance, 1, 1, 1], np.float32)
    fold(conv_norm(var=values)).must_be_unchanged(reason)


def test_zero_variance_and_zero_epsilon_is_left_alone() -> None:
    norm = "BatchNormalization <epsilon = 0.0> (c, gamma, beta, mean, var)"
    fold(conv_norm(norm, var=np.zeros(6, np.float32))).must_be_unchanged(
        "not positive in 6 of 6 channels (min 0)"
    )


def test_a_beta_that_is_infinite_is_left_alone() -> None:
    fold(conv_norm(beta=np.full(6, np.inf, np.float32))).must_be_unchanged("scale or shift is not finite")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-3), ("bfloat16", 3e-2), ("double", 1e-12)])
def test_other_types_keep_their_type(dtype: str, tolerance: float) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    text = f"g ({dtype}[2, 7] x) => ({dtype}[n, o] y) {{ c = Gemm (x, w) y = {NORM} }}"
    parameters = {name: array.astype(kind) for name, array in batch_norm(5).items()}
    folded = fold(model(text, opset=15, w=random(7, 5).astype(kind), **parameters))
    assert {array.dtype for array in folded.weights().values()} == {kind}
    folded.must_compute_the_same(tolerance, reference=dtype != "double", x=random(2, 7).astype(kind))


@pytest.mark.parametrize(("gamma", "reason"), [(1e4, "overflows float16"), (1e-6, "underflows float16")])
def test_weights_that_leave_the_range_of_their_type_are_left_alone(gamma: float, reason: str) -> None:
    text = f"g (float16[2, 7] x) => (float16[n, o] y) {{ c = Gemm (x, w) y = {NORM} }}"
    parameters = batch_norm(5) | {"gamma": np.full(5, gamma, np.float32), "var": np.full(5, 1e-3, np.float32)}
    weights = {"w": (random(7, 5) * (10 if gamma > 1 else 1e-3)).astype(np.float16)}
    fold(model(text, opset=15, **weights, **parameters)).must_be_unchanged(reason)


@pytest.mark.parametrize(
    ("norm", "opset", "reason"),
    [
        ("BatchNormalization <training_mode = 1> (c, gamma, beta, mean, var)", 15, "training mode"),
        ("BatchNormalization <spatial = 0> (c, gamma, beta, mean, var)", 8, "spatial=0"),
    ],
)
def test_norms_that_are_not_an_affine_map_are_left_alone(norm: str, opset: int, reason: str) -> None:
    fold(conv_norm(norm, opset=opset)).must_be_unchanged(reason)


def test_a_norm_that_gives_out_its_statistics_is_left_alone() -> None:
    text = """g (float[2, 4, 9, 8] x) => (float[n, o, h, v] y, float[o] m) {
        c = Conv (x, w) y, m, v = BatchNormalization <training_mode = 0> (c, gamma, beta, mean, var) }"""
    fold(model(text, w=random(6, 4, 3, 3), **batch_norm(6))).must_be_unchanged("gives out its statistics")


def test_channel_counts_that_disagree_are_left_alone() -> None:
    fold(conv_norm(**batch_norm(5))).must_be_unchanged("it has 5 channels, `conv` has 6 outputs")


def test_a_norm_without_a_layer_beside_it_says_what_is_there() -> None:
    text = """g (float[2, 6, 4, 4] x) => (float[n, o, h, v] y) {
        c = Relu (x) d = BatchNormalization (c, gamma, beta, mean, var) [act] y = Relu (d) }"""
    folded = fold(model(text, **batch_norm(6)))
    folded.must_be_unchanged("is Relu, not a linear layer; its output reaches `act` (Relu)")
    assert folded.outcome.statistics["batch-norm missed"] == 1


@pytest.mark.parametrize(
    ("arithmetic", "constants"),
    [
        ("d = Mul (c, s) y = Add (d, t)", {"s": (6, 1, 1), "t": (1, 6, 1, 1)}),
        ("d = Mul (s, c) y = Sub (d, t)", {"s": (1, 6, 1, 1), "t": (6, 1, 1)}),
        ("d = Sub (t, c) y = Div (d, s)", {"s": (6, 1, 1), "t": ()}),
        ("d = Add (c, t) y = Mul (d, s)", {"s": (1,), "t": (6, 1, 1)}),
    ],
)
def test_per_channel_arithmetic_is_folded(arithmetic: str, constants: dict[str, tuple[int, ...]]) -> None:
    text = f"g (float[2, 4, 9, 8] x) => (float[n, o, h, v] y) {{ c = Conv (x, w) {arithmetic} }}"
    arrays = {name: np.asarray(random(*shape), np.float32) for name, shape in constants.items()}
    proto = model(text, w=random(6, 4, 3, 3), **arrays)
    folded = fold(proto)
    assert folded.ops() == ["Conv"]
    folded.must_compute_the_same(x=X2)
    assert not fold(proto, affine=False).outcome.changed


@pytest.mark.parametrize(
    ("arithmetic", "constant"),
    [
        ("Add (c, t)", random(6, 7, 1)),  # one value a row
        ("Mul (c, t)", random(6)),  # along the last axis
        ("Mul (c, t)", random(2, 6, 1, 1)),  # one value a sample
        ("Mul (c, t)", random(1, 1, 6, 1, 1)),  # adds an axis
        ("Mul (c, c)", random(1)),
    ],
)
def test_arithmetic_that_is_not_per_channel_is_no_norm(arithmetic: str, constant: Array) -> None:
    text = f"g (float[2, 4, 9, 8] x) => (float[n, o] y) {{ c = Conv (x, w) y = {arithmetic} }}"
    folded = fold(model(text, w=random(6, 4, 3, 3), t=constant))
    assert not folded.outcome.changed
    assert not folded.remarks


@pytest.mark.parametrize(
    ("arithmetic", "reason"), [("Div (t, c)", "is not affine"), ("Div (c, t)", "divides by zero")]
)
def test_divisions_that_are_not_affine(arithmetic: str, reason: str) -> None:
    text = f"g (float[2, 4, 9, 8] x) => (float[n, o, h, v] y) {{ c = Conv (x, w) y = {arithmetic} }}"
    fold(model(text, w=random(6, 4, 3, 3), t=np.zeros((6, 1, 1), np.float32))).must_be_unchanged(reason)


def test_arithmetic_behind_a_folded_norm_is_folded_too() -> None:
    text = f"""g (float[2, 4, 9, 8] x) => (float[n, o, h, v] y) {{
        c = Conv (x, w) d = {NORM} e = Mul (d, s) y = Add (e, t) }}"""
    folded = fold(
        model(text, w=random(6, 4, 3, 3), s=random(6, 1, 1), t=random(6, 1, 1, seed=1), **batch_norm(6))
    )
    assert folded.ops() == ["Conv"]
    assert folded.outcome.statistics["affine folded"] == 2
    folded.must_compute_the_same(x=X2)


def two_norms() -> onnx.ModelProto:
    text = f"""g (float[2, 4, 9, 8] x) => (float[n, o, h, v] y) {{
        c = Conv (x, w) [stem__bn] d = {NORM} e = Conv (d, v) [head__bn] y = {NORM.replace("(c", "(e")} }}"""
    return model(text, w=random(6, 4, 3, 3), v=random(6, 6, 1, 1), **batch_norm(6))


@pytest.mark.parametrize(
    "options", [{"only": ("stem.*",)}, {"ignore": ("*head*",)}, {"only": ("*",), "ignore": ("head.bn",)}]
)
def test_globs_choose_the_norms(options: dict[str, tuple[str, ...]]) -> None:
    folded = fold(two_norms(), **options)
    assert folded.ops() == ["Conv", "Conv", "BatchNormalization"]
    assert [remark.node for remark in folded.remarks] == ["stem.bn"]
    folded.must_compute_the_same(x=X2)


def test_parameters_that_two_norms_share_fold_twice() -> None:
    folded = fold(two_norms())
    assert folded.ops() == ["Conv", "Conv"]
    assert sorted(folded.weights()) == ["v", "v_bias", "w", "w_bias"]
    assert str(folded.remarks[0]) == "remark[passed]: fold-norm: `stem.bn` is folded into `c` before it"
    folded.must_compute_the_same(x=X2)


def test_a_second_run_changes_nothing() -> None:
    assert not fold(fold(two_norms()).after).outcome.changed


def test_declaring_the_pass_loads_neither_onnx_nor_numpy() -> None:
    code = (
        "import sys, prunec.passes.fold_norm; sys.exit(bool({'onnx', 'onnx_ir', 'numpy'} & set(sys.modules)))"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0
    assert (FoldNorm.name, FoldNorm.contract) == ("fold-norm", "same")
