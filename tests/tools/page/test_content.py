"""What the page knows about a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnxtext import parse_model

import prunec
from prunec.passes.coupling import analyse
from prunec.passes.survey import survey
from prunec.tools.page.content import page_data

NET = """
net (float[N,3,8,8] x) => (float[N,10] logits)
  <float[8,3,3,3] stem, float[8,8,3,3] conv, float[10,8] fc, float[10] bias>
{
  [stem] a = Conv<pads = [1, 1, 1, 1]>(x, stem)
  [conv] b = Conv<pads = [1, 1, 1, 1]>(a, conv)
  [sum] c = Add(a, b)
  [pool] p = GlobalAveragePool(c)
  [shape] s = Shape(x)
  [zero] zero = Constant<value_ints = [0]>()
  [one] one = Constant<value_ints = [1]>()
  [batch] n = Slice(s, zero, one)
  [minus] minus = Constant<value_ints = [-1]>()
  [sizes] sizes = Concat<axis = 0>(n, minus)
  [flat] f = Reshape(p, sizes)
  [fc] logits = Gemm<transB = 1>(f, fc, bias)
}
"""


def data_of(proto: onnx.ModelProto) -> dict[str, Any]:
    module = prunec.load(proto)
    return page_data(module, survey(module.model, analyse(module.model)))


@pytest.fixture
def data() -> dict[str, Any]:
    proto = parse_model(f"# WEIGHTS: random\n{NET}")
    for weight in proto.graph.initializer:
        if weight.name == "conv":
            array = onnx.numpy_helper.to_array(weight).copy()
            array[:2] = 0
            weight.CopyFrom(onnx.numpy_helper.from_array(array, "conv"))
    return data_of(proto)


def row(data: dict[str, Any], name: str) -> list[Any]:
    [found] = [node for node in data["nodes"] if node[1] == name and not node[0].startswith("graph ")]
    return found


def test_a_node_says_what_it_reads_and_writes(data: dict[str, Any]) -> None:
    op, name, short, inputs, outputs, attributes, _, groups, zeros = row(data, "conv")
    assert (op, name, short) == ("Conv", "conv", "conv")
    assert [data["values"][v][0] for v, _ in inputs] == ["a", "conv"]
    assert [data["types"][t] for _, t in inputs] == ["f32[N, g1:8, 8, 8]", "f32[g1:8, g1:8, 3, 3]"]
    assert [data["types"][t] for _, t in outputs] == ["f32[N, g1:8, 8, 8]"]
    assert attributes == [["pads", "[1, 1, 1, 1]"]]
    assert [data["groups"][g][0] for g in groups] == ["g1"]
    assert zeros == 0.25
    assert data["values"][inputs[1][0]][2] == 0.25
    assert row(data, "sum")[-1] is None


def test_a_group_says_its_members_and_what_pins_it(data: dict[str, Any]) -> None:
    groups = {group[0]: group for group in data["groups"]}
    _, units, parameters, frozen, _, _, statistic, members = groups["g1"]
    assert (units, frozen, statistic) == (8, None, False)
    assert parameters == 8 * 27 + 8 * 8 * 9 + 80
    places = [
        (tensor, axis, slots, [data["nodes"][n][1] for n in users]) for tensor, axis, slots, users in members
    ]
    assert places == [
        ("stem", 0, 8, ["stem"]),
        ("conv", 0, 8, ["conv"]),
        ("conv", 1, 8, ["conv"]),
        ("fc", 1, 8, ["fc"]),
    ]
    pinned = [group for group in data["groups"] if group[3] == "graph output `logits`"]
    assert [(group[1], group[2], group[5]) for group in pinned] == [(10, None, "logits")]


def test_layers_are_those_with_weights(data: dict[str, Any]) -> None:
    found = [(data["nodes"][at][1], shape, macs, zeros) for at, shape, _, macs, _, zeros, _ in data["layers"]]
    assert found == [
        ("stem", "8x3x3x3", 13824, 0.0),
        ("conv", "8x8x3x3", 36864, 0.25),
        ("fc", "10x8", 80, 0.0),
    ]


def test_shape_arithmetic_is_in_one_of_the_two_views(data: dict[str, Any]) -> None:
    folded, whole = ({data["nodes"][n][1] for n in view["nodes"]} for view in data["views"])
    assert folded == {"x", "stem", "conv", "sum", "pool", "flat", "fc", "logits"}
    assert whole - folded == {"shape", "zero", "one", "batch", "minus", "sizes"}
    for view in data["views"]:
        place = dict(zip(view["nodes"], view["y"], strict=True))
        assert view["y"] == sorted(view["y"])
        assert all(place[a] < place[b] for a, b, _, _ in view["edges"])
    shortcut = [edge for edge in data["views"][0]["edges"] if edge[3] is not None]
    assert [(data["nodes"][a][1], data["nodes"][b][1]) for a, b, _, _ in shortcut] == [("stem", "sum")]


def test_a_mask_made_of_shapes_alone_counts_as_arithmetic_and_a_quantised_weight_does_not() -> None:
    text = """
    net (float[2,4] x) => (float[2,4] y) <float[4,4] w> {
      [shape] s = Shape(x)
      [fill] mask = ConstantOfShape(s)
      [turn] turned = Transpose(w)
      [mm] h = MatMul(x, turned)
      [add] y = Add(h, mask)
    }
    """
    data = data_of(parse_model(f"# WEIGHTS: random\n{text}"))
    assert {data["nodes"][n][1] for n in data["views"][0]["nodes"]} == {"x", "turn", "mm", "add", "y"}


def test_bodies_hang_below_the_node_that_holds_them() -> None:
    text = """
    net (float[2,4] x, bool chosen) => (float[2,4] y) <float[4,4] w, float[2,4] v> {
      [before] h = MatMul(x, w)
      [branch] y = If(chosen) <
        then_branch = one () => (float[2,4] a) { [inner] a = Relu(h) },
        else_branch = two () => (float[2,4] b) { [alone] b = Neg(v) }
      >
    }
    """
    data = data_of(parse_model(f"# WEIGHTS: random\n{text}"))
    names = [node[1] for node in data["nodes"]]
    edges = [(names[a], names[b]) for a, b, _, _ in data["views"][1]["edges"]]
    assert ("before", "inner") in edges and ("branch", "alone") in edges and ("branch", "y") in edges
    assert row(data, "branch")[5][0][1].startswith("graph of 1 node")


def test_odd_graphs_have_a_page() -> None:
    for text in (
        "net (float[2] x) => (float[2] x) {}",
        "net () => (float[1] y) { y = Constant<value = float[1] {1}>() }",
        "net (float[2] x, float[2] unused) => (float[2] y) { y = Clip(x, , ) }",
    ):
        data = data_of(parse_model(text))
        assert all(np.isfinite(view["x"]).all() for view in data["views"])
