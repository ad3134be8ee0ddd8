"""Two models side by side: what stands for what, what is different, where the numbers part."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph, weights
from coupling_graphs import coupled
from sabotage import put

import prunec
from prunec.ir.diff import Divergence, align, differences, diverge
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds


def renamed(module: Module) -> Module:
    """A copy in which nothing but the ops tells what is what."""
    copy = module.clone()
    for number, value in enumerate([*copy.graph.inputs, *copy.graph.initializers.values()]):
        value.name = f"other value {number}"
    for number, node in enumerate(copy.graph):
        node.name = f"other node {number}"
        for index, output in enumerate(node.outputs):
            output.name = f"other result {number} {index}"
    return prunec.load(onnx_ir.to_proto(copy.model))


def divergences(a: Module, b: Module) -> list[Divergence]:
    return diverge(a, b, align(a.graph, b.graph), probe_feeds(a))


@pytest.mark.parametrize("name", ["residual", "concat", "channel shuffle", "heads", "grouped queries"])
def test_names_are_not_needed(name: str) -> None:
    a = coupled(name)
    b = renamed(a)
    found = align(a.graph, b.graph)
    assert not found.only_a and not found.only_b
    assert list(found.nodes.values()) == list(b.graph)
    assert not list(differences(a.model, b.model, found))
    assert all(value.error == 0 for value in divergences(a, b))


def test_a_changed_weight_is_found_and_so_is_where_it_first_shows() -> None:
    a = coupled("residual")
    b = a.clone()
    put(b, "w2", weights(b)["w2"] * 1.5)
    (difference,) = differences(a.model, b.model, align(a.graph, b.graph))
    assert (difference.kind, difference.name) == ("weight", "w2") and difference.error == pytest.approx(0.5)
    found = divergences(a, b)
    assert [value.name for value in found if value.begins] == ["d"]
    assert {value.name for value in found if value.error} == {"d", "e", "f", "y"}
    assert [value.name for value in found if value.is_output] == ["y"]


def test_zeros_are_counted() -> None:
    a = coupled("residual")
    b = a.clone()
    put(b, "w0", weights(b)["w0"] * (np.arange(12, dtype=np.float32) % 2).reshape(4, 3, 1, 1))
    (difference,) = differences(a.model, b.model, align(a.graph, b.graph))
    assert (difference.a, difference.b) == ("f32[4, 3, 1, 1], 0% zeros", "f32[4, 3, 1, 1], 50% zeros")


def test_shapes_attributes_and_missing_nodes() -> None:
    a = graph(
        "net (float[N,4] x) => (float[N,4] y) <float[4,4] w> { a = MatMul(x, w)  b = Relu(a)  y = Softmax<axis=1>(b) }"
    )
    b = graph(
        "net (float[N,4] x) => (float[N,4] y) <float[4,4] w> { a = MatMul(x, w)  y = Softmax<axis=0>(a) }"
    )
    found = align(a.graph, b.graph)
    assert [node.op_type for node in found.only_a] == ["Relu"] and not found.only_b
    kinds = {(d.kind, d.a, d.b) for d in differences(a.model, b.model, found) if d.kind != "weight"}
    assert kinds == {("node", "Relu", ""), ("attribute", "1", "0")}


def test_a_value_that_shrank_is_not_compared_but_named() -> None:
    a = coupled("residual")
    b = prunec.run(a, "prune-channels{round-to=1}").module
    found = {value.name: value for value in divergences(a, b)}
    assert found["a"].error is None and found["a"].begins and not found["b"].begins
    assert found["a"].shapes[0][1] == 2 * found["a"].shapes[1][1]
    assert found["y"].error is not None and found["y"].error > 0


def test_a_folded_norm_is_compared_with_the_layer_that_took_its_place() -> None:
    text = """
    net (float[N,3,4,4] x) => (float[N,2,2,2] y)
    <float[2,3,3,3] w, float[2] s, float[2] b, float[2] m, float[2] v = {1, 2}>
    { c = Conv(x, w)  y = BatchNormalization(c, s, b, m, v) }"""
    a = graph(text)
    b = prunec.run(a, "fold-norm").module
    (value,) = divergences(a, b)
    assert value.name == "y" and value.error is not None and value.error < 1e-5


def test_numbers_that_are_not_finite_differ_from_those_that_are() -> None:
    a = graph("net (float[N,2] x) => (float[N,2] y) <float[2] w = {1, 1}> { y = Mul(x, w) }")
    b = a.clone()
    put(b, "w", np.full(2, np.nan, np.float32))
    assert divergences(a, b)[0].error == float("inf")
    assert divergences(b, b)[0].error == 0


def test_bodies_are_compared_as_well() -> None:
    text = """
    net (float[1,4] x) => (float[1,4] y)
    { c = Constant<value = bool {1}>()  h = MatMul(x, w)
      y = If(c) <then_branch = t () => (float[1,4] a) { p = Exp(h)  a = MatMul(p, v) },
                 else_branch = e () => (float[1,4] b) { b = Relu(h) }> }"""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((4, 4)).astype(np.float32) for name in ("w", "v")}
    one = graph(text, **weights)
    other = graph(
        text.replace("p = Exp(h)  a = MatMul(p, v)", "q = Exp(h)  s = Neg(q)  a = MatMul(s, v)"),
        w=weights["w"],
        v=weights["v"] * 2,
    )
    aligned = align(one.graph, other.graph)
    assert [node.op_type for node in aligned.nodes] == ["Constant", "MatMul", "If", "Exp", "MatMul", "Relu"]
    assert [node.op_type for node in aligned.only_b] == ["Neg"] and not aligned.only_a
    found = list(differences(one.model, other.model, aligned))
    assert [(d.kind, d.name) for d in found] == [("weight", "v"), ("node", "s")]
    values = diverge(one, other, aligned, probe_feeds(one))
    assert [value.name for value in values if value.begins] == ["y"]
