"""The rule of every registered op in every form that its opsets have, one line of ``op_rules.txt`` each; and
data movement compared with the real op, run by ONNX Runtime on tensors of element indices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import onnx_ir
import pytest
from core_graphs import Array, graph, node_of, outputs, rule_of

from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.ir.ops.movement import Movement, as_slice, strided_order
from prunec.ir.ops.padding import Pad
from prunec.ir.ops.refused import Refused
from prunec.ir.registry import OPS, find_op, register
from prunec.ir.rule import IndexMap, Operand, Rule, RuleError
from prunec.ir.site import Site

RULES = (Path(__file__).parent / "op_rules.txt").read_text().splitlines()


def cases() -> list[tuple[int, str, str, str]]:
    """(opset, inputs, expression, printed rule) for every op; ``Abs/Cos(x)`` stands for two ops."""
    found = []
    for line in RULES:
        opset, inputs, expression, rule = line.split(" | ", 3)
        before, names, rest = re.match(r"((?:.* = )?(?:com\.microsoft\.)?)([\w/]+)(.*)", expression).groups()  # type: ignore[union-attr]
        found += [(int(opset), inputs, f"{before}{name}{rest}", rule) for name in names.split("/")]
    return found


def op_of(expression: str) -> tuple[str, str]:
    """Domain and name of the op of an expression."""
    name = expression.rpartition(" = ")[2].split("(")[0].split("<")[0]
    domain, _, op_type = name.rpartition(".")
    return domain, op_type


def module_of(opset: int, inputs: str, expression: str) -> Module:
    """A module of one node whose output is y, a tensor of floats.

    Another type, a shape that no inference tells, or more outputs stand before an equals sign, as in ``uint8
    y, float[2,6] y1 = Op(x)``. ``@1,2`` in an expression is a constant vector of integers, ``@@1`` a single one, ``@f1,2`` a vector of
    floats and ``@[2,3]0,1,...`` a matrix.
    """
    constants: dict[str, Array] = {}

    def constant(match: re.Match[str]) -> str:
        shape, kind, numbers = match.groups()
        array = np.array([float(n) for n in numbers.split(",")])
        array = array.astype(np.float32 if kind == "f" else np.int64).reshape(() if kind == "@" else -1)
        name = f"c{len(constants)}"
        constants[name] = array.reshape([int(n) for n in shape.split(",")]) if shape else array
        return name

    text = re.sub(r"@(?:\[([\d,]+)\])?([@f]?)(-?\d+(?:,-?\d+)*)", constant, expression)
    left, _, right = text.rpartition(" = ")
    typed = re.findall(r"(?:(\w+)(\[[\d,]*\])? )?(y\d*)", left or "y")
    declared = ", ".join(
        f"{kind or 'float'}{shape or '[S' + name + ']'} {name}" for kind, shape, name in typed
    )
    names = re.sub(r"\w+(?:\[[\d,]*\])? (?=y)", "", left) or "y"
    return graph(f"net ({inputs}) => ({declared}) {{ {names} = {right} }}", opset=opset, **constants)


def printed(rule: Rule) -> str:
    """A rule with its index maps, pins and packings behind it."""
    maps = [f"; {m.input}:{m.axis} -> {m.output}:{m.output_axis} {m.index.tolist()}" for m in rule.maps]
    pins = [f"; pin {p.operand[0]}{p.operand[1]}:{p.axis}" for p in rule.pins]
    packed = [
        f"; pack {p.operand[0]}{p.operand[1]}:{p.axis} {p.factor} {p.index.tolist()}" for p in rule.packed
    ]
    return str(rule) + "".join(maps + pins + packed)


@pytest.mark.parametrize(("opset", "inputs", "expression", "rule"), cases())
def test_rule(opset: int, inputs: str, expression: str, rule: str) -> None:
    module = module_of(opset, inputs, expression)
    if rule.startswith("refused: "):
        with pytest.raises(RuleError) as caught:
            rule_of(module, "y")
        assert f"refused: {caught.value}" == rule
    else:
        assert printed(rule_of(module, "y")) == rule


def test_every_registered_op_has_a_line() -> None:
    assert find_op(onnx_ir.node("Relu", [])) is not None  # fills the registry
    listed = {op_of(expression) for _, _, expression, _ in cases()}
    ruled = {key for key, op in OPS.items() if not isinstance(op, Refused)}
    assert {key for key in ruled - listed if key[0] in ("", "com.microsoft")} == set()


def test_the_default_domain_has_two_names() -> None:
    assert find_op(onnx_ir.node("Relu", [], domain="ai.onnx")) is OPS["", "Relu"]
    assert find_op(onnx_ir.node("Relu", [], domain="com.acme")) is None


def test_registering_an_op(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, ("com.acme", "A"), OPS["", "Add"])  # so that both entries are taken back
    monkeypatch.setitem(OPS, ("com.acme", "B"), OPS["", "Add"])
    register("A B", OPS["", "Relu"], domain="com.acme")
    assert find_op(onnx_ir.node("B", [], domain="com.acme")) is OPS["", "Relu"]


# -- movement against the real op ------------------------------------------------------------

MOVING = {"Slice", "Split", "Pad", "Tile", "Gather", "Concat", "Expand", "Reshape", "Flatten", "Squeeze",
          "Unsqueeze", "Transpose", "DepthToSpace", "SpaceToDepth"}  # fmt: skip


def moves() -> list[tuple[int, str, str]]:
    return [
        (o, i, e)
        for o, i, e, _ in cases()
        if op_of(e)[1] in MOVING and op_of(e)[0] == "" and "int64" not in i
    ]


@pytest.mark.parametrize(("opset", "inputs", "expression"), moves())
def test_movement_is_what_the_op_does(opset: int, inputs: str, expression: str) -> None:
    """Every output element comes from the input element that the rule says."""
    module = module_of(opset, inputs, expression)
    rule = rule_of(module, "y")
    total, feeds = 1, {}
    for value in module.graph.inputs:
        shape = tuple(int(n) for n in value.shape)  # type: ignore[union-attr]
        feeds[value.name] = np.arange(total, total + prod(shape), dtype=np.float32).reshape(shape)
        total += prod(shape)
    results = list(outputs(module, feeds).values())
    node = node_of(module, "y")
    op = find_op(node)
    maps = list(rule.maps)
    if isinstance(op, Pad):  # its rule pins what it mirrors; the vectors are there all the same
        vectors = op.vectors(Site(node, infer_facts(module.model), opset), 0)
        maps = [IndexMap(input=0, axis=a, output=0, output_axis=a, index=v) for a, v in vectors.items()]
    for position, result in enumerate(results):
        expected = np.zeros(np.shape(result), np.float32)
        for source, value in enumerate(node.inputs):
            if value is not None and value.name in feeds and rule.inputs[source] is not None:
                mine = {
                    m.output_axis: (m.axis, m.index)
                    for m in maps
                    if (m.input, m.output) == (source, position)
                }
                terms = rule.inputs[source], rule.outputs[position]
                expected += pulled(feeds[value.name], terms, rule.sizes, mine, np.shape(result))
        np.testing.assert_array_equal(expected, result)


def pulled(
    array: Array,
    operands: tuple[Operand | None, Operand | None],
    sizes: Mapping[str, int],
    maps: dict[int, tuple[int, Array]],
    shape: tuple[int, ...],
) -> Array:
    """The output that a rule describes: an element is zero where it comes from no input element."""
    terms, targets = operands
    assert terms is not None
    assert targets is not None
    grids = np.indices(shape)
    factor: dict[str, Array] = {}
    for axis, term in enumerate(targets):
        rest = grids[axis]
        for name in reversed(term):
            factor[name] = rest % sizes[name]
            rest = rest // sizes[name]
    coordinates, valid = [], np.ones(shape, bool)
    by_input_axis = {axis: (at, index) for at, (axis, index) in maps.items()}
    for axis, term in enumerate(terms):
        if axis in by_input_axis:
            at, index = by_input_axis[axis]
            slot = index[grids[at]]
            valid &= slot >= 0
            coordinates.append(np.maximum(slot, 0))
            continue
        coordinate = np.zeros(shape, np.int64)
        for name in term:
            coordinate = coordinate * sizes[name] + factor[name]
        if not term and array.shape[axis] > 1:  # a single slot picked by index
            coordinate += 2
        coordinates.append(coordinate)
    return np.where(valid, array[tuple(coordinates)], 0)


# -- forms that have no rule ------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "expression", "message"),
    [
        ("float[2,6,8] x", "Reshape(x, @8,12)", "it regroups (2, 6, 8) as (8, 12), across the borders of axes"),
        ("float[2,6,8] x, int64[1] s, int64[1] e", "Slice(x, s, e)", "the contents of input 1 are only known at run time"),
        ("float[2,6,8] x, int64[1] a", "ReduceSum(x, a)", "the contents of input 1 are only known at run time"),
        ("float[2,6,8] x, int64[3] r", "Tile(x, r)", "the contents of input 1 are only known at run time"),
    ],
)  # fmt: skip
def test_what_has_no_rule_says_why(inputs: str, expression: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        rule_of(module_of(17, inputs, expression), "y")
    assert str(caught.value) == message


def test_an_unknown_shape_is_no_rule() -> None:
    module = graph("net (float[2,3] x) => (float[A] y) { t = com.acme.Odd(x) y = Conv(t, t) }")
    with pytest.raises(RuleError, match="the shape of input 0 is unknown"):
        rule_of(module, "y")


def test_an_empty_list_of_axes_means_all_of_them() -> None:
    module = graph(
        "net (float[2,6] x) => (float[A] y) { y = ReduceSum(x, none) }", none=np.zeros(0, np.int64)
    )
    assert str(rule_of(module, "y")) == "a b, - -> 1 1 reduce a b"


# -- small functions ------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ([2, 4, 6], slice(2, 8, 2)), ([5, 3, 1], slice(5, None, -2)), ([3], slice(3, 4, 1)),
        ([0, 1, 3], None), ([1, 1, 1], None), ([], None), ([0, 2, 1], None),
    ],
)  # fmt: skip
def test_as_slice(vector: list[int], expected: slice | None) -> None:
    assert as_slice(np.array(vector, np.int64)) == expected


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[0, 1, 2], [3, 4, 5]], [0, 1]), ([[0, 2], [1, 3]], [1, 0]), ([[0, 1], [1, 2]], None),
        ([[0, 3], [2, 1]], None), ([[[0, 4], [1, 5]], [[2, 6], [3, 7]]], [2, 0, 1]),
    ],
)  # fmt: skip
def test_strided_order(table: list[object], expected: list[int] | None) -> None:
    assert strided_order(np.array(table)) == expected


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("Conv", ["operand", "weight", "bias"]), ("Gemm", ["operand", "weight", "bias"]),
        ("BatchNormalization", ["operand", "scale", "bias", "statistic", "statistic"]),
        ("LayerNormalization", ["operand", "scale", "bias"]), ("Mul", ["scale", "scale"]),
        ("Add", ["bias", "bias"]), ("Gather", ["weight", "operand"]), ("Relu", ["operand"]),
    ],
)  # fmt: skip
def test_roles_of_constants(name: str, roles: list[str]) -> None:
    assert find_op(onnx_ir.node("Relu", [])) is not None
    assert [OPS["", name].role(position) for position in range(len(roles))] == roles


def test_a_family_without_a_rule_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="vectors"):
        Movement()  # type: ignore[abstract]
