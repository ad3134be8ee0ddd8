"""Parameters, bytes and multiply-accumulates against formulas."""

from __future__ import annotations

from math import prod

import pytest
from core_graphs import coupling_of, graph, prune
from coupling_graphs import coupled

from prunec.ir.module import Module
from prunec.passes.cost import Cost, measure


def cost_of(module: Module) -> Cost:
    return measure(module.model, coupling_of(module))


def node(inputs: str, weights: str, expression: str) -> Cost:
    return cost_of(graph(f"net ({inputs}) => (float[A] y) <{weights}> {{ [n] y = {expression} }}"))


@pytest.mark.parametrize(
    ("inputs", "weights", "expression", "macs"),
    [
        ("float[1,6,8,9] x", "float[10,6,3,2] w", "Conv(x, w)", 10 * 6 * 3 * 2 * 6 * 8),
        ("float[3,6,8,9] x", "float[10,6,3,2] w", "Conv(x, w)", 3 * 10 * 6 * 3 * 2 * 6 * 8),
        (
            "float[1,6,8] x",
            "float[10,6,3] w, float[10] b",
            "Conv<strides=[2], pads=[1,1]>(x, w, b)",
            10 * 6 * 3 * 4,
        ),
        ("float[1,6,8] x", "float[10,3,3] w", "Conv<group=2>(x, w)", 10 * 3 * 3 * 6),
        ("float[1,6,8] x", "float[6,1,3] w", "Conv<group=6>(x, w)", 6 * 3 * 6),
        ("float[1,6,8] x", "float[12,1,3] w", "Conv<group=6>(x, w)", 12 * 3 * 6),
        ("float[1,6,8] x", "float[1,6,1] w", "Conv(x, w)", 6 * 8),
        ("float[1,6,8] x", "float[10,6,8] w", "Conv(x, w)", 10 * 6 * 8),
        ("float[1,6,8] x", "float[6,10,4] w", "ConvTranspose<strides=[2]>(x, w)", 6 * 10 * 4 * 8),
        ("float[1,6,8] x", "float[6,5,4] w", "ConvTranspose<group=2>(x, w)", 6 * 5 * 4 * 8),
        ("float[2,6] x", "float[6,8] w, float[8] b", "Gemm(x, w, b)", 2 * 6 * 8),
        ("float[6,2] x", "float[8,6] w", "Gemm<transA=1, transB=1>(x, w)", 2 * 6 * 8),
        ("float[3,2,6] x", "float[6,8] w", "MatMul(x, w)", 3 * 2 * 6 * 8),
        ("float[4,3,2,6] x", "float[3,6,8] w", "MatMul(x, w)", 4 * 3 * 2 * 6 * 8),
        ("float[6] x", "float[6] w", "MatMul(x, w)", 6),
        ("float[1,6] x", "float[6,1] w", "MatMul(x, w)", 6),
        ("float[2,6] x", "float[6] w", "Mul(x, w)", 0),
        ("float[2,6] x", "float[6] w", "LayerNormalization(x, w)", 0),
    ],
)
def test_multiply_accumulates(inputs: str, weights: str, expression: str, macs: int) -> None:
    assert node(inputs, weights, expression).macs == macs


def test_parameters_and_bytes() -> None:
    cost = node("float[1,6,8] x", "float[10,6,3] w, float[10] b", "Conv(x, w, b)")
    assert (cost.parameters, cost.bytes) == (190, 760)
    (layer,) = cost.layers
    assert (layer.name, layer.op_type, layer.weight, layer.parameters) == (
        "n",
        "Conv",
        ("w", (10, 6, 3)),
        190,
    )


def test_half_precision_and_integers() -> None:
    cost = node("float16[2,6] x", "float16[6,8] w", "MatMul(x, w)")
    assert (cost.parameters, cost.bytes) == (48, 96)


def test_shapes_and_single_numbers_are_no_parameters() -> None:
    cost = cost_of(coupled("channel shuffle"))
    assert cost.parameters == 6 * 3 + 5 * 6
    assert [layer.op_type for layer in cost.layers] == ["Conv", "Conv"]
    assert node("float[2,6] x", "float w", "Mul(x, w)").parameters == 0


def test_a_shared_tensor_counts_once_at_its_first_reader() -> None:
    cost = cost_of(coupled("tied weights"))
    assert cost.parameters == 4 * 6 + 6 * 6
    assert [(layer.parameters, layer.macs) for layer in cost.layers] == [
        (24, 24),
        (36, 36),
        (0, 36),
        (0, 24),
    ][:4]


def test_the_batch_counts_as_one_where_it_is_free() -> None:
    text = "net (float[B,6] x) => (float[B,8] y) <float[6,8] w> { y = MatMul(x, w) }"
    assert cost_of(graph(text.replace("B,", "N,"))).macs == 48
    assert cost_of(graph(text.replace("B,", "5,"))).macs == 240


def test_attention_counts_both_products() -> None:
    cost = cost_of(coupled("heads"))
    tokens, heads, size, width = 7, 3, 2, 4
    projections = 3 * 2 * tokens * width * heads * size + 2 * tokens * heads * size * width
    products = 2 * (2 * heads * tokens * size * tokens)
    assert cost.macs == projections + products


def test_the_cost_falls_with_the_channels() -> None:
    result = prune(coupled("residual"))
    kept = {
        "w0": (2, 3, 1, 1),
        "w1": (2, 2, 3, 3),
        "w2": (3, 2, 1, 1),
        "w3": (2, 3, 1, 1),
        "w4": (5, 2, 1, 1),
    }
    assert result.cost_after.parameters == sum(map(prod, kept.values())) + 2
    assert result.cost_after.macs == sum(map(prod, kept.values())) * 64


def test_weights_that_only_a_nested_graph_reads_count() -> None:
    text = "net (float[N,4] x, bool go) => (float[N,5] y) <float[4,5] w, float[5] b> { y = If (go) < "
    text += "then_branch = yes () => (float[N,5] t) { t = Gemm(x, w, b) }, "
    text += "else_branch = no () => (float[N,5] e) { e = MatMul(x, w) } > }"
    cost = cost_of(graph(text))
    assert (cost.parameters, cost.macs) == (25, 40)
    layers = [(layer.op_type, layer.weight, layer.parameters) for layer in cost.layers]
    assert layers == [("Gemm", ("w", (4, 5)), 25), ("MatMul", None, 0)]
