"""Brings a graph into the form that TensorRT's parser wants, with onnx-graphsurgeon, and says what was done.

64-bit integers stay: the TensorRT versions that are accepted here have them. 64-bit floating-point numbers, which none
has, become float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from prunec.exporters.tensorrt.precision import Precision, convert
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.proto import to_proto

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from prunec.ir.module import Module

NOT_FOLDED = ("QuantizeLinear", "DequantizeLinear")
"""Folding them would take away what says that a layer is quantised."""

ORT_WARNING = 2
"""ONNX Runtime's default severity of messages."""

NEEDLESS: Mapping[str, Mapping[str, Any]] = {
    "BatchNormalization": {"momentum": None, "training_mode": 0, "spatial": 1},
    "Cast": {"saturate": 1},
    "CastLike": {"saturate": 1},
    "QuantizeLinear": {"saturate": 1},
}
"""Attributes that mean nothing in inference (None: at any value), and that parsers have stumbled over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A graph for TensorRT.

    Attributes:
        proto: the model; its layers have unique names.
        actions: what was done, one line each.
    """

    proto: onnx.ModelProto
    actions: tuple[str, ...]


def prepare(module: Module, precision: Precision) -> Prepared:
    """Fold constants, name nodes, drop attributes and types that TensorRT has not, convert to a precision.

    Raises:
        UserError: a graph input has a type that TensorRT lacks, or the weights are more than one ``ModelProto``
            can hold.
    """
    import onnx_graphsurgeon as gs

    _check_inputs(module)
    with _quiet():
        graph = gs.import_onnx(to_proto(module))
        actions = [_fold(graph), _name(graph), _drop_attributes(graph), _narrow_doubles(graph)]
        proto: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    proto.ir_version = module.model.ir_version
    proto, converted = convert(proto, precision)
    return Prepared(proto=proto, actions=tuple(line for line in (*actions, converted) if line))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the chatter of graphsurgeon, and of the ONNX Runtime that it folds with."""
    import onnxruntime as ort
    from onnx_graphsurgeon.logger import G_LOGGER

    ort.set_default_logger_severity(4)
    try:
        with G_LOGGER.suppress(G_LOGGER.CRITICAL):
            yield
    finally:
        ort.set_default_logger_severity(ORT_WARNING)


def _check_inputs(module: Module) -> None:
    for value in module.graph.inputs:
        if value.dtype is not None and value.dtype.name in ("DOUBLE", "STRING", "COMPLEX64", "COMPLEX128"):
            raise UserError(
                f"graph input `{value.name}` is {value.dtype.name.lower()}, which TensorRT has not",
                place=Place(file=module.source.name),
                help=["export the model with float32 inputs"],
            )


def _fold(graph: gs.Graph) -> str | None:
    import onnx_graphsurgeon as gs

    before = len(graph.nodes)
    # With nested graphs it is not folded: graphsurgeon loses values that cross their borders.
    if not any(isinstance(value, gs.Graph) for node in graph.nodes for value in node.attrs.values()):
        graph.fold_constants(should_exclude_node=lambda node: node.op in NOT_FOLDED)
    graph.cleanup().toposort()
    folded = before - len(graph.nodes)
    return f"constant or unused nodes were folded: {folded}" if folded else None


def _name(graph: gs.Graph) -> str | None:
    """Give every node a name of its own: layers of the engine are told apart by it."""
    taken = Counter(node.name for node in graph.nodes)
    seen: set[str] = set()
    renamed = 0
    for index, node in enumerate(graph.nodes):
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        stem = node.name or node.op
        number = index
        while f"{stem}_{number}" in taken or f"{stem}_{number}" in seen:
            number += len(graph.nodes)
        node.name = f"{stem}_{number}"
        seen.add(node.name)
        renamed += 1
    return f"nodes that had no name of their own were named: {renamed}" if renamed else None


def _drop_attributes(graph: gs.Graph) -> str | None:
    dropped: Counter[str] = Counter()
    for node in graph.nodes:
        for name, value in NEEDLESS.get(node.op, {}).items():
            if name in node.attrs and value in (None, node.attrs[name]):
                del node.attrs[name]
                dropped[f"{node.op}.{name}"] += 1
    listed = ", ".join(f"{name} ({count})" for name, count in dropped.items())
    return f"attributes without a meaning in inference were dropped: {listed}" if dropped else None


def _narrow_doubles(graph: gs.Graph) -> str | None:
    import onnx_graphsurgeon as gs

    narrowed = 0
    for tensor in graph.tensors().values():
        if tensor.dtype is None or tensor.dtype not in (np.float64, onnx.TensorProto.DOUBLE):
            continue
        if isinstance(tensor, gs.Constant):
            tensor.values = tensor.values.astype(np.float32)
        else:
            tensor.dtype = np.float32
        narrowed += 1
    for node in graph.nodes:
        if node.op == "Cast" and node.attrs.get("to") in (np.float64, onnx.TensorProto.DOUBLE):
            node.attrs["to"] = onnx.TensorProto.FLOAT
    return f"{narrowed} float64 values became float32" if narrowed else None
