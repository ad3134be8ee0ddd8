"""Plans: what pruning passes decided, as data that is written, read strictly, compared and replayed."""

from __future__ import annotations

from prunec.passes.plan.masks import WeightMask
from prunec.passes.plan.schema import (
    SCHEMA,
    Equivalence,
    GroupCut,
    GroupOrder,
    Plan,
    Step,
    TensorCut,
    TensorOrder,
    require_plan,
)

__all__ = [
    "SCHEMA",
    "Equivalence",
    "GroupCut",
    "GroupOrder",
    "Plan",
    "Step",
    "TensorCut",
    "TensorOrder",
    "WeightMask",
    "require_plan",
]
