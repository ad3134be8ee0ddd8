"""Which axes of a stored weight an op sums over, read off the ops' specifications.

This is the verifier's own table, on purpose: it knows ops by name, and nothing of the rules from which
`sparsify` takes the axes, so that one wrong line cannot mislead both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

Array = NDArray[Any]

ELEMENTWISE = frozenset({"Cast", "Identity", "QuantizeLinear", "DequantizeLinear"})
"""Ops that a weight may pass element by element."""

ZERO_POINTS = {
    "DequantizeLinear": 2,
    "QLinearConv": 5,
    "QLinearMatMul": 5,
    "QGemm": 5,
    "ConvInteger": 3,
    "MatMulInteger": 3,
    "MatMulIntegerToFloat": 5,
    "DynamicQuantizeMatMul": 3,
}
"""Position of the zero point of the weight."""


@dataclass(frozen=True, slots=True)
class WeightAxes:
    """Axes of a weight.

    Attributes:
        outputs: of output channels.
        inputs: that the op sums over with the data's channels, outermost first.
        groups: into how many groups the input axis falls that have nothing to do with each other.
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    groups: int = 1


def axes_at(node: onnx_ir.Node, position: int, rank: int) -> WeightAxes | None:
    """The axes of the weight at an input of an op; None for an op that the table lacks."""
    reader = _READERS.get(node.op_type)
    return None if reader is None else reader(node, position, rank)


def _integer(node: onnx_ir.Node, name: str) -> int:
    return int(node.attributes[name].as_int()) if name in node.attributes else 0


def _conv(node: onnx_ir.Node, position: int, rank: int) -> WeightAxes:
    del node, position, rank
    return WeightAxes((0,), (1,))  # M x C/group x kernel


def _conv_transpose(node: onnx_ir.Node, position: int, rank: int) -> WeightAxes:
    del position, rank
    return WeightAxes((1,), (0,), max(1, _integer(node, "group")))  # C x M/group x kernel


def _gemm(node: onnx_ir.Node, position: int, rank: int) -> WeightAxes:
    del rank
    if position == 0:  # A: M x K
        return WeightAxes((1,), (0,)) if _integer(node, "transA") else WeightAxes((0,), (1,))
    return WeightAxes((0,), (1,)) if _integer(node, "transB") else WeightAxes((1,), (0,))  # B: K x N


def _matmul(node: onnx_ir.Node, position: int, rank: int) -> WeightAxes:
    last, other = rank - 1, rank - 2
    swapped = _integer(node, "transA" if position == 0 else "transB")
    if (position == 0) != bool(swapped):  # A: M x K, or B transposed: N x K
        return WeightAxes((other,) if rank > 1 else (), (last,))
    return WeightAxes((last,), (other,)) if rank > 1 else WeightAxes((), (last,))


def _einsum(node: onnx_ir.Node, position: int, rank: int) -> WeightAxes | None:
    del rank
    equation = node.attributes["equation"].as_string().replace(" ", "")
    left, arrow, right = equation.partition("->")
    operands = left.split(",")
    if not arrow or "." in operands[position] or len(operands) != 2:
        return None
    data = operands[1 - position]
    letters = list(enumerate(operands[position]))
    return WeightAxes(
        tuple(a for a, letter in letters if letter in right and letter not in data),
        tuple(a for a, letter in letters if letter in data and letter not in right),
    )


_PRODUCTS = "MatMul FusedMatMul TransposeMatMul QLinearMatMul MatMulInteger MatMulIntegerToFloat"

_READERS: dict[str, Callable[[onnx_ir.Node, int, int], WeightAxes | None]] = {
    **dict.fromkeys(("Conv", "FusedConv", "QLinearConv", "ConvInteger", "DeformConv"), _conv),
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm"), _gemm),
    **dict.fromkeys((*_PRODUCTS.split(), "DynamicQuantizeMatMul", "Attention"), _matmul),
    "Einsum": _einsum,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One contraction that reads a stored weight.

    Attributes:
        node: the contraction.
        axes: of the weight as it is stored; None where they are not known.
        zero: what is zero to this reader, broadcasting against the stored weight.
    """

    node: onnx_ir.Node
    axes: WeightAxes | None
    zero: Array


def readings(value: onnx_ir.Value, array: Array) -> Iterator[Reading]:
    """Every contraction that a stored weight reaches, past ops that move or convert its elements."""
    pending: list[tuple[onnx_ir.Value, list[int], Array]] = [(value, list(range(array.ndim)), np.zeros(()))]
    is_integer = array.dtype.kind in "iu" or "int" in array.dtype.name
    for current, places, zero in pending:  # grows while it is read
        for node, position in current.uses():
            point = _zero_point(node, places, array.ndim) if is_integer else None
            here = zero if point is None else point
            if node.op_type == "Transpose" and position == 0:
                order = [int(i) for i in node.attributes["perm"].as_ints()] if node.attributes else None
                order = order or list(range(array.ndim))[::-1]
                pending.append((node.outputs[0], [places[i] for i in order], here))
            elif node.op_type in ELEMENTWISE and position == 0:
                pending.append((node.outputs[0], places, here))
            else:
                yield Reading(node, _in_store(axes_at(node, position, array.ndim), places), here)


def _in_store(axes: WeightAxes | None, places: list[int]) -> WeightAxes | None:
    """Axes of what a contraction reads as axes of what is stored."""
    if axes is None:
        return None
    outputs, inputs = (tuple(places[a] for a in side) for side in (axes.outputs, axes.inputs))
    return WeightAxes(outputs, inputs, axes.groups)


def _zero_point(node: onnx_ir.Node, places: list[int], rank: int) -> Array | None:
    """The zero point that a node takes for the weight, spread over the stored axes; None where it has none."""
    position = ZERO_POINTS.get(node.op_type)
    if position is None or position >= len(node.inputs):
        return None
    value = node.inputs[position]
    tensor = None if value is None else onnx_ir.convenience.get_const_tensor(value)
    if tensor is None:
        return None
    point = tensor.numpy()
    if point.size == 1:
        return point.reshape(())
    if point.ndim > 1:
        block = _integer(node, "block_size")
        axis = int(node.attributes["axis"].as_int()) if "axis" in node.attributes else 1
        return np.repeat(point, block, axis).transpose(np.argsort(places)) if block else None
    if node.op_type == "DequantizeLinear":
        axis = (int(node.attributes["axis"].as_int()) if "axis" in node.attributes else 1) % rank
    else:
        axis = 0 if "Conv" in node.op_type or _integer(node, "transB") else rank - 1
    return point.reshape([-1 if a == places[axis] else 1 for a in range(rank)])
