"""Runs one node by itself, to see what shapes it makes: for ops that have no shape inference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.runtime import runtime_errors, session_options

Array = NDArray[Any]

_IR_VERSION = 8


def run_alone(
    node: onnx_ir.Node, inputs: Mapping[str, Array], opsets: Iterable[tuple[str, int]]
) -> dict[str, Array]:
    """Compute the outputs of a node in ONNX Runtime.

    Args:
        node: a node without nested graphs.
        inputs: an array for each of its inputs, by name.
        opsets: domains and versions that its graph imports.

    Returns:
        An array for each output, by name; nothing where ONNX Runtime does not run the node.
    """
    import onnxruntime as ort

    failures: tuple[type[Exception], ...] = (*runtime_errors(), ValueError, KeyError, TypeError)
    names = [output.name for output in node.outputs if output.name]
    try:
        given = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
        ]
        graph = onnx.helper.make_graph(
            [onnx_ir.serde.serialize_node(node)],
            "alone",
            given,
            [onnx.ValueInfoProto(name=name) for name in names],
        )
        imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets]
        proto = onnx.helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
        options = session_options(optimize=False, threads=1)
        session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        results = session.run(names, dict(inputs))
    except failures:
        return {}
    return {name: r for name, r in zip(names, results, strict=True) if isinstance(r, np.ndarray)}
