"""The masked model, made from a plan and a model file alone: numpy and protobuf, nothing of prunec.

It is simpler than the verifier's reference on purpose, and says less: the slices that the plan names are set to
zero where they lie, for integers to their zero point. That is the whole truth only where no op takes a statistic
over channels (the plan says ``masked`` then) and no zero turns into something that is not a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from prunec.passes.plan import Plan

Array = np.ndarray[Any, Any]

LAST = -1
ATTRIBUTE = None
ZERO_POINTS: Mapping[str, Mapping[int, tuple[int, int | None]]] = {
    "DequantizeLinear": {0: (2, ATTRIBUTE)},
    "QLinearConv": {3: (5, 0)},
    "QLinearMatMul": {3: (5, LAST)},
    "ConvInteger": {1: (3, 0)},
    "MatMulInteger": {1: (3, LAST)},
    "DynamicQuantizeMatMul": {1: (3, LAST)},
    "MatMulIntegerToFloat": {1: (5, LAST)},
    "QGemm": {3: (5, 0)},
    "QAttention": {1: (7, LAST)},
    "QLinearAdd": {0: (2, 0), 3: (5, 0)},
    "QLinearMul": {0: (2, 0), 3: (5, 0)},
    "QLinearWhere": {1: (3, 0), 4: (6, 0)},
    "QLinearConcat": {2: (4, 0), 5: (7, 0), 8: (10, 0)},
}
"""Per op, for its inputs of integers, the input that holds the zero point and the axis that it belongs to."""

DIVISORS = {"Div": 1, "Mod": 1, "QuantizeLinear": 1}
"""Inputs that must not become zero; what they divide is zero already."""


def masked_model(model: onnx.ModelProto, plan: Plan) -> onnx.ModelProto | None:
    """A copy of the model with the plan's slices set to zero; None where statistics need more than that."""
    groups = [group for step in plan.steps for group in step.groups]
    if any(group.equivalence != "masked" for group in groups):
        return None
    masked = onnx.ModelProto()
    masked.CopyFrom(model)
    holders = dict(_holders(masked.graph))
    whole = {name: numpy_helper.to_array(tensor) for name, tensor in holders.items()}
    arrays = {name: array.copy() for name, array in whole.items()}
    copies: dict[str, str] = {}
    for cut in (tensor for group in groups for tensor in group.tensors):
        for use in cut.uses or ("",):
            name = _copy_for(use, cut.name, masked.graph, (whole, arrays), copies) if use else cut.name
            if name not in arrays or _divides(masked.graph, name):
                continue
            removed: Any = (*[slice(None)] * cut.axis, list(cut.removed))
            arrays[name][removed] = _nothing(masked.graph, name, whole)[removed]
    for name, tensor in holders.items():
        tensor.CopyFrom(numpy_helper.from_array(arrays[name], tensor.name))
    masked.graph.initializer.extend(numpy_helper.from_array(arrays[name], name) for name in copies.values())
    return masked


def _holders(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Constants by name: initializers, and values of Constant nodes, also of nested graphs."""
    for inner in _graphs(graph):
        yield from ((tensor.name, tensor) for tensor in inner.initializer)
    for node in _nodes(graph):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            yield node.output[0], node.attribute[0].t


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    return (node for inner in _graphs(graph) for node in inner.node)


def _copy_for(
    use: str, name: str, graph: onnx.GraphProto, tables: Iterable[dict[str, Array]], copies: dict[str, str]
) -> str:
    """A copy of a shared tensor that only ``OUTPUT:INPUT_INDEX`` reads."""
    if use not in copies:
        output, index = use.rsplit(":", 1)
        node = next(node for node in _nodes(graph) if node.output and node.output[0] == output)
        copies[use] = f"{name} of {use}"
        node.input[int(index)] = copies[use]
        for arrays in tables:
            arrays[copies[use]] = arrays[name].copy()
    return copies[use]


def _readers(graph: onnx.GraphProto, name: str) -> Iterator[tuple[onnx.NodeProto, int]]:
    return ((node, i) for node in _nodes(graph) for i, read in enumerate(node.input) if read == name)


def _divides(graph: onnx.GraphProto, name: str) -> bool:
    return any(DIVISORS.get(node.op_type) == i for node, i in _readers(graph, name))


def _nothing(graph: onnx.GraphProto, name: str, arrays: Mapping[str, Array]) -> Array:
    """What stands for zero in every element of a tensor: the zero point of integers, where they have one."""
    array = arrays[name]
    for node, i in _readers(graph, name):
        at, axis = ZERO_POINTS.get(node.op_type, {}).get(i, (len(node.input), 0))
        point = arrays.get(node.input[at]) if at < len(node.input) else None
        if point is not None and point.size:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1) if axis is ATTRIBUTE else axis
            return _spread(point, array.shape, axis)
    return np.zeros_like(array)


def _spread(point: Array, shape: tuple[int, ...], axis: int) -> Array:
    """A zero point for every element: one for all, one a slot of an axis, or one a block."""
    if point.size == 1:
        return np.full(shape, point.reshape(()))
    if point.ndim == 1:
        point = point.reshape([-1 if a == axis % len(shape) else 1 for a in range(len(shape))])
        return np.broadcast_to(point, shape)
    for a, (size, blocks) in enumerate(zip(shape, point.shape, strict=True)):
        point = point.repeat(-(-size // blocks), a).take(range(size), a)
    return point
