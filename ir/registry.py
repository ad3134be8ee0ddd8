"""Where the semantics of every op are found.

``OPS`` maps (domain, op type) to an :class:`~prunec.ir.op.Op`. The modules of ``prunec.ir.ops`` fill it at
import, one line an op; other packages add theirs through the entry-point group ``prunec.ops`` (a callable
that calls :func:`register`).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points

import onnx_ir

from prunec.ir.op import Op

OPS: dict[tuple[str, str], Op] = {}


def register(names: str, op: Op, *, domain: str = "") -> None:
    """Give one or more ops (names separated by spaces) of a domain their semantics.

    Example:
        >>> from prunec.ir.ops.elementwise import Elementwise
        >>> register("FancyActivation", Elementwise(), domain="com.acme")
    """
    for name in names.split():
        OPS[domain, name] = op


def find_op(node: onnx_ir.Node) -> Op | None:
    """The semantics of a node's op, or None for an op that nobody registered."""
    _load()
    return OPS.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))


@lru_cache(maxsize=1)
def _load() -> None:
    import prunec.ir.ops

    prunec.ir.ops.register_all()
    for entry in entry_points(group="prunec.ops"):
        entry.load()()
