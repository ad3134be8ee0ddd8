"""The IR as an ``onnx.ModelProto``: whole, or without the weights' bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx_ir
from onnx_ir.serde import TensorProtoTensor

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.external import buffer_of
from prunec.ir.module import Module
from prunec.ir.structure import subgraphs_of
from prunec.ir.wire import SMALLEST_WEIGHT, join_weights

LARGEST_PROTO = 1_900_000_000
"""Bytes of weights that fit into one protobuf message (its limit is 2 GiB) beside the graph itself."""
INDEPENDENT_INITIALIZERS = 4
"""IR version from which on an initializer need not be listed as a graph input."""
DECLARED = "prunec.declared_in_value_info"
"""Key in ``Value.meta``: the source declared this initializer's type in ``value_info`` too."""


def to_proto(module: Module) -> onnx.ModelProto:
    """The module as a protobuf message that holds all its weights.

    Raises:
        UserError: the weights are more than one message can hold.
    """
    _check_size(module)
    return serialize(module.model)


def to_pieces(module: Module) -> list[bytes | memoryview]:
    """The module as serialised protobuf, in pieces that share the weights' memory: three times faster.

    Raises:
        UserError: the weights are more than one message can hold.
    """
    _check_size(module)
    weights = {
        name: tensor
        for name, tensor in weights_of(module.model, smallest=SMALLEST_WEIGHT).items()
        if not isinstance(tensor, TensorProtoTensor) or tensor.raw.HasField("raw_data")
    }
    proto = without_weights(module.model, dict.fromkeys(weights, ("-", 0)))
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    names = [tensor.name for tensor in proto.graph.initializer]
    data = [bytes_of(weights[name]) if name in weights else None for name in names]
    return join_weights(proto.SerializeToString(), data)


def bytes_of(tensor: onnx_ir.TensorProtocol) -> bytes | memoryview:
    """A tensor's bytes as files hold them, without a copy where numpy already holds them so."""
    if isinstance(tensor, onnx_ir.Tensor) and tensor.dtype.bitwidth >= 8:
        array = tensor.numpy()
        if array.flags.c_contiguous and array.dtype.newbyteorder("<") == array.dtype:
            return buffer_of(array.reshape(-1).view(np.uint8))
    return tensor.tobytes()


def _check_size(module: Module) -> None:
    if (size := weight_bytes(module.model)) > LARGEST_PROTO:
        raise UserError(
            f"{size:,} bytes of weights do not fit into one ModelProto, which can hold {LARGEST_PROTO:,}",
            place=Place(file=module.source.name),
            help=["save the model with external data"],
        )


def serialize(model: onnx_ir.Model) -> onnx.ModelProto:
    """``onnx_ir``'s serialisation, less what it adds that the model did not have.

    That is: ``value_info`` of initializers, and a second copy of a tensor's metadata.
    """
    proto = onnx_ir.to_proto(model)
    for part, graph in paired(proto.graph, model.graph):
        declared = {name for name, value in graph.initializers.items() if DECLARED in value.meta}
        added = {tensor.name for tensor in part.initializer} - declared
        kept = [info for info in part.value_info if info.name not in added]
        if len(kept) < len(part.value_info):
            del part.value_info[:]
            part.value_info.extend(kept)
        constants = (attribute.t for node in part.node for attribute in node.attribute)
        for tensor in (*part.initializer, *constants):
            _drop_repeated(tensor)
    if proto.ir_version < INDEPENDENT_INITIALIZERS:
        _list_initializers(proto.graph)
    return proto


def _list_initializers(graph: onnx.GraphProto) -> None:
    """Name every initializer among the inputs too, those that passes have added with the others."""
    listed = {value.name for value in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in graph.initializer
        if tensor.name not in listed
    )


def _drop_repeated(tensor: onnx.TensorProto) -> None:
    entries = {entry.key: entry.value for entry in tensor.metadata_props}
    if len(entries) < len(tensor.metadata_props):
        del tensor.metadata_props[:]
        for key, value in entries.items():
            tensor.metadata_props.add(key=key, value=value)


def paired(proto: onnx.GraphProto, graph: onnx_ir.Graph) -> Iterator[tuple[onnx.GraphProto, onnx_ir.Graph]]:
    """A graph and its subgraphs in both forms, of which one was made from the other."""
    yield proto, graph
    for part, node in zip(proto.node, graph, strict=True):
        for attribute in part.attribute:
            if attribute.HasField("g"):
                yield from paired(attribute.g, node.attributes[attribute.name].as_graph())
            elif attribute.graphs:
                for one, other in zip(
                    attribute.graphs, node.attributes[attribute.name].as_graphs(), strict=True
                ):
                    yield from paired(one, other)


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all its subgraphs."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in subgraphs_of(attribute):
                yield from graphs_of(inner)


def remember_declared(model: onnx_ir.Model, proto: onnx.ModelProto) -> None:
    """Mark the initializers that the source declares in ``value_info``, so that saving keeps those."""
    for part, graph in paired(proto.graph, model.graph):
        for name in {info.name for info in part.value_info} & graph.initializers.keys():
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
        value.const_value = placeholder(tensor, name, location=location, offset=offset)
    return serialize(shell)


def placeholder(
    tensor: onnx_ir.TensorProtocol, name: str, *, location: str = "-", offset: int = 0
) -> onnx_ir.ExternalTensor:
    """A reference to external data that stands for a tensor; the default location leads nowhere."""
    return onnx_ir.ExternalTensor(
        location,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=onnx_ir.Shape(tensor.shape.numpy()),
        name=name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props) or None,
    )
