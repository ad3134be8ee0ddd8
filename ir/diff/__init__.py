"""What is different between two models: in structure, in weights, and in what they compute."""

from __future__ import annotations

from prunec.ir.diff.align import Alignment, align
from prunec.ir.diff.divergence import Divergence, diverge
from prunec.ir.diff.structure import Difference, differences

__all__ = ["Alignment", "Difference", "Divergence", "align", "differences", "diverge"]
