"""Plans: what pruning passes decided, as data that is written, read strictly, compared and replayed."""

from __future__ import annotations

from prunec.passes.plan.masks import WeightMask
from prunec.passes.plan.schema import SCHEMA, Equivalence, GroupCut, Plan, Step, TensorCut

__all__ = ["SCHEMA", "Equivalence", "GroupCut", "Plan", "Step", "TensorCut", "WeightMask"]
