"""Shapes and numbers that are known before a graph runs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from core_graphs import Array, graph, outputs
from generators import random_inputs, random_model

import prunec
from prunec.ir.facts import SMALL, Facts, infer_facts
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds


def value(module: Module, name: str) -> onnx_ir.Value:
    """A value of the main graph by name."""
    made = [o for node in module.graph for o in node.outputs]
    return next(
        v for v in [*made, *module.graph.inputs, *module.graph.initializers.values()] if v.name == name
    )


def known(module: Module, name: str) -> tuple[Facts, onnx_ir.Value]:
    return infer_facts(module.model), value(module, name)


COMPUTED = """net (float[N,6,4] x) => (float[A,B] y) <int64 zero = {0}, int64[1] rest = {-1}, int64[1] ax = {0}>
{
    s = Shape(x)
    n = Gather(s, zero)
    m = Unsqueeze(n, ax)
    target = Concat<axis=0>(m, rest)
    y = Reshape(x, target)
}"""


def test_shape_arithmetic_is_evaluated_and_folded() -> None:
    module = graph(COMPUTED)
    facts = infer_facts(module.model)
    assert facts.numbers[value(module, "target")].tolist() == [1, -1]
    assert facts.shapes[value(module, "y")] == (1, 24)
    folded = [node.op_type for node in module.graph if facts.is_folded(node)]
    assert folded == ["Shape", "Gather", "Unsqueeze", "Concat"]
    assert value(module, "ax") in facts.numbers
    assert value(module, "ax") not in facts.derived


def test_what_follows_the_batch_is_dynamic_and_unstable() -> None:
    module = graph(COMPUTED)
    facts = infer_facts(module.model)
    assert facts.dynamic[value(module, "x")] == {0}
    assert facts.dynamic[value(module, "y")] == {0}
    assert {v.name for v in facts.unstable} == {"s", "n", "m", "target"}
    assert facts.number(value(module, "target")) is None
    assert facts.number(value(module, "rest")) is not None
    assert facts.number(None) is None


def test_a_static_graph_has_nothing_dynamic() -> None:
    module = graph(COMPUTED.replace("N,6,4", "5,6,4"))
    facts = infer_facts(module.model)
    assert facts.dynamic == {}
    assert facts.unstable == set()
    assert facts.number(value(module, "target")).tolist() == [5, -1]  # type: ignore[union-attr]
    assert facts.shape(value(module, "y")) == (5, 24)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Shape(x)", [2, 3, 4]),
        ("Shape<start=1>(x)", [3, 4]),
        ("Shape<start=-2, end=-1>(x)", [3]),
        ("Size(x)", 24),
        ("Constant<value_ints=[7, 8]>()", [7, 8]),
        ("Constant<value_int=7>()", 7),
        ("Constant<value = int64[2] {4, 5}>()", [4, 5]),
    ],
)
def test_numbers_of_sources(expression: str, expected: object) -> None:
    module = graph(f"net (float[2,3,4] x) => (int64[A] y) {{ y = {expression} }}")
    facts, y = known(module, "y")
    assert facts.numbers[y].tolist() == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Mul(s, two)", [4, 6, 8]),
        ("Div(s, two)", [1, 1, 2]),
        ("Slice(s, one, end)", [3, 4]),
        ("ReduceProd<keepdims=0>(s)", 24),
        ("Cast<to=6>(s)", [2, 3, 4]),
        ("Where(c, s, two)", [2, 2, 2]),
    ],
)
def test_numbers_of_integer_ops(expression: str, expected: object) -> None:
    text = (
        "net (float[2,3,4] x) => (int64[A] y) "
        "<int64 two = {2}, int64[1] one = {1}, int64[1] end = {9}, bool[3] c = {1, 0, 0}> "
        f"{{ s = Shape(x) y = {expression} }}"
    )
    facts, y = known(graph(text), "y")
    assert facts.numbers[y].tolist() == expected


def test_float_data_is_no_shape_arithmetic() -> None:
    module = graph("net (float[2,3] x) => (float[2,3] y) <float[3] w> { v = Relu(w) y = Add(x, v) }")
    facts, v = known(module, "v")
    assert v not in facts.numbers
    assert facts.shape(v) == (3,)


def test_a_single_float_is_a_number() -> None:
    module = graph("net (float[2,3] x) => (float[2,3] y) <float w = {4}> { v = Sqrt(w) y = Mul(x, v) }")
    facts, v = known(module, "v")
    assert facts.numbers[v] == pytest.approx(2.0)


def test_random_ops_and_large_tensors_are_not_evaluated() -> None:
    text = f"net () => (int64[{SMALL + 1}] y, float[2] z) <int64[1] n = {{{SMALL + 1}}}> " + (
        "{ y = ConstantOfShape<value = int64[1] {3}>(n) z = RandomNormal<shape=[2]>() }"
    )
    module = graph(text)
    facts = infer_facts(module.model)
    assert value(module, "y") not in facts.numbers
    assert facts.shape(value(module, "y")) == (SMALL + 1,)
    assert value(module, "z") not in facts.numbers


def test_an_unknown_op_leaves_its_shape_open() -> None:
    module = graph("net (float[2,3] x) => (float[A] y) { t = com.acme.Odd(x) y = Relu(t) }")
    facts = infer_facts(module.model)
    assert facts.shape(value(module, "t")) is None
    assert facts.shape(None) is None


def test_shapes_that_inference_lacks_come_from_a_probe_run() -> None:
    module = graph(
        "net (float[N,4] x) => (float[N,1,6] y) <float[4,4] w, int64[1] ax = {1}, float[4,6] w2> "
        "{ a = com.microsoft.FusedMatMul(x, w) u = Unsqueeze(a, ax) y = MatMul(u, w2) }"
    )
    facts = infer_facts(module.model)
    assert facts.shape(value(module, "a")) == (1, 4)
    assert facts.shape(value(module, "u")) == (1, 1, 4)
    assert facts.shape(value(module, "y")) == (1, 1, 6)
    assert facts.dynamic[value(module, "a")] == {0}
    assert facts.types[value(module, "a")] == onnx.TensorProto.FLOAT


def test_element_types_are_known() -> None:
    module = graph("net (float16[2,3] x) => (int64[2] y) { t = Relu(x) y = ArgMax<axis=1, keepdims=0>(t) }")
    facts = infer_facts(module.model)
    assert facts.types[value(module, "t")] == onnx.TensorProto.FLOAT16
    assert facts.types[value(module, "y")] == onnx.TensorProto.INT64


@pytest.mark.parametrize("seed", range(40))
def test_facts_of_random_models_are_what_they_compute(seed: int) -> None:
    """Every inferred shape, and every number, equals what ONNX Runtime gives at the same sizes."""
    proto = random_model(seed)
    module = prunec.load(proto)
    facts = infer_facts(module.model)
    made = {o.name: o for node in module.graph for o in node.outputs if o.name}
    assert all(o in facts.shapes for o in made.values())
    sizes = {
        dim.value: size
        for value in module.graph.inputs
        for dim, size in zip(value.shape or (), facts.shapes[value], strict=True)
        if isinstance(dim, onnx_ir.SymbolicDim)
    }
    computed = outputs(module, probe_feeds(module, sizes=sizes), list(made))
    for name, array in computed.items():
        assert facts.shapes[made[name]] == array.shape, name
        if made[name] in facts.numbers:
            np.testing.assert_array_equal(facts.numbers[made[name]], array)


def check_dynamic(facts: Facts, small: dict[str, Array], large: dict[str, Array]) -> None:
    """What differs between two batch sizes must be marked."""
    for node_value, shape in facts.shapes.items():
        if (name := node_value.name or "") in small:
            differs = {a for a in range(len(shape)) if small[name].shape[a] != large[name].shape[a]}
            assert differs <= facts.dynamic.get(node_value, frozenset()), name


@pytest.mark.parametrize("seed", range(12))
def test_axes_that_follow_the_batch_are_marked(seed: int) -> None:
    proto = random_model(seed, dynamic=True)
    module = prunec.load(proto)
    names = [o.name for node in module.graph for o in node.outputs if o.name]
    small, large = (outputs(module, random_inputs(proto, seed, batch=n), names) for n in (2, 3))
    check_dynamic(infer_facts(module.model), small, large)


PADDED = """net (float[N,3,H,W] x) => (float[N,3,A,B] y) <int64[1] multiple = {MULTIPLE}, int64[6] before = {0,0,0,0,0,0}>
{
    h = Shape<start=2, end=3>(x)
    over = Mod(h, multiple)
    lacks = Sub(multiple, over)
    pad = Mod(lacks, multiple)
    last = Sub(pad, pad)
    pads = Concat<axis=0>(before, pad, last)
    y = Pad(x, pads)
}"""


@pytest.mark.parametrize("multiple", [2, 7, 8, 32])
def test_padding_to_a_multiple_is_no_constant(multiple: int) -> None:
    """Both usual probe sizes may be multiples already, which makes the padding 0 twice."""
    facts, pad = known(graph(PADDED.replace("MULTIPLE", str(multiple))), "pad")
    assert pad in facts.derived
    assert facts.number(pad) is None


def test_sizes_that_the_graph_does_not_accept_tell_nothing() -> None:
    """The width must be even, which it is not at every size that is looked at."""
    module = graph(
        "net (float[1,4,8,W] x) => (float[1,4,8,V,2] y, int64[1] channels) <int64[5] pairs = {0, 0, 0, -1, 2}> "
        "{ y = Reshape(x, pairs) channels = Shape<start=1, end=2>(y) }"
    )
    facts, channels = known(module, "channels")
    assert facts.number(channels) is not None
    assert facts.dynamic[value(module, "y")] == {3}


def test_weights_that_are_quantised_in_the_graph_are_no_shape_arithmetic() -> None:
    module = graph(
        "net (float[N,2] x) => (float[N,3] y) <float[2,3] w, float scale = {0.5}, int8 zero = {0}> "
        "{ q = QuantizeLinear(w, scale, zero) d = DequantizeLinear(q, scale, zero) y = MatMul(x, d) }"
    )
    facts, q = known(module, "q")
    assert q not in facts.numbers
