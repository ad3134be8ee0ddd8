"""Graphs in ONNX text that ONNX Runtime runs, put into a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from generators.builder import BATCH, Builder, Value
from generators.measure import execute, make_model
from onnx import TensorProto, numpy_helper

from prunec.ir.runtime import runtime_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """Nodes and constants, and what they compute.

    Attributes:
        graph: inputs, nodes, outputs.
        arrays: constants by name.
        results: outputs at the usual batch, by name.
    """

    graph: onnx.GraphProto
    arrays: Mapping[str, np.ndarray]
    results: Mapping[str, np.ndarray]


def parse(b: Builder, text: str, arrays: Mapping[str, np.ndarray]) -> Fragment | None:
    """The fragment of a text, or None where ONNX Runtime does not run it as it has to."""
    header = f'<ir_version: 8, opset_import: ["" : {b.opset}, "com.microsoft" : 1]>'
    graph = onnx.parser.parse_model(f"{header} net {text}").graph
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    whole = onnx.GraphProto()
    whole.CopyFrom(graph)
    whole.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    found = []
    for batch in (BATCH, BATCH + 1) if b.dynamic else (BATCH,):
        if (results := _try(make_model(whole, b.opset), batch, dynamic=b.dynamic)) is None:
            return None
        found.append(results)
    return Fragment(graph=graph, arrays=arrays, results=found[0])


def _try(model: onnx.ModelProto, batch: int, *, dynamic: bool) -> Mapping[str, np.ndarray] | None:
    """Outputs at a batch size; None where there are none, or the first has other numbers or another batch."""
    rng, feeds = np.random.default_rng(0), {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        at = batch_axis(tuple(shape))
        shape[at] = batch
        is_float = value.type.tensor_type.elem_type == TensorProto.FLOAT
        feeds[value.name] = rng.standard_normal(shape).astype(np.float32) if is_float else np.ones(shape, int)
        value.type.tensor_type.shape.dim[at].Clear()
    try:
        results = execute(model, feeds)
    except runtime_errors():
        return None
    first = next(iter(results.values()))
    fits = batch in first.shape[:2] or (not dynamic and first.shape[0] > batch)
    good = first.ndim > 1 and first.size and fits and np.isfinite(first).all()
    return results if good and first.dtype == np.float32 else None


def batch_axis(shape: tuple[int, ...]) -> int:
    """0, or 1 where the sequence comes first."""
    return 0 if shape[0] == BATCH else 1


def splice(b: Builder, fragment: Fragment, given: Mapping[str, Value]) -> list[Value]:
    """Put a fragment behind the given values; returns its outputs."""
    names = {name: value.name for name, value in given.items()} | {"": ""}
    read = {name for node in fragment.graph.node for name in node.input}
    names |= {name: b.initializer(np.asarray(a)).name for name, a in fragment.arrays.items() if name in read}
    for node in fragment.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        names |= {name: b.fresh(node.op_type.lower()) for name in node.output if name}
        copy.name = b.fresh("n")
        for mine, theirs in ((copy.input, node.input), (copy.output, node.output)):
            mine[:] = [names[name] for name in theirs]
        b.nodes.append(copy)
        b.consumed.update(copy.input)
    return [
        Value(names[name], array.shape, "", onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
        for name, array in fragment.results.items()
    ]
