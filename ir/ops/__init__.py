"""The op families of ONNX, one module each; every module registers its ops in ``register_ops``."""

from __future__ import annotations


def register_all() -> None:
    """Register the ops of every family."""
    from prunec.ir.ops import (
        attention,
        blockwise,
        contrib,
        einsum,
        elementwise,
        experts,
        indexing,
        movement,
        padding,
        qlinear,
        quantised,
        recurrent,
        refused,
        relayout,
        vision,
    )

    core = (einsum, elementwise, movement, padding, relayout, indexing, vision, refused)
    for family in (*core, attention, recurrent, quantised, qlinear, blockwise, experts, contrib):
        family.register_ops()
