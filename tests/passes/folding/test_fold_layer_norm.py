"""fold-norm: gamma and beta of LayerNorm and its relatives into the layers behind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from fold_norm_harness import Array, Feeds, fold, model, random
from hypothesis import given, settings
from hypothesis import strategies as st

HEAD = "g (float[2, 5, 8] x) => (float[n, s, o] y)"
NORM = "[ln] a = LayerNormalization (x, gamma, beta)"
X = random(2, 5, 8)
AFFINE: Feeds = {"gamma": random(8, seed=1), "beta": random(8, seed=2)}


def layers(
    text: str, *, head: str = HEAD, norm: str = NORM, opset: int = 17, **weights: Array
) -> onnx.ModelProto:
    """x [2, 5, 8] -> norm over the last axis -> ``text`` -> y."""
    return model(
        f"{head} {{ {norm} {text} }}",
        opset=opset,
        ir_version=8 if opset < 23 else 11,
        **{**AFFINE, **weights},
    )


def plain_norm(folded: dict[str, Array]) -> bool:
    return bool((folded["gamma"] == 1).all()) and "beta" not in folded


def test_a_bias_behind_a_matmul_takes_beta() -> None:
    folded = fold(layers("m = MatMul (a, w) y = Add (m, b)", w=random(8, 3), b=random(3)))
    assert folded.ops() == ["LayerNormalization", "MatMul", "Add"]
    assert sorted(folded.weights()) == ["b", "gamma", "w"]
    assert plain_norm(folded.weights())
    assert list(folded.after.graph.node[0].input) == ["x", "gamma"]
    folded.must_compute_the_same(x=X)
    assert not fold(folded.after).outcome.changed


def test_a_matmul_without_bias_gets_an_add() -> None:
    folded = fold(layers("y = MatMul (a, w)", w=random(8, 3)))
    assert folded.ops() == ["LayerNormalization", "MatMul", "Add"]
    assert folded.after.graph.output[0].name == folded.after.graph.node[2].output[0] == "y"
    folded.must_compute_the_same(x=X)


def test_a_product_that_is_a_graph_output_gets_its_own_add() -> None:
    head = "g (float[2, 5, 8] x) => (float[n, s, o] y, float[n, s, o] m)"
    folded = fold(layers("m = MatMul (a, w) y = Add (m, b)", head=head, w=random(8, 3), b=random(3)))
    assert folded.ops() == ["LayerNormalization", "MatMul", "Add", "Add"]
    folded.must_compute_the_same(x=X)


@pytest.mark.parametrize("norm", ["[ln] a = LayerNormalization (x, gamma)", NORM])
def test_without_beta_no_add_is_made(norm: str) -> None:
    folded = fold(layers("y = MatMul (a, w)", norm=norm, w=random(8, 3), beta=np.zeros(8, np.float32)))
    assert folded.ops() == ["LayerNormalization", "MatMul"]
    folded.must_compute_the_same(x=X)


@pytest.mark.parametrize("addend", [(5, 3), (2, 5, 3), (1, 1, 1, 3), (5, 1)])
def test_an_addend_that_is_no_bias_gets_an_add_before_it(addend: tuple[int, ...]) -> None:
    head = HEAD if len(addend) < 4 else HEAD.replace("[n, s, o]", "[k, n, s, o]")
    folded = fold(layers("m = MatMul (a, w) y = Add (p, m)", head=head, w=random(8, 3), p=random(*addend)))
    assert folded.ops() == ["LayerNormalization", "MatMul", "Add", "Add"]
    folded.must_compute_the_same(x=X)


def test_query_key_and_value_all_take_it() -> None:
    text = """q = MatMul (a, wq) k = MatMul (a, wk) v = MatMul (a, wv)
        qb = Add (q, zero) kb = Add (zero, k) t = Transpose <perm = [0, 2, 1]> (kb)
        s = MatMul (qb, t) y = MatMul (s, v)"""
    folded = fold(
        layers(text, wq=random(8, 6), wk=random(8, 6), wv=random(8, 4), zero=np.zeros(6, np.float32))
    )
    assert folded.outcome.statistics["tensors unshared"] == 1  # the second user of `zero` is the last one
    assert plain_norm(folded.weights())
    folded.must_compute_the_same(x=X)


def test_one_consumer_that_cannot_take_it_keeps_everything_as_it_was() -> None:
    text = "m = MatMul (a, w) [skip] y = Add (m, a)"
    folded = fold(layers(text, w=random(8, 8)))
    folded.must_be_unchanged("its output reaches `skip` (Add)")


def test_a_consumer_whose_weight_overflows_keeps_everything_as_it_was() -> None:
    head = "g (float16[2, 5, 8] x) => (float16[n, s, o] y, float16[n, s, o] z)"
    halves = {
        name: array.astype(np.float16) for name, array in {"v": random(8, 2), "beta": AFFINE["beta"]}.items()
    }
    big = {"w": np.full((8, 3), 1e4, np.float16), "gamma": np.full(8, 30, np.float16)}
    folded = fold(layers("y = MatMul (a, v) z = MatMul (a, w)", head=head, **halves, **big))
    folded.must_be_unchanged("the folded weight reaches 3e+05, which overflows float16")


@pytest.mark.parametrize("text", ["y = MatMul (a, k)", "y = MatMul (a, a)", "y = MatMul (w, a)"])
def test_a_product_without_a_constant_on_the_right_is_left_alone(text: str) -> None:
    head = "g (float[2, 8, 8] x, float[8, 8] k) => (float[n, s, o] y)"
    folded = fold(layers(text, head=head, w=random(8, 8)))
    assert not folded.outcome.changed
    assert "is not a constant" in folded.reason() or "is not the data input" in folded.reason()


def test_a_norm_over_two_axes_is_left_alone() -> None:
    norm = "[ln] a = LayerNormalization <axis = 1> (x, gamma, beta)"
    two_axes = {"gamma": random(5, 8), "beta": random(5, 8, seed=1)}
    folded = fold(layers("y = MatMul (a, w)", norm=norm, w=random(8, 3), **two_axes))
    folded.must_be_unchanged("it normalises from axis 1 on, not the last axis alone")


def test_a_positive_last_axis_is_the_last_axis() -> None:
    norm = "[ln] a, mu, inv = LayerNormalization <axis = 2> (x, gamma, beta)"
    head = "g (float[2, 5, 8] x) => (float[n, s, o] y, float[n, s, u] mu, float[n, s, u] inv)"
    folded = fold(layers("y = MatMul (a, w)", head=head, norm=norm, w=random(8, 3)))
    assert plain_norm(folded.weights())
    folded.must_compute_the_same(x=X)


def test_gamma_and_beta_that_two_norms_share() -> None:
    text = "m = MatMul (a, w) b = LayerNormalization (m, gamma, beta) y = MatMul (b, v)"
    folded = fold(layers(text, w=random(8, 8), v=random(8, 3)))
    assert folded.outcome.statistics["layer-norm folded"] == 2
    folded.must_compute_the_same(x=X)


def test_tied_gamma_stays_where_another_norm_cannot_fold() -> None:
    text = "m = MatMul (a, w) b = LayerNormalization (m, gamma, beta) y = Relu (b)"
    folded = fold(layers(text, w=random(8, 8)))
    assert np.array_equal(folded.weights()["gamma"], AFFINE["gamma"])
    assert (folded.weights()["gamma_folded"] == 1).all()
    folded.must_compute_the_same(x=X)


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("t = Transpose <perm = [1, 0, 2]> (a) y = MatMul (t, w)", 3),
        ("i = Identity (a) y = MatMul (i, w)", 3),
        ("r = Reshape (a, flat) y = MatMul (r, w)", 2),
        ("r = Reshape (a, flat) y = Gemm <transB = 1> (r, v, b)", 2),
        ("r = Gather <axis = 1> (a, first) y = Gemm (r, w)", 2),
        ("t = Transpose <perm = [0, 2, 1]> (a) y = Conv (t, k)", 3),
        ("t = Transpose <perm = [0, 2, 1]> (a) p = GlobalAveragePool (t) r = Flatten (p) y = Gemm (r, w)", 2),
    ],
)
def test_it_crosses_ops_that_keep_the_channels(text: str, rank: int) -> None:
    head = HEAD.replace("[n, s, o]", "[n, o]") if rank == 2 else HEAD
    constants = {"flat": np.array([-1, 8]), "first": np.array(0), "k": random(3, 8, 2), "b": random(3)}
    folded = fold(layers(text, head=head, w=random(8, 3), v=random(3, 8), **constants))
    assert (folded.weights()["gamma"] == 1).all()
    folded.must_compute_the_same(x=X)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "t = Transpose <perm = [0, 2, 1]> (a) [mm] y = MatMul (t, v)",
            "not known to reduce over the channel axis",
        ),
        ("[mix] r = Reshape (a, pairs) y = MatMul (r, u)", "its output reaches `mix` (Reshape)"),
        ("[pick] r = Gather <axis = 2> (a, first) y = MatMul (r, v)", "its output reaches `pick` (Gather)"),
        ("[flat] r = Flatten (a) y = Gemm (r, z)", "its output reaches `flat` (Flatten)"),
        ("t = Transpose <perm = [0, 2, 1]> (a) [cv] y = Conv <pads = [1, 0]> (t, k)", "`cv` pads its input"),
    ],
)
def test_it_does_not_cross_ops_that_mix_the_channels(text: str, reason: str) -> None:
    head = "g (float[2, 5, 8] x) => (float[n, o] y)"
    constants = {"pairs": np.array([2, 10, 4]), "first": np.array([0, 1]), "k": random(3, 8, 2)}
    matrices = {"v": random(5, 3), "u": random(4, 3), "z": random(40, 3)}
    folded = fold(layers(text, head=head, **constants, **matrices))
    folded.must_be_unchanged(reason)


@pytest.mark.parametrize("bias", ["", ", bias"])
@pytest.mark.parametrize(
    ("norm", "beta"),
    [
        ("a = SimplifiedLayerNormalization (x, gamma)", False),
        ("a = com.microsoft.SkipLayerNormalization (x, skip, gamma, beta", True),
        ("a, , , sum = com.microsoft.SkipLayerNormalization (x, skip, gamma, beta", True),
        ("a = com.microsoft.SkipSimplifiedLayerNormalization (x, skip, gamma", False),
    ],
)
def test_relatives_of_layer_norm_in_onnx_runtime(norm: str, beta: bool, bias: str) -> None:
    norm = norm if norm.endswith(")") else f"{norm}{bias})"
    folded = fold(
        layers(
            "y = MatMul (a, w)",
            norm=norm,
            w=random(8, 3),
            skip=random(2, 5, 8, seed=3),
            bias=random(8, seed=4),
        )
    )
    assert folded.outcome.statistics["layer-norm folded"] == 1
    assert folded.ops()[1:] == ["MatMul"] + ["Add"] * beta
    folded.must_compute_the_same(standard="Simplified" not in norm, x=X)


def test_rms_norm_of_opset_23() -> None:
    norm = "[rms] a = RMSNormalization (x, gamma)"
    folded = fold(layers("y = MatMul (a, w)", norm=norm, opset=23, w=random(8, 3)))
    assert folded.ops() == ["RMSNormalization", "MatMul"]
    assert (folded.weights()["gamma"] == 1).all()
    folded.must_compute_the_same(reference=True, x=X)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"gamma": np.full(8, np.inf, np.float32)}, "its gamma or beta is not finite"),
        ({"beta": random(1)}, "gamma has the shape (8,) and beta (1,), not one value a channel"),
        ({"w": random(4, 3)}, "it has 8 channels, `mm` has 4 inputs"),
        ({"w": random(2, 8, 3)}, "the weight of `mm` has 3 axes, not 2"),
        ({"w": np.ones((8, 3), np.int64)}, "`w` is of type i64, not floating point"),
    ],
)
def test_malformed_norms_and_layers_are_left_alone(parameters: dict[str, Array], reason: str) -> None:
    folded = fold(layers("[mm] y = MatMul (a, w)", **{"w": random(8, 3), **parameters}))
    folded.must_be_unchanged(reason)


def test_a_norm_that_nothing_uses_is_left_alone() -> None:
    folded = fold(layers("y = Relu (x)"))
    folded.must_be_unchanged("nothing uses its output")


def test_a_norm_with_nothing_to_fold_says_so_once() -> None:
    plain = {"gamma": np.ones(8, np.float32), "beta": np.zeros(8, np.float32)}
    folded = fold(layers("y = MatMul (a, w)", w=random(8, 3), **plain))
    assert not folded.outcome.changed
    assert [str(remark) for remark in folded.remarks] == [
        "remark[analysis]: fold-norm: `ln` has nothing to fold: gamma is 1, beta 0"
    ]


def test_layer_norms_stay_on_request() -> None:
    folded = fold(layers("y = MatMul (a, w)", w=random(8, 3)), layer_norm=False)
    assert not folded.outcome.changed
    assert not folded.remarks


@settings(deadline=None, max_examples=30)
@given(
    width=st.integers(1, 9),
    outputs=st.integers(1, 5),
    gemm=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_layer_norm_and_matrix_compute_the_same(
    width: int, outputs: int, gemm: bool, bias: bool, seed: int
) -> None:
    layer = (
        f"y = Gemm (a, w{', b' if bias else ''})"
        if gemm
        else "m = MatMul (a, w) y = Add (m, b)"
        if bias
        else "y = MatMul (a, w)"
    )
    text = f"g (float[4, {width}] x) => (float[n, o] y) {{ a = LayerNormalization (x, gamma, beta) {layer} }}"
    affine = {"gamma": random(width, seed=seed), "beta": random(width, seed=seed + 10)}
    folded = fold(
        model(
            text,
            w=random(width, outputs, seed=seed),
            **({"b": random(outputs, seed=seed)} if bias else {}),
            **affine,
        )
    )
    folded.must_compute_the_same(2e-5, x=random(4, width, seed=seed))
