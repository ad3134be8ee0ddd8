"""The op families of ONNX, one module each; every module registers its ops in ``register_ops``."""

from __future__ import annotations


def register_all() -> None:
    """Register the ops of every family."""
    from prunec.ir.ops import (
        attention,
        contrib,
        einsum,
        elementwise,
        movement,
        quantised,
        recurrent,
        relayout,
    )

    for family in (einsum, elementwise, movement, relayout, attention, recurrent, quantised, contrib):
        family.register_ops()
