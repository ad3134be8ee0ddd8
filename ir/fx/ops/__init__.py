"""The ops of ATen: which family of :mod:`prunec.ir.ops` each belongs to, and how its calls read as that family.

Nothing here imports torch.
"""

from __future__ import annotations


def register_all() -> None:
    """Register the ops of every family; those of ONNX must be registered already."""
    from prunec.ir.fx.ops import contraction, indexing, movement, pointwise, reduction, relayout, sequence

    for family in (pointwise, contraction, reduction, relayout, movement, indexing, sequence):
        family.register_ops()
