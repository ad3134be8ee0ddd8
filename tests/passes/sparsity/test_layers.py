"""Which weights are sparse layers, what their axes mean, and that reading and writing them is exact."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph
from sparse_graphs import CASES

from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.sparsity.layer import SparseLayer, SparseLayers
from prunec.passes.sparsity.layers import find_layers

LETTERS = {"g": "group", "o": "output", "p": "position", "i": "input"}


def layers_of(module: Module) -> SparseLayers:
    return find_layers(module.model, infer_facts(module.model))


def only_layer(module: Module) -> SparseLayer:
    found = layers_of(module)
    assert not found.skipped
    assert len(found.layers) == 1
    return found.layers[0]


@pytest.mark.parametrize("name", CASES)
def test_the_axes_of_a_weight_are_found(name: str) -> None:
    case = CASES[name]
    layer = only_layer(case.module)
    assert layer.value.name == "w"
    assert layer.shape == case.shape
    for letter, kind in LETTERS.items():
        expected = tuple(axis for axis, text in enumerate(case.axes.split()) if letter in text)
        assert layer.layout.axes(kind) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_can_be_written_back(name: str) -> None:
    module = CASES[name].module
    layer = only_layer(module)
    before = layer.tensor.numpy().copy()
    layer.write(layer.weights())
    np.testing.assert_array_equal(layer.tensor.numpy(), before)
    assert layer.tensor.dtype == onnx_ir.DataType.from_numpy(before.dtype)


@pytest.mark.parametrize("name", CASES)
def test_a_mask_makes_zeros_and_leaves_the_rest(name: str) -> None:
    layer = only_layer(CASES[name].module)
    before, stored = layer.weights().copy(), layer.tensor.numpy().copy()
    keep = np.random.default_rng(0).random(layer.shape) < 0.5
    layer.mask(keep)
    np.testing.assert_array_equal(layer.weights(), np.where(keep, before, 0))
    assert layer.tensor.numpy().dtype == stored.dtype
    unfolded = layer.layout.unfold(stored)
    np.testing.assert_array_equal(layer.layout.unfold(layer.tensor.numpy())[keep], unfolded[keep])
    assert not layer.nonzero()[~keep].any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "net (int64[N] n, float[N,8] x) => (float[N,4] a, float[N,8] b) <float[8,4] w> "
            "{ t = Transpose(w) b0 = Gather(t, n) b = Identity(b0) a = MatMul(x, w) }",
            "`Gather` `b0` reads it too",
        ),
        (
            "net (float[N,8] x) => (float[N,8] y) <float[8,8] w> "
            "{ a = MatMul(x, w) y = Gemm<transB = 1>(a, w) }",
            "its readers `a`, `y` sum over different axes of it",
        ),
        (
            "net (float[N,8] x) => (float[N,8] y) <float[8,8] w> { v = Relu(w) y = MatMul(x, v) }",
            "it is computed by `Relu`, not stored",
        ),
        (
            "net (float[N,8] x) => (float[N,8] y, float[8,8] v) <float[8,8] w> "
            "{ v = Identity(w) y = MatMul(x, w) }",
            "it is a graph output",
        ),
        (
            "net (float[5,N,8] x) => (float[5,1,N,4] y) <float[1,16,8] w, float[1,16,4] u> "
            "{ y = LSTM<hidden_size = 4>(x, w, u) }",
            "it is no plain product of data and weight",
        ),
        (
            "net (float[N,8] x) => (float[N,4] y) <float[8,8] v, float[8,4] w> "
            '{ y = Einsum<equation = "ai,ij,jk->ak">(x, v, w) }',
            "`Einsum` multiplies several weights",
        ),
        (
            "net (float[N,8] x, bool c) => (float[N,8] y) <float[8,8] w> { y = If (c) "
            "<then_branch = t () => (float[N,8] a) { a = MatMul(x, w) }, "
            "else_branch = e () => (float[N,8] b) { b = Identity(x) }> }",
            "it is read inside the body of `If`",
        ),
    ],
)  # fmt: skip
def test_a_weight_that_is_no_layer_is_skipped_with_the_reason(text: str, reason: str) -> None:
    found = layers_of(graph(text))
    assert found.layers == ()
    assert {s.reason for s in found.skipped} == {reason}


def test_readers_that_agree_share_a_layer() -> None:
    layer = only_layer(
        graph(
            "net (float[N,8] x) => (float[N,8] y) <float[8,8] w> "
            "{ t = Transpose(w) a = MatMul(x, t) y = Gemm<transB = 1>(a, w) }"
        )
    )
    assert [node.op_type for node, _ in layer.uses] == ["MatMul", "Gemm"]


def test_an_initializer_that_is_listed_as_an_input_is_a_weight() -> None:
    module = graph("net (float[N,8] x) => (float[N,4] y) <float[8,4] w> { y = MatMul(x, w) }")
    module.graph.inputs.append(module.graph.initializers["w"])
    assert only_layer(module).value.name == "w"


def test_a_constant_node_holds_a_weight_too() -> None:
    module = graph(
        "net (float[N,2] x) => (float[N,2] y) "
        "{ w = Constant<value = float[2,2] {1.0, 2.0, 3.0, 4.0}>() y = MatMul(x, w) }"
    )
    layer = only_layer(module)
    layer.mask(np.array([[[[True, False]], [[False, True]]]]))
    np.testing.assert_array_equal(layer.tensor.numpy(), [[1, 0], [0, 4]])
    found = only_layer(module.clone())
    np.testing.assert_array_equal(found.tensor.numpy(), [[1, 0], [0, 4]])


def test_packed_four_bit_weights_keep_their_type() -> None:
    module = graph(
        "net (float[N,8] x) => (float[N,4] y) <float[8,4] f> { v = Cast<to = 1>(w) y = MatMul(x, v) }",
        opset=21,
        w=np.zeros((8, 4), np.float32),
    )
    integers = np.arange(-8, 24).reshape(8, 4) % 16 - 8
    module.graph.initializers["w"].const_value = onnx_ir.Tensor(
        integers.astype(onnx_ir.DataType.INT4.numpy()), dtype=onnx_ir.DataType.INT4, name="w"
    )
    layer = only_layer(module)
    layer.mask(layer.weights() > 0)
    assert layer.dtype == onnx_ir.DataType.INT4
    np.testing.assert_array_equal(layer.tensor.numpy().astype(int), np.maximum(integers, 0))
