"""What a model costs: parameters, their bytes, and multiply-accumulates.

The multiply-accumulates of a contraction are the product of all factors of its rule, so that no op needs a
formula of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir

from prunec.passes.coupling.groups import Coupling, is_parameter
from prunec.passes.literals import COMPUTED


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Cost of one node.

    Attributes:
        name: of the node.
        op_type: of the node.
        weight: name and shape of its largest constant, None where it has none.
        parameters: elements of the floating-point constants that it reads (a shared tensor counts at its
            first reader).
        macs: multiply-accumulates of one execution at the sizes of the analysis.
    """

    name: str
    op_type: str
    weight: tuple[str, tuple[int, ...]] | None
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a model.

    Attributes:
        parameters: elements of all constants that hold data.
        bytes: bytes of the same constants.
        macs: multiply-accumulates of one inference at the sizes of the analysis (batch 1 where the batch is
            symbolic).
        layers: per node, in graph order, only nodes that have parameters or multiply.
    """

    parameters: int
    bytes: int
    macs: int
    layers: tuple[LayerCost, ...]


def measure(model: onnx_ir.Model, coupling: Coupling) -> Cost:
    """Add up the cost of a model's main graph."""
    seen: set[onnx_ir.Value] = set()
    layers = []
    total_bytes = 0
    for node in model.graph:
        fresh = [v for v in _parameters(node, coupling) if v not in seen]
        seen.update(fresh)
        total_bytes += sum(_tensor(v).nbytes for v in fresh)
        op, rule = coupling.relations.ops.get(node), coupling.relations.rules.get(node)
        macs = op.macs(rule) if op is not None and rule is not None else 0
        parameters = sum(_tensor(v).size for v in fresh)
        if macs or parameters:
            largest = max(fresh, key=lambda v: _tensor(v).size, default=None)
            weight = None if largest is None else (largest.name or "", tuple(_tensor(largest).shape.numpy()))
            layers.append(
                LayerCost(
                    name=node.name or "",
                    op_type=node.op_type,
                    weight=weight,
                    parameters=parameters,
                    macs=macs,
                )
            )
    return Cost(
        parameters=sum(x.parameters for x in layers),
        bytes=total_bytes,
        macs=sum(x.macs for x in layers),
        layers=tuple(layers),
    )


def _parameters(node: onnx_ir.Node, coupling: Coupling) -> list[onnx_ir.Value]:
    """The floating-point constants (and quantised weights) that a node reads; shapes and indices do not
    count.
    """
    values = [v for v in node.inputs if v is not None and is_parameter(v, coupling.facts)]
    return [v for v in values if (t := onnx_ir.convenience.get_const_tensor(v)) is not None and is_weight(t)]


def is_weight(tensor: onnx_ir.TensorProtocol) -> bool:
    """Whether a constant counts as parameters: several numbers, float or quantised, that no pass computed."""
    if COMPUTED in tensor.metadata_props:
        return False
    small_integer = tensor.dtype.is_integer() and tensor.dtype.bitwidth <= 8
    return tensor.size > 1 and (tensor.dtype.is_floating_point() or small_integer)


def _tensor(value: onnx_ir.Value) -> onnx_ir.TensorProtocol:
    tensor = onnx_ir.convenience.get_const_tensor(value)
    assert tensor is not None
    return tensor
