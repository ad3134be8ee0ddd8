"""The IR as an ``onnx.ModelProto``: whole, or without the weights' bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
import onnx_ir

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.external import all_graphs
from prunec.ir.module import Module
from prunec.ir.structure import subgraphs_of
from prunec.ir.wire import SMALLEST_WEIGHT

LARGEST_PROTO = 1_900_000_000
"""Bytes of weights that fit into one protobuf message (its limit is 2 GiB) beside the graph itself."""
DECLARED = "prunec.declared_in_value_info"
"""Key in ``Value.meta``: the source declared this initializer's type in ``value_info`` too."""


def to_proto(module: Module) -> onnx.ModelProto:
    """The module as a protobuf message that holds all its weights.

    Raises:
        UserError: the weights are more than one message can hold.
    """
    size = weight_bytes(module.model)
    if size > LARGEST_PROTO:
        raise UserError(
            f"{size:,} bytes of weights do not fit into one ModelProto, which can hold {LARGEST_PROTO:,}",
            place=Place(file=module.source.name),
            help=["save the model with external data"],
        )
    return serialize(module.model)


def serialize(model: onnx_ir.Model) -> onnx.ModelProto:
    """``onnx_ir``'s serialisation, less the ``value_info`` that it adds for initializers that had none."""
    proto = onnx_ir.to_proto(model)
    declared = {
        name
        for graph in all_graphs(model)
        for name, value in graph.initializers.items()
        if DECLARED in value.meta
    }
    for graph in graphs_of(proto.graph):
        added = {tensor.name for tensor in graph.initializer} - declared
        kept = [info for info in graph.value_info if info.name not in added]
        if len(kept) < len(graph.value_info):
            del graph.value_info[:]
            graph.value_info.extend(kept)
    return proto


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all its subgraphs."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in subgraphs_of(attribute):
                yield from graphs_of(inner)


def remember_declared(model: onnx_ir.Model, proto: onnx.ModelProto) -> None:
    """Mark the initializers that the source declares in ``value_info``, so that saving keeps those."""
    names = {info.name for graph in graphs_of(proto.graph) for info in graph.value_info}
    for graph in all_graphs(model):
        for name in names & graph.initializers.keys():
            graph.initializers[name].meta[DECLARED] = True


def weight_bytes(model: onnx_ir.Model) -> int:
    """Bytes of all initializers together, as a file holds them."""
    return sum(tensor.nbytes for tensor in weights_of(model).values())


def weights_of(model: onnx_ir.Model, *, smallest: int = 0) -> dict[str, onnx_ir.TensorProtocol]:
    """The main graph's initializers of at least ``smallest`` bytes, by name; those of strings left out."""
    tensors = ((name, value.const_value) for name, value in model.graph.initializers.items())
    return {
        name: tensor
        for name, tensor in tensors
        if tensor is not None and tensor.dtype != onnx_ir.DataType.STRING and tensor.nbytes >= smallest
    }


def without_weights(model: onnx_ir.Model, placed: Mapping[str, tuple[str, int]]) -> onnx.ModelProto:
    """The model with some weights replaced by references to external data; the model itself is left as it is.

    Args:
        model: the model.
        placed: for each initializer to replace, the location (relative path) and the offset in bytes of its
            data.
    """
    shell = model.clone()
    shell.model_version = model.model_version  # clone() forgets it
    for name, (location, offset) in placed.items():
        value = shell.graph.initializers[name]
        tensor = value.const_value
        assert tensor is not None
        value.const_value = onnx_ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=onnx_ir.Shape(tensor.shape.numpy()),
            name=name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props) or None,
        )
    return serialize(shell)


def outline(model: onnx_ir.Model) -> onnx.ModelProto:
    """The model without its large weights' bytes, for checks and shape inference; costs milliseconds.

    The references to external data in it lead nowhere.
    """
    return without_weights(model, dict.fromkeys(weights_of(model, smallest=SMALLEST_WEIGHT), ("-", 0)))
