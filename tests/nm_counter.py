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


def summed_runs(node: onnx_ir.Node) -> Iterator[list[bool]]:
    """For every output channel and kernel position of a contraction which of its input channels' weights are
    not zero, in order.
    """
    flags = {name: attribute.value for name, attribute in node.attributes.items()}
    a, b = effective(node.inputs[0]), effective(node.inputs[1] if len(node.inputs) > 1 else None)
    kind = node.op_type
    if kind in ("QLinearConv", "QLinearMatMul"):
        weight, point = effective(node.inputs[3]), effective(node.inputs[5])
        kind, b = kind.removeprefix("QLinear"), _centred(weight, point, kind)
    elif kind in ("ConvInteger", "MatMulInteger"):
        kind, b = kind.removesuffix("Integer"), _centred(b, effective(_operand(node, 3)), kind)
    elif kind in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat"):
        point = _operand(node, 3 if kind == "DynamicQuantizeMatMul" else 5)
        kind, b = "MatMul", _centred(b, effective(point), kind)
    if kind in ("Conv", "FusedConv") and b is not None:
        for out, *position in np.ndindex(b.shape[0], *b.shape[2:]):
            yield [bool(b[(out, channel, *position)] != 0) for channel in range(b.shape[1])]
    elif kind == "ConvTranspose" and b is not None:
        size = b.shape[0] // flags.get("group", 1)
        for start in range(0, b.shape[0], size):
            for out, *position in np.ndindex(b.shape[1:]):
                yield [bool(b[(start + channel, out, *position)] != 0) for channel in range(size)]
    elif kind in ("Gemm", "FusedGemm", "MatMul", "FusedMatMul"):
        if b is not None and b.ndim > 1:
            yield from _rows(b if flags.get("transB") else np.swapaxes(b, -1, -2))
        elif a is not None and a.ndim > 1:
            yield from _rows(np.swapaxes(a, -1, -2) if flags.get("transA") else a)


def _operand(node: onnx_ir.Node, position: int) -> onnx_ir.Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _centred(weight: Array | None, point: Array | None, kind: str) -> Array | None:
    if weight is None:
        return None
    point = np.zeros(1) if point is None else np.atleast_1d(point)
    shape = [-1] + [1] * (weight.ndim - 1) if "Conv" in kind else [-1]
    return np.asarray(weight.astype(int) - point.astype(int).reshape(shape))


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
