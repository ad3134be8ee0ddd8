"""Differences that can be read off two graphs: nodes, attributes, types, weights and their sparsity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diff.align import Alignment
from prunec.ir.notation import attribute_text, element_name
from prunec.ir.scopes import bodies
from prunec.ir.sparsity import zero_share

Kind = Literal["node", "attribute", "type", "weight", "opset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference.

    Attributes:
        kind: what it is about.
        name: of the node or value, as model A calls it (as B does where A has none).
        a: what A has there; empty where A has nothing.
        b: what B has there; empty where B has nothing.
        error: of weights of one shape: the largest absolute difference over the largest magnitude in A.
    """

    kind: Kind
    name: str
    a: str = ""
    b: str = ""
    error: float | None = None


def differences(a: onnx_ir.Model, b: onnx_ir.Model, alignment: Alignment) -> Iterator[Difference]:
    """All differences of two models, in the order of A; what only B has comes last.

    Args:
        a: model A.
        b: model B.
        alignment: of their main graphs.
    """
    yield from _opsets(a.graph, b.graph)
    yield from _graphs(a.graph, alignment, set())
    for node in alignment.only_b:
        yield Difference(kind="node", name=_label(node), b=node.op_type)


def _graphs(a: onnx_ir.Graph, alignment: Alignment, seen: set[onnx_ir.Value]) -> Iterator[Difference]:
    """What is different in a graph of A and in the bodies in it; those of a node that only A has go with it."""
    for value in (*a.inputs, *a.outputs):
        yield from _types(value, alignment.values.get(value), seen)
    for node in a:
        other = alignment.nodes.get(node)
        if other is None:
            yield Difference(kind="node", name=_label(node), a=node.op_type)
            continue
        yield from _nodes(node, other)
        for operand in (*node.inputs, *node.outputs):
            if operand is not None:
                yield from _types(operand, alignment.values.get(operand), seen)
        for body in bodies(node):
            yield from _graphs(body, alignment, seen)


def _opsets(a: onnx_ir.Graph, b: onnx_ir.Graph) -> Iterator[Difference]:
    for domain in sorted(a.opset_imports.keys() | b.opset_imports.keys()):
        old, new = a.opset_imports.get(domain), b.opset_imports.get(domain)
        if old != new:
            name = domain or "ai.onnx"
            yield Difference(kind="opset", name=name, a=str(old or ""), b=str(new or ""))


def _nodes(node: onnx_ir.Node, other: onnx_ir.Node) -> Iterator[Difference]:
    """Attributes, and which inputs are given."""
    for name in sorted(node.attributes.keys() | other.attributes.keys()):
        old, new = (n.attributes.get(name) for n in (node, other))
        texts = ["" if attribute is None else attribute_text(attribute) for attribute in (old, new)]
        if texts[0] != texts[1]:
            yield Difference(kind="attribute", name=f"{_label(node)}.{name}", a=texts[0], b=texts[1])
    counts = [sum(value is not None for value in n.inputs) for n in (node, other)]
    if counts[0] != counts[1]:
        yield Difference(kind="node", name=_label(node), a=f"{counts[0]} inputs", b=f"{counts[1]} inputs")


def _types(
    value: onnx_ir.Value, other: onnx_ir.Value | None, seen: set[onnx_ir.Value]
) -> Iterator[Difference]:
    if other is None or value in seen:
        return
    seen.add(value)
    if value.const_value is not None and other.const_value is not None:
        yield from _weights(value.name or "", value.const_value, other.const_value)
        return
    old, new = _type_text(value), _type_text(other)
    if old and new and old != new:
        yield Difference(kind="type", name=value.name or "", a=old, b=new)


def _weights(name: str, a: onnx_ir.TensorProtocol, b: onnx_ir.TensorProtocol) -> Iterator[Difference]:
    old, new = (f"{element_name(t.dtype)}[{', '.join(map(str, t.shape))}]" for t in (a, b))
    if old != new:
        yield Difference(kind="weight", name=name, a=old, b=new)
        return
    first, second = a.numpy(), b.numpy()
    if np.array_equal(first, second) or first.dtype.kind in "OSU":
        return
    zeros = [f"{zero_share(array):.0%} zeros" for array in (first, second)]
    texts = [f"{old}, {z}" if zeros[0] != zeros[1] else old for z in zeros]
    yield Difference(kind="weight", name=name, a=texts[0], b=texts[1], error=_distance(first, second))


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    wide = [array.astype(np.float64) for array in (a, b)]
    largest = float(np.abs(wide[0]).max(initial=0.0))
    return float(np.abs(wide[0] - wide[1]).max(initial=0.0)) / (largest or 1.0)


def _type_text(value: onnx_ir.Value) -> str:
    if value.dtype is None or value.shape is None:
        return ""
    sizes = ", ".join(str(dim) if isinstance(dim, int) else dim.value or "?" for dim in value.shape)
    return f"{element_name(value.dtype)}[{sizes}]"


def _label(node: onnx_ir.Node) -> str:
    return node.name or (node.outputs[0].name if node.outputs else None) or node.op_type
