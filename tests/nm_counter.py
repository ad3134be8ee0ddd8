"""A second opinion on N:M: plain loops over small weights, written from the definition that TensorRT gives.

For each output channel and each kernel position, of every four consecutive input channels at least two
weights are zero; for a matrix product, of every four consecutive elements along the summed axis.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from prunec.ir.module import Module

Array = NDArray[np.generic]


def effective(value: onnx_ir.Value | None, opset: int = 21) -> Array | None:
    """The numbers that an op reads from a constant input, past Transpose, Cast and the like; else None."""
    if value is None:
        return None
    tensor = onnx_ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy()
    source = value.producer()
    if source is None or source.op_type not in (
        "Transpose",
        "Cast",
        "Identity",
        "DequantizeLinear",
        "QuantizeLinear",
    ):
        return None
    arrays = [effective(v, opset) for v in source.inputs if v is not None]
    if any(array is None for array in arrays):
        return None
    proto = onnx_ir.serde.serialize_node(source)
    names = [name for name in proto.input if name]
    inputs = [onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
              for n, a in zip(names, arrays, strict=True) if a is not None]  # fmt: skip
    output = onnx.helper.make_tensor_value_info(proto.output[0], 0, None)
    graph = onnx.helper.make_graph([proto], "g", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    result: Array = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))[0]
    return result


_QUANTISED = {
    "QLinearConv": ("Conv", 3, 5),
    "QLinearMatMul": ("MatMul", 3, 5),
    "QGemm": ("Gemm", 3, 5),
    "ConvInteger": ("Conv", 1, 3),
    "MatMulInteger": ("MatMul", 1, 3),
    "MatMulIntegerToFloat": ("MatMul", 1, 5),
    "DynamicQuantizeMatMul": ("MatMul", 1, 3),
    "QAttention": ("MatMul", 1, 7),
}
"""What each is without quantisation, and where its weight and the weight's zero point are."""


def summed_runs(node: onnx_ir.Node) -> Iterator[list[bool]]:
    """For every output channel and kernel position of a contraction which of its input channels' weights are
    not zero, in order.
    """
    flags = {name: attribute.value for name, attribute in node.attributes.items()}
    a, b = effective(node.inputs[0]), effective(node.inputs[1] if len(node.inputs) > 1 else None)
    kind = node.op_type
    if kind in _QUANTISED:
        kind, at, point = _QUANTISED[kind]
        zero = effective(node.inputs[point] if len(node.inputs) > point else None)
        b = _centred(effective(node.inputs[at]), zero, first=kind == "Conv" or bool(flags.get("transB")))
    if kind == "Einsum":
        yield from _contracted(flags["equation"], a, b)
    if kind in ("Conv", "FusedConv", "DeformConv") and b is not None:
        for out, *position in np.ndindex(b.shape[0], *b.shape[2:]):
            yield [bool(b[(out, channel, *position)] != 0) for channel in range(b.shape[1])]
    elif kind == "ConvTranspose" and b is not None:
        size = b.shape[0] // flags.get("group", 1)
        for start in range(0, b.shape[0], size):
            for out, *position in np.ndindex(b.shape[1:]):
                yield [bool(b[(start + channel, out, *position)] != 0) for channel in range(size)]
    elif kind in ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Attention"):
        if b is not None and b.ndim > 1:
            yield from _rows(b if flags.get("transB") else np.swapaxes(b, -1, -2))
        elif a is not None and a.ndim > 1:
            yield from _rows(np.swapaxes(a, -1, -2) if flags.get("transA") else a)


def _centred(weight: Array | None, point: Array | None, *, first: bool) -> Array | None:
    """A weight without its zero point, which is one number or one for each output, on the first or last axis."""
    if weight is None:
        return None
    point = np.zeros(1) if point is None else np.atleast_1d(point)
    shape = [-1] + [1] * (weight.ndim - 1) if first else [-1]
    return np.asarray(weight.astype(int) - point.astype(int).reshape(shape))


def _contracted(equation: str, a: Array | None, b: Array | None) -> Iterator[list[bool]]:
    """Rows along the letters that both operands have and the result has not, of whichever is a constant."""
    left, _, right = equation.replace(" ", "").partition("->")
    letters = left.split(",")
    for weight, mine, other in ((a, letters[0], letters[-1]), (b, letters[-1], letters[0])):
        summed = [letter for letter in mine if letter in other and letter not in right]
        if weight is not None and len(summed) == 1:
            yield from _rows(np.moveaxis(weight, mine.index(summed[0]), -1))


def _rows(matrices: Array) -> Iterator[list[bool]]:
    for row in matrices.reshape(-1, matrices.shape[-1]):
        yield [bool(element != 0) for element in row]


def crowded(runs: Iterator[list[bool]], n: int, m: int) -> int:
    """How many groups of ``m`` consecutive elements hold more than ``n`` that are not zero."""
    count = 0
    for run in runs:
        assert len(run) % m == 0
        for start in range(0, len(run), m):
            count += sum(run[start : start + m]) > n
    return count


def readers_of(module: Module, weight: str) -> list[onnx_ir.Node]:
    """The nodes that read a weight past ops that move or convert its elements."""
    values = [v for v in module.graph.initializers.values() if v.name == weight]
    values += [o for node in module.graph for o in node.outputs if o.name == weight]
    readers = []
    for value in values:  # grows while it is read
        for node, _ in value.uses():
            if node.op_type in ("Transpose", "Cast", "Identity", "DequantizeLinear", "QuantizeLinear"):
                values.append(node.outputs[0])
            else:
                readers.append(node)
    return readers
