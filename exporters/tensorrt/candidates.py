"""The layers of a model that sparse tensor cores could compute, and those that could not, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir

from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.patterns import NM

PATTERN = NM(n=2, m=4)
"""What sparse tensor cores read: along input channels, for every output channel and kernel position."""
TYPES = ("FLOAT16", "BFLOAT16", "INT8", "FLOAT8E4M3FN")
"""Element types that sparse tensor cores multiply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A contraction with a weight.

    Attributes:
        name: name of its node.
        op: type of its node.
        weight: name of the weight.
        shape: of the weight; empty where it has no form that zeros could be placed in.
        reasons: why it cannot use sparse kernels; empty where it can.
        is_sparse: whether the weight has the 2:4 pattern.
    """

    name: str
    op: str
    weight: str
    shape: tuple[int, ...]
    reasons: tuple[str, ...]
    is_sparse: bool

    @property
    def is_eligible(self) -> bool:
        """Whether nothing but its weights can keep it from sparse kernels."""
        return not self.reasons


def find_candidates(module: Module) -> tuple[Candidate, ...]:
    """The contractions of a model's main graph that have a weight, in graph order."""
    found = find_layers(module.model, infer_facts(module.model))
    rows: list[tuple[onnx_ir.Node, SparseLayer | None, str, str]]
    rows = [(node, layer, "", "") for layer in found.layers for node, _ in layer.uses]
    rows += [(skipped.node, None, skipped.weight, skipped.reason) for skipped in found.skipped]
    order = {node: index for index, node in enumerate(module.graph)}
    return tuple(
        Candidate(
            name=node.name or "",
            op=node.op_type,
            weight=weight if layer is None else layer.value.name or "",
            shape=() if layer is None else tuple(layer.tensor.shape.numpy()),
            reasons=(reason,) if layer is None else tuple(_reasons(layer)),
            is_sparse=layer is not None and is_sparse(layer),
        )
        for node, layer, weight, reason in sorted(rows, key=lambda row: order.get(row[0], len(order)))
    )


def is_sparse(layer: SparseLayer) -> bool:
    """Whether a weight has the 2:4 pattern on the axis on which sparse kernels read it."""
    return PATTERN.misfit(layer.shape) is None and not PATTERN.violations(layer.nonzero())


def _reasons(layer: SparseLayer) -> Iterator[str]:
    misfit = PATTERN.misfit(layer.shape)
    if misfit is not None:
        yield misfit
    if layer.dtype.name not in TYPES:
        yield f"its weights are {layer.dtype.name.lower()}: sparse kernels take float16, bfloat16 and int8"
