"""Concrete sizes for symbolic dimensions."""

from __future__ import annotations

from core_graphs import graph

from prunec.ir.sizes import input_shapes, open_inputs, symbol_of, symbol_sizes


def test_batch_space_and_the_rest() -> None:
    module = graph(
        "net (float[N,3,H,W] x, int64[N,T] ids, float[M,3] v) => (float[N] y) "
        "{ a = ReduceSum(x) b = Cast<to=1>(ids) c = ReduceSum(b) d = ReduceSum(v) y = Sum(a, c, d) }"
    )
    assert symbol_sizes(module.graph) == {"N": 1, "M": 1, "H": 64, "W": 64, "T": 1}
    chosen = symbol_sizes(module.graph, batch=2, spatial=96, other=12)
    assert chosen == {"N": 2, "M": 2, "H": 96, "W": 96, "T": 12}
    shapes = {"x": (2, 3, 96, 96), "ids": (2, 12), "v": (2, 3)}
    assert input_shapes(module.graph, chosen) == shapes


def test_integer_images_have_no_space() -> None:
    module = graph("net (int64[1,3,H,4] x) => (int64[1,3,H,4] y) { y = Identity(x) }")
    assert symbol_sizes(module.graph) == {"H": 1}


def test_a_symbol_that_is_a_first_axis_anywhere_is_a_batch() -> None:
    module = graph("net (float[3,N] a, float[N,3] b) => (float[3,3] y) { y = MatMul(a, b) }")
    assert symbol_sizes(module.graph, batch=2, other=7) == {"N": 2}


def test_a_dimension_without_a_name_is_named_after_its_place() -> None:
    module = graph("net (float[?,3,?] x) => (float[?,3,?] y) { y = Relu(x) }")
    assert symbol_sizes(module.graph, batch=2, other=5) == {"x:0": 2, "x:2": 5}
    assert [symbol_of(module.graph.inputs[0], axis) for axis in range(3)] == ["x:0", None, "x:2"]


def test_initializers_that_are_listed_as_inputs_need_no_feed() -> None:
    module = graph(
        "net (float[N,3] x, float[3] b) => (float[N,3] y) <float[3] b = {1, 2, 3}> { y = Add(x, b) }"
    )
    assert [value.name for value in open_inputs(module.graph)] == ["x"]
    assert input_shapes(module.graph, {"N": 4}) == {"x": (4, 3)}
