"""Computes single nodes with ONNX's own reference kernels: for shape arithmetic and for folding constants."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray

Array = NDArray[Any]

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)

_RESTATED = {"GridSample": 20, "Hardmax": 13, "LogSoftmax": 13, "Resize": 11, "RoiAlign": 16, "Softmax": 13}
"""Ops whose meaning changed in an opset, while their kernel has the new meaning only."""


def evaluate(
    node: onnx_ir.Node, inputs: Sequence[Array | None], opset: int
) -> tuple[Array | None, ...] | None:
    """Compute the outputs of a node.

    Args:
        node: a node of the default domain.
        inputs: an array for each input of the node, None where it is absent.
        opset: version of the default domain that its graph imports.

    Returns:
        An array for each output (None for an optional one that the kernel does not make); or None where the
        node cannot be computed: it is random, holds graphs, makes something other than tensors, belongs to
        another domain, has no kernel of this opset's meaning, or its kernel refuses the inputs.
    """
    if node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM:
        return None
    kernel = _kernel(node.op_type, opset)
    if kernel is None:
        return None
    try:
        attributes = {name: _attribute_value(a) for name, a in node.attributes.items()}
        with np.errstate(all="ignore"):
            result = kernel.eval(*inputs, n_outputs=len(node.outputs), **attributes)
    except Exception:  # noqa: BLE001 - whatever a reference kernel cannot do is simply not known
        return None
    results = result if isinstance(result, tuple) else (result,)
    if any(isinstance(r, list | dict) for r in results):  # sequences and maps
        return None
    return tuple(None if r is None else np.asarray(r) for r in results)


def _attribute_value(attribute: onnx_ir.Attr) -> Any:
    if attribute.is_ref():
        raise ValueError("the value of this attribute is known where the function is called")
    if attribute.type == onnx_ir.AttributeType.TENSOR:
        return onnx.numpy_helper.from_array(attribute.as_tensor().numpy())
    if attribute.type in (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS):
        raise ValueError("what a nested graph reads is not all among the node's inputs")
    return attribute.value


@cache
def _kernel(op_type: str, version: int) -> Any:
    from onnx.reference.ops._op_list import load_op

    if version < _RESTATED.get(op_type, 0):
        return None
    try:
        return load_op("", op_type, version)
    except (AssertionError, ValueError, RuntimeError, onnx.defs.SchemaError):
        return None
