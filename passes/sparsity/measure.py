"""How sparse a layer is as it stands."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.sparsity import Pattern, follows, zero_share
from prunec.passes.sparsity.layer import SparseLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSparsity:
    """What there is of zeros in a weight.

    Attributes:
        zeros: their share, from 0 to 1; of integers what equals the zero point.
        pattern: 2:4 with the stored axis of the input channels, if the weight has it along them.
    """

    zeros: float
    pattern: Pattern | None


def measure_sparsity(layer: SparseLayer) -> LayerSparsity:
    """Count the zeros of a layer's weight."""
    nonzero = layer.nonzero()
    zeros = zero_share(nonzero)
    n, m = 2, 4
    axes = layer.layout.axes("input")
    if zeros < 1 - n / m or not axes or not follows(nonzero, n, m):
        return LayerSparsity(zeros=zeros, pattern=None)
    return LayerSparsity(zeros=zeros, pattern=Pattern(n, m, axes[-1]))
