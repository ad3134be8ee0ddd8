"""ONNX's own shape inference of single nodes, with what is known of their operands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir

from prunec.ir.module import opset_of
from prunec.ir.scopes import bodies

if TYPE_CHECKING:
    from prunec.ir.facts import Facts

INFERENCE_ERRORS = (
    RuntimeError,
    ValueError,
    KeyError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
)
"""What inference raises for a node that it cannot make anything of."""

Opsets = tuple[tuple[str, int], ...]


def infer_node(
    node: onnx_ir.Node, schema: Any, facts: Facts, opsets: Opsets, *, any_size: bool = False
) -> Mapping[str, onnx.TypeProto]:
    """Types and shapes of a node's outputs.

    Args:
        node: a node whose operands have known element types.
        schema: the schema of its op.
        facts: what is known of its operands.
        opsets: domains and versions that its graph imports.
        any_size: leave open what follows the sizes of the graph's inputs.

    Raises:
        INFERENCE_ERRORS: the operands do not fit the op, or inference has a limit.
    """
    inputs = [v for v in node.inputs if v is not None]
    types = {
        v.name or "": onnx.helper.make_tensor_type_proto(facts.types[v], _sizes(v, facts, any_size))
        for v in inputs
    }
    data = {
        v.name or "": onnx.numpy_helper.from_array(facts.numbers[v])
        for v in inputs
        if _is_data(v, facts) and not (any_size and v in facts.unstable)
    }
    proto = onnx_ir.serde.serialize_node(node)
    found: Mapping[str, onnx.TypeProto] = onnx.shape_inference.infer_node_outputs(
        schema, proto, types, data, opset_imports=_opset_protos(opsets)
    )
    return found


def find_contradiction(model: onnx_ir.Model, facts: Facts) -> tuple[onnx_ir.Node, str] | None:
    """The first node of the main graph that cannot take operands of the sizes that it gets, whatever the inputs
    of the graph are, and why.
    """
    opsets = tuple(model.graph.opset_imports.items())
    for node in model.graph:
        if all(o in facts.shapes for o in node.outputs if o.name):
            continue
        inputs = [v for v in node.inputs if v is not None]
        schema = find_schema(node.op_type, node.domain, opset_of(model.graph, node.domain))
        schema = None if bodies(node) else schema  # alone, a node lacks what its bodies capture
        if schema is None or any(v not in facts.shapes or v not in facts.types for v in inputs):
            continue
        try:
            infer_node(node, schema, facts, opsets, any_size=True)
        except INFERENCE_ERRORS as error:
            shapes = " and ".join(str(_sizes(v, facts, True)).replace("None", "?") for v in inputs)
            return node, f"`{node.op_type}` cannot take operands of shapes {shapes}: {_words(error)}"
    return None


def find_misdeclared(graph: onnx_ir.Graph, facts: Facts) -> Iterator[tuple[onnx_ir.Value, str]]:
    """The graph outputs that are declared with another rank or other fixed sizes than they have, and a message."""
    for value in graph.outputs:
        found = _sizes(value, facts, True)
        if value.shape is None or found is None or value.producer() is None:
            continue
        declared = [size if isinstance(size, int) else None for size in value.shape]
        fixed = zip(declared, found, strict=False)
        if len(declared) != len(found) or any(None not in pair and pair[0] != pair[1] for pair in fixed):
            shapes = [str(sizes).replace("None", "?") for sizes in (declared, found)]
            yield value, f"graph output `{value.name}` is declared {shapes[0]} and computed as {shapes[1]}"


def _sizes(value: onnx_ir.Value, facts: Facts, any_size: bool) -> list[int | None] | None:
    shape = facts.shape(value)
    open_axes = facts.dynamic.get(value, frozenset()) if any_size else frozenset()
    return None if shape is None else [None if a in open_axes else size for a, size in enumerate(shape)]


def _words(error: Exception) -> str:
    """What inference says, without its prefixes."""
    text = str(error).strip().splitlines()[-1].rpartition("]")[2].strip(" .\"'")
    return text[:1].lower() + text[1:] or "inference gives no reason"


def _is_data(value: onnx_ir.Value, facts: Facts) -> bool:
    array = facts.numbers.get(value)
    return array is not None and array.size <= 64 and array.dtype.kind in "iuf" and array.dtype.itemsize > 1


@cache
def find_schema(op_type: str, domain: str, version: int) -> Any:
    """The schema of an op, or None for one that ONNX does not define."""
    try:
        return onnx.defs.get_schema(op_type, version, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


@lru_cache(maxsize=8)
def _opset_protos(opsets: Opsets) -> list[onnx.OperatorSetIdProto]:
    return [onnx.helper.make_operatorsetid(domain, version) for domain, version in opsets]
