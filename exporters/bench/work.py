"""What the layers of a model have to do at given sizes of its inputs: operations, bytes, zeros, channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx_ir
from numpy.typing import NDArray

from prunec.exporters.bench.candidates import Candidate
from prunec.ir.module import Module
from prunec.ir.ops.elementwise import Elementwise
from prunec.ir.registry import find_op
from prunec.ir.scopes import walk
from prunec.ir.sizes import open_inputs
from prunec.passes.cost import weight_size, weights_of
from prunec.passes.coupling import analyse
from prunec.passes.sparsity.eligibility import Eligibility
from prunec.passes.survey import LayerFacts, Survey, survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one node has to do.

    Attributes:
        name: of the node.
        op: of the node.
        macs: multiply-accumulates, zeros included.
        weight_bytes: of the weights that it reads.
        activation_bytes: of what else it reads, and of what it writes.
        zeros: share of zeros in its weight; None where that holds none, or there is no weight.
        channels: summed inputs and outputs; None where it has no weight.
        eligibility: what sparse tensor cores can make of it; None where it is no contraction.
        fused: whether runtimes let the layer before it do it: an elementwise op, or a norm with fixed statistics.
    """

    name: str
    op: str
    macs: int
    weight_bytes: int
    activation_bytes: int
    zeros: float | None
    channels: tuple[int, int] | None
    eligibility: Eligibility | None
    fused: bool

    @property
    def nonzero_macs(self) -> int:
        """Multiply-accumulates with weights that are not zero."""
        return round(self.macs * (1 - (self.zeros or 0.0)))


def named(module: Module) -> Module:
    """A copy in which every node has a name, by which a profile can be read."""
    copy = module.clone()
    taken = {node.name for node in walk(copy.graph) if node.name}
    for node in walk(copy.graph):
        if not node.name:
            base = f"{node.op_type}:{node.outputs[0].name if node.outputs else ''}"
            node.name = base if base not in taken else f"{base}:{len(taken)}"
            taken.add(node.name)
    return copy


def at_sizes(module: Module, feeds: Mapping[str, NDArray[Any]]) -> Module:
    """A copy whose inputs have the shapes of these arrays, and no others."""
    copy = module.clone()
    for value in open_inputs(copy.graph):
        if (array := feeds.get(value.name or "")) is not None:
            value.shape = onnx_ir.Shape(array.shape)
    return copy


def find_work(module: Module, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Work]:
    """What every node of a model does on these inputs, by its name, in graph order.

    Args:
        module: the model, with a name for every node.
        feeds: inputs; only their shapes matter.
    """
    sized = at_sizes(module, feeds)
    found = survey(sized.model, analyse(sized.model))
    layers = {layer.node: layer for layer in found.layers}
    facts = found.coupling.facts
    work: dict[str, Work] = {}
    carried: set[onnx_ir.Value] = set()  # what layers make, and what is fused into them
    for node in walk(sized.graph):
        if (
            node.op_type == "Constant"
            or facts.is_folded(node)
            or all(v in facts.constant for v in node.outputs)
        ):
            continue
        done = _work(node, layers.get(node), found, carried)
        work[node.name or ""] = done
        if (done.macs or done.fused) and len(node.outputs[0].uses()) == 1:
            carried.add(node.outputs[0])
    return work


def _work(
    node: onnx_ir.Node, layer: LayerFacts | None, found: Survey, carried: Collection[onnx_ir.Value]
) -> Work:
    facts = found.coupling.facts
    foldable = isinstance(find_op(node), Elementwise) or node.op_type == "BatchNormalization"
    weights = [v for v in weights_of(node, facts) if weight_size(v, facts)]
    data = [v for v in (*node.inputs, *node.outputs) if v is not None and v not in facts.constant]
    sparsity = None if layer is None else layer.sparsity
    return Work(
        name=node.name or "",
        op=node.op_type,
        macs=0 if layer is None else layer.cost.macs,
        weight_bytes=sum(_bytes(v, found) for v in weights),
        activation_bytes=sum(_bytes(v, found) for v in data),
        zeros=None if sparsity is None else sparsity.zeros,
        channels=_channels(None if layer is None else layer.eligibility),
        eligibility=None if layer is None else layer.eligibility,
        fused=foldable and any(v in carried for v in node.inputs),
    )


def _bytes(value: onnx_ir.Value, found: Survey) -> int:
    facts = found.coupling.facts
    if value not in facts.shapes or value not in facts.types:
        return 0
    return prod(facts.shapes[value]) * onnx_ir.DataType(facts.types[value]).bitwidth // 8


def _channels(eligibility: Eligibility | None) -> tuple[int, int] | None:
    if eligibility is None or eligibility.layer is None:
        return None
    groups, outputs, _, inputs = eligibility.layer.shape
    return inputs * groups, outputs * groups


def costs_of(candidate: Candidate) -> tuple[int, int, int]:
    """Parameters, multiply-accumulates of one sample, and those of them with weights that are not zero."""
    found = survey(candidate.module.model, analyse(candidate.module.model))
    zeros = [0.0 if layer.sparsity is None else layer.sparsity.zeros for layer in found.layers]
    nonzero = sum(layer.cost.macs * (1 - share) for layer, share in zip(found.layers, zeros, strict=True))
    samples = candidate.batch or 1
    return found.cost.parameters, found.cost.macs // samples, round(nonzero / samples)
