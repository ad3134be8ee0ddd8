"""What tells one model from another, whatever file it is in: a hash of all that it computes with.

Ops with their domains, inputs and attributes, the graphs inside them, functions, versions of operator sets, types and
shapes of inputs and outputs, and the bytes of every constant, also of those that lie in a file beside the model. Names
of values are part of it; what a node is called, documentation and metadata are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import onnx_ir

Parts = Iterator[str | bytes]


def fingerprint(model: onnx_ir.Model, *, weights: bool = True) -> str:
    """The hash, as 64 hexadecimal digits.

    Args:
        model: the model.
        weights: count the values of floating-point constants, not only their types and shapes.
    """
    digest = hashlib.sha256()
    for part in _model(model, weights):
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))  # so that no part runs into the next
        digest.update(data)
    return digest.hexdigest()


def _model(model: onnx_ir.Model, weights: bool) -> Parts:
    yield repr(sorted(model.graph.opset_imports.items()))
    yield from _graph(model.graph, weights)
    for key, function in model.functions.items():
        yield repr((key, sorted(function.opset_imports.items())))
        yield from _attributes(function.attributes.values(), weights)
        yield from _nodes(function, weights)


def _graph(graph: onnx_ir.Graph, weights: bool) -> Parts:
    for value in graph.initializers.values():
        yield value.name or ""
        yield from _tensor(value.const_value, weights)
    yield from _nodes(graph, weights)


def _nodes(graph: onnx_ir.Graph | onnx_ir.Function, weights: bool) -> Parts:
    yield repr([_value(value) for value in graph.inputs])
    for node in graph:
        inputs = [None if value is None else value.name for value in node.inputs]
        yield repr((node.op_identifier(), inputs, [value.name for value in node.outputs]))
        yield from _attributes(node.attributes.values(), weights)
    yield repr([_value(value) for value in graph.outputs])


def _value(value: onnx_ir.Value) -> tuple[str | None, str, str]:
    return value.name, str(value.type), str(value.shape)


def _attributes(attributes: Iterable[onnx_ir.Attr], weights: bool) -> Parts:
    for attribute in sorted(attributes, key=lambda one: one.name):
        yield repr((attribute.name, str(attribute.type), attribute.ref_attr_name))
        if attribute.is_ref():
            continue
        match attribute.type:
            case onnx_ir.AttributeType.GRAPH:
                yield from _graph(attribute.as_graph(), weights)
            case onnx_ir.AttributeType.GRAPHS:
                for graph in attribute.as_graphs():
                    yield from _graph(graph, weights)
            case onnx_ir.AttributeType.TENSOR:
                yield from _tensor(attribute.as_tensor(), weights)
            case onnx_ir.AttributeType.TENSORS:
                for tensor in attribute.as_tensors():
                    yield from _tensor(tensor, weights)
            case _:
                yield repr(attribute.value)


def _tensor(tensor: onnx_ir.TensorProtocol | None, weights: bool) -> Parts:
    if tensor is None:
        return
    yield repr((str(tensor.dtype), str(tensor.shape)))
    if tensor.dtype == onnx_ir.DataType.STRING:
        yield repr(tensor.numpy().tolist())
    elif weights or not tensor.dtype.is_floating_point():
        yield tensor.tobytes()
