"""The layers of a prepared model that sparse tensor cores could compute, and why they could not compute others."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.passes.sparsity.eligibility import Eligibility, assess
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.patterns import NM

PATTERN = NM(n=2, m=4)
"""What sparse tensor cores read: along input channels, for every output channel and kernel position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A contraction.

    Attributes:
        name: name of its node.
        op: type of its node.
        weight: name of the weight; empty where it has none.
        shape: of the weight; empty where it has no form that zeros could be placed in.
        reasons: why it cannot use sparse kernels; empty where it can.
        small: why a sparse kernel that can run would hardly be faster, or None.
        is_sparse: whether the weight has the 2:4 pattern.
    """

    name: str
    op: str
    weight: str
    shape: tuple[int, ...]
    reasons: tuple[str, ...]
    small: str | None = None
    is_sparse: bool

    @property
    def is_eligible(self) -> bool:
        """Whether nothing but its weights can keep it from sparse kernels."""
        return not self.reasons


def find_candidates(module: Module) -> tuple[Candidate, ...]:
    """The contractions of a model's main graph in graph order, as the analysis ``eligibility`` judges them."""
    facts = infer_facts(module.model)
    return tuple(map(_candidate, assess(module.model, facts, find_layers(module.model, facts))))


def is_sparse(layer: SparseLayer) -> bool:
    """Whether a weight has the 2:4 pattern on the axis on which sparse kernels read it."""
    return PATTERN.misfit(layer.shape) is None and not PATTERN.violations(layer.nonzero())


def _candidate(row: Eligibility) -> Candidate:
    layer = row.layer
    reasons = row.reasons
    if layer is not None and layer.dtype.name == "FLOAT":
        # The analysis expects a conversion to come; a prepared model is what is built.
        reasons = (*reasons, "its weights are float32: sparse kernels take float16, bfloat16 and int8")
    return Candidate(
        name=row.node.name or "",
        op=row.node.op_type,
        weight=row.weight,
        shape=() if layer is None else tuple(layer.tensor.shape.numpy()),
        reasons=reasons,
        small=row.small,
        is_sparse=layer is not None and is_sparse(layer),
    )
