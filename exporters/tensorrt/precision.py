"""The number type of a strongly typed network, converted in ONNX before TensorRT sees it.

TensorRT 11 and TensorRT-RTX compute in the types that the graph states; sparse tensor cores need float16, bfloat16 or
int8. float16 is ONNX Runtime's own converter (values that float16 cannot hold are clipped, some ops stay in float32);
bfloat16 is the same graph with that type in its place and weights rounded from the originals.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from prunec.ir.diagnostics import UserError
from prunec.ir.proto import graphs_of
from prunec.ir.structure import subgraphs_of

Precision = Literal["keep", "fp16", "bf16"]

OLDEST_BFLOAT16_OPSET = 13


def convert(proto: onnx.ModelProto, precision: Precision) -> tuple[onnx.ModelProto, str | None]:
    """A model with its float32 values in another type; inputs and outputs keep theirs.

    Returns:
        The model and what was done; the model itself and None where there is nothing to do.

    Raises:
        UserError: the opset has no bfloat16.
    """
    weights = {t.name: t for t in proto.graph.initializer if t.data_type == TensorProto.FLOAT}
    values = [value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)]
    if precision == "keep" or not (weights or TensorProto.FLOAT in values):
        return proto, None
    nesting = sorted({node.op_type for node in proto.graph.node if any(map(subgraphs_of, node.attribute))})
    if nesting:
        return (
            proto,
            f"float32 stays: the converter does not follow values into the graphs of {', '.join(nesting)}",
        )
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if precision == "bf16" and opset < OLDEST_BFLOAT16_OPSET:
        message = f"opset {opset} has no bfloat16; {OLDEST_BFLOAT16_OPSET} is the first that has"
        raise UserError(
            message, help=["convert with onnx.version_converter.convert_version, or use precision=fp16"]
        )
    converted = _to_float16(proto)
    if precision == "bf16":
        _to_bfloat16(converted, weights)
    kind = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    changed = [t for t in converted.graph.initializer if t.data_type == kind and t.name in weights]
    name = "float16" if precision == "fp16" else "bfloat16"
    return converted, f"{len(changed)} of {len(weights)} float32 tensors became {name}"


def _to_float16(proto: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    with warnings.catch_warnings():
        # What it warns of is that it clips values, which is the purpose.
        warnings.simplefilter("ignore")
        logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
        converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    return converted


def _to_bfloat16(proto: onnx.ModelProto, originals: dict[str, TensorProto]) -> None:
    """Put bfloat16 in the place of float16, in place."""
    inputs = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    for graph in graphs_of(proto.graph):
        for value in graph.value_info:
            if value.name not in inputs and value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type = TensorProto.BFLOAT16
        for tensor in _tensors(graph):
            if tensor.data_type == TensorProto.FLOAT16:
                source = numpy_helper.to_array(originals.get(tensor.name, tensor)).astype(np.float32)
                name = tensor.name
                tensor.CopyFrom(numpy_helper.from_array(source.astype(ml_dtypes.bfloat16), name))
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.BFLOAT16


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
