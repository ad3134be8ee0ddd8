"""Which numbers of shape arithmetic follow the sizes of the graph's inputs, entry by entry.

Walks at a few sizes cannot tell: ``Greater(T, 1)``, ``Min(H, 50)`` and ``Sub(T, S)`` are the same at all of
them, and yet no constants. Here every entry that is computed from a dynamic size counts as dynamic, whatever
it happens to be.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.bodies import taken_branch
from prunec.ir.evaluate import evaluate
from prunec.ir.facts import Facts
from prunec.ir.module import opset_of
from prunec.ir.ops.elementwise import Elementwise
from prunec.ir.registry import find_op
from prunec.ir.scopes import bodies, walk

Mask = NDArray[np.bool_]

_MOVES = frozenset(
    {"Expand", "Flatten", "Gather", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Ops that hand on entries of their first input; ``Concat`` hands on those of all."""

_COUNTING = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})


def counts(graph: onnx_ir.Graph) -> bool:
    """Whether some op of a graph makes results that are as long as the values of its inputs say."""
    return any(node.op_type in _COUNTING for node in walk(graph))


def behind_counts(graph: onnx_ir.Graph) -> set[str]:
    """Names of the values whose sizes may follow a count."""
    found: set[onnx_ir.Value | None] = set()
    for node in walk(graph, inside_first=True):
        if node.op_type in _COUNTING or not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return {value.name for value in found if value is not None and value.name}


def mark_dependent(graph: onnx_ir.Graph, facts: Facts) -> None:
    """Add to the unstable numbers of ``facts`` all those that depend on a dynamic size."""
    masks = facts.varying
    for node in walk(graph, inside_first=True):
        for value, mask in zip(node.outputs, _masks(node, graph, facts, masks), strict=False):
            if value in facts.derived and mask.any():
                masks[value] = mask
                facts.unstable.add(value)


def _masks(
    node: onnx_ir.Node, graph: onnx_ir.Graph, facts: Facts, masks: dict[onnx_ir.Value, Mask]
) -> list[Mask]:
    """Per output which of its entries follow the sizes of the inputs; nothing for a node that has none."""
    if not any(value in facts.derived for value in node.outputs):
        return []
    if bodies(node):
        return _of_branch(node, facts, masks)
    if node.op_type in ("Shape", "Size"):
        return [_of_shape(node, facts)]
    if not any(value in masks or value in facts.unstable for value in node.inputs):
        return []
    inputs = [
        None if v is None else masks.get(v, np.full(facts.shapes[v], v in facts.unstable))
        for v in node.inputs
    ]
    moved = _moved(node, graph, facts, inputs)
    if moved is not None:
        return [moved]
    if isinstance(find_op(node), Elementwise):
        return [np.logical_or.reduce(np.broadcast_arrays(*(m for m in inputs if m is not None)))]
    return [np.ones(facts.shapes[value], bool) for value in node.outputs if value in facts.shapes]


def _of_branch(node: onnx_ir.Node, facts: Facts, masks: dict[onnx_ir.Value, Mask]) -> list[Mask]:
    """What an ``If`` hands on from the branch that it takes; all of it, where sizes decide which one."""
    taken = taken_branch(node, facts)
    made = node.outputs if taken is None else taken.outputs
    decided = node.inputs[0] not in masks and node.inputs[0] not in facts.unstable
    shapes = [facts.shapes.get(inner, ()) for inner in made]
    if not decided:
        return [np.ones(shape, bool) for shape in shapes]
    return [
        masks.get(inner, np.full(shape, inner in facts.unstable))
        for inner, shape in zip(made, shapes, strict=True)
    ]


def _of_shape(node: onnx_ir.Node, facts: Facts) -> Mask:
    source = node.inputs[0]
    assert source is not None
    axes = np.isin(np.arange(len(facts.shapes[source])), list(facts.dynamic.get(source, ())))
    if node.op_type == "Size":
        return np.array(axes.any())
    start, end = (
        node.attributes.get_int(name, default) for name, default in (("start", 0), ("end", len(axes)))
    )
    return axes[start:end]


def _moved(node: onnx_ir.Node, graph: onnx_ir.Graph, facts: Facts, inputs: list[Mask | None]) -> Mask | None:
    """What an op that only moves entries makes of the masks of its data; None for another op."""
    data = range(len(inputs)) if node.op_type == "Concat" else range(node.op_type in _MOVES)
    if not data or any(m is not None and m.any() for i, m in enumerate(inputs) if i not in data):
        return None
    operands: list[NDArray[Any] | None] = [
        None if v is None or m is None else m if i in data else facts.numbers[v]
        for i, (v, m) in enumerate(zip(node.inputs, inputs, strict=True))
    ]
    results = evaluate(node, operands, opset_of(graph, node.domain))
    return None if not results or results[0] is None else results[0].astype(bool)
