"""What is known about every value of a graph before it runs: concrete shapes, and the numbers of shape
arithmetic.

Symbolic dimensions get concrete sizes for one walk over the graph (:mod:`prunec.ir.fact_walk`); walks with other sizes
tell which axes and numbers are dynamic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.control import open_graphs
from prunec.ir.module import opset_of
from prunec.ir.sizes import SizeChoice

Array = NDArray[Any]

SMALL = 4096
"""Arrays larger than this are data, not shape arithmetic."""

LENGTHS = ((8, 12, 13), (1, 12, 13), (512, 768, 781))
"""Sizes of a sequence to try until all shapes are known (filters over audio need hundreds), each with two others."""


@dataclass(slots=True)
class Facts:
    """Shapes and known numbers of the values of one graph and its bodies.

    Attributes:
        shapes: concrete shape of every value whose shape is known, at the sizes of the walk.
        numbers: contents of small constants and of integer values computed from constants and shapes.
        derived: the values in ``numbers`` that some node computes (the rest are initializers and constants).
        types: element type of every value whose type is known, as ONNX numbers them.
        constant: values that depend on no graph input: initializers, and what is computed from them alone.
        dynamic: per value the axes whose size follows the sizes of the graph inputs.
        unstable: values in ``numbers`` whose contents follow the sizes of the graph inputs; ``varying`` tells of
            some of them which entries do.
    """

    shapes: dict[onnx_ir.Value, tuple[int, ...]] = field(default_factory=dict)
    numbers: dict[onnx_ir.Value, Array] = field(default_factory=dict)
    derived: set[onnx_ir.Value] = field(default_factory=set)
    constant: set[onnx_ir.Value] = field(default_factory=set)
    types: dict[onnx_ir.Value, int] = field(default_factory=dict)
    dynamic: dict[onnx_ir.Value, frozenset[int]] = field(default_factory=dict)
    unstable: set[onnx_ir.Value] = field(default_factory=set)
    varying: dict[onnx_ir.Value, NDArray[np.bool_]] = field(default_factory=dict)

    def shape(self, value: onnx_ir.Value | None) -> tuple[int, ...] | None:
        """The concrete shape of a value, or None where it is absent or unknown."""
        return None if value is None else self.shapes.get(value)

    def number(self, value: onnx_ir.Value | None) -> Array | None:
        """The contents of a value that are known and the same for every size of the inputs, else None."""
        if value is None or value in self.unstable:
            return None
        return self.numbers.get(value)

    def is_folded(self, node: onnx_ir.Node) -> bool:
        """Whether every output of a node is a known number: then the node is shape arithmetic, no data."""
        return bool(node.outputs) and all(o in self.derived for o in node.outputs if o.name)

    def copy(self, value: onnx_ir.Value, constant: onnx_ir.Value) -> None:
        """Note what is known about a value for the initializer that takes its place."""
        if value in self.shapes:
            self.shapes[constant] = self.shapes[value]
        if value in self.numbers:
            self.numbers[constant] = self.numbers[value]
        if value in self.types:
            self.types[constant] = self.types[value]


def infer_facts(model: onnx_ir.Model) -> Facts:
    """Derive the facts of a model's main graph and of the bodies in it.

    Shapes that inference cannot tell (custom ops, data-dependent sizes) come from running the model once on
    probe inputs, and are missing where that fails too.
    """
    from prunec.ir.dependence import counts, mark_dependent
    from prunec.ir.fact_walk import FactWalk

    facts, (second, odd) = _first_walk(model)
    second_sizes = SizeChoice(batch=2, spatial=96, other=second)
    if any(_sizes(model, SizeChoice())):
        _mark_dynamic(facts, FactWalk(model, second_sizes).run())
        # Sizes that nothing divides: padding to a multiple of 32 is 0 for both 64 and 96, yet no constant.
        other = FactWalk(model, SizeChoice(batch=3, spatial=67, other=odd)).run(probe=False)
        _mark_dynamic(facts, other, complete=False)
    if facts.dynamic:
        mark_dependent(model.graph, facts)
    if counts(model.graph):  # what a run counted is no fact
        _mark_dynamic(facts, FactWalk(model, second_sizes).run(probe=False))
    return facts


def _sizes(model: onnx_ir.Model, choice: SizeChoice) -> list[dict[str, int]]:
    """What a choice of sizes means for every graph of a model whose inputs are open."""
    return [choice.of(graph) for graph in open_graphs(model.graph, opset_of(model.graph, ""))]


def _first_walk(model: onnx_ir.Model) -> tuple[Facts, tuple[int, int]]:
    """The walk that tells most shapes, and the two lengths to compare it with."""
    from prunec.ir.fact_walk import FactWalk

    found: list[tuple[Facts, tuple[int, int]]] = []
    tried: list[list[dict[str, int]]] = []
    for length, second, odd in LENGTHS:
        choice = SizeChoice(other=length)
        if (sizes := _sizes(model, choice)) not in tried:
            tried.append(sizes)
            found.append((FactWalk(model, choice).run(), (second, odd)))
        if not _missing(model.graph, found[-1][0]):
            break
    return min(found, key=lambda pair: _missing(model.graph, pair[0]))


def _missing(graph: onnx_ir.Graph, facts: Facts) -> int:
    """How many values have no known shape, or one of no elements, as from a kernel longer than its input."""
    computed = (o for node in graph for o in node.outputs if o.name and o not in facts.constant)
    return sum(min(facts.shapes.get(o, (0,)), default=1) <= 0 for o in computed)


def _mark_dynamic(facts: Facts, other: Facts, *, complete: bool = True) -> None:
    """Note what differs at other sizes; if ``complete``, also the numbers that are not known there."""
    for value, shape in facts.shapes.items():
        second = other.shapes.get(value)
        if second is not None and len(second) == len(shape):
            axes = frozenset(a for a, (m, n) in enumerate(zip(shape, second, strict=True)) if m != n)
            if axes:
                facts.dynamic[value] = facts.dynamic.get(value, frozenset()) | axes
    for value, array in facts.numbers.items():
        if value not in other.numbers:
            if complete:
                facts.unstable.add(value)
        elif not np.array_equal(array, other.numbers[value]):
            facts.unstable.add(value)


def constant_tensor(node: onnx_ir.Node) -> onnx_ir.TensorProtocol | None:
    """The tensor of a ``Constant`` node, None where it holds something else (a sparse tensor, say)."""
    if (value := node.attributes.get("value")) is not None:
        tensor: onnx_ir.TensorProtocol = value.value
        return tensor
    return onnx_ir.convenience.get_const_tensor(node.outputs[0])


def is_shape_arithmetic(array: Array) -> bool:
    """Integers, booleans and single numbers; larger arrays of floats or bytes are data that pruning may cut."""
    if array.size > SMALL or array.dtype.kind in "OSU":
        return False
    is_index = array.dtype.kind in "iu" and array.dtype.itemsize > 1  # one byte: a quantised weight
    return is_index or array.dtype.kind == "b" or array.size == 1
