"""What ONNX Runtime says of nodes that no shape inference knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from generators.builder import Value

Types = dict[str, tuple[tuple[int, ...], int]]
"""Shape and element type by the name of a value."""

DOMAINS = {"com.microsoft": 1}
"""Versions of the other domains that generated models import."""


def measure(
    node: onnx.NodeProto, inputs: Iterable[Value], known: Mapping[str, TensorProto], opset: int
) -> Types:
    """Run one node on zeros, or on what is known of its operands, and look at what comes out."""
    values = list(inputs)
    infos = [helper.make_tensor_value_info(v.name, v.dtype, v.shape) for v in values if v.name not in known]
    constants = [copy_of(known[v.name], v.name) for v in values if v.name in known]
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in node.output]
    model = make_model(helper.make_graph([node], "one", infos, outputs, constants), opset)
    feeds = {i.name: np.zeros([d.dim_value for d in i.type.tensor_type.shape.dim], _dtype(i)) for i in infos}
    return {
        name: (array.shape, helper.np_dtype_to_tensor_dtype(array.dtype))
        for name, array in execute(model, feeds).items()
    }


def make_model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    """A model of this graph that imports the domains that its nodes need."""
    used = sorted({domain for domain in _domains(graph) if domain})
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, DOMAINS[name]) for name in used)]
    version = helper.find_min_ir_version_for(imports[:1])
    return helper.make_model(
        graph, opset_imports=imports, ir_version=max(version, 4), producer_name="generators"
    )


def _domains(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield node.domain
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _domains(body)


def execute(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs by name, without graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def copy_of(tensor: TensorProto, name: str) -> TensorProto:
    """The tensor under another name."""
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _dtype(info: onnx.ValueInfoProto) -> Any:
    return helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
