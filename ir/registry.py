"""Where the semantics of every op are found.

``OPS`` maps (domain, op type) to an :class:`~prunec.ir.op.Op`. The modules of ``prunec.ir.ops`` fill it at
import, one line an op; other packages add theirs through the entry-point group ``prunec.ops`` (a callable
that calls :func:`register`).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points

import onnx_ir

from prunec.ir.facts import Facts
from prunec.ir.form import PLAIN, Form
from prunec.ir.module import opset_of
from prunec.ir.op import Op
from prunec.ir.site import Site

OPS: dict[tuple[str, str], Op] = {}
FORMS: dict[tuple[str, str], Form] = {}
STANDARD: dict[tuple[str, str], str] = {}
"""Ops of other domains that are an op of ONNX, read in their form."""


def register(names: str, op: Op, *, domain: str = "", form: Form = PLAIN, standard: str = "") -> None:
    """Give one or more ops (names separated by spaces) of a domain their semantics.

    Args:
        names: the ops.
        op: what they mean.
        domain: of the ops.
        form: how their nodes read as ops of the family, where they are written in another way.
        standard: the op of ONNX that they are, with the same inputs and, in their form, the same attributes.

    Example:
        >>> from prunec.ir.ops.elementwise import Elementwise
        >>> register("FancyActivation", Elementwise(), domain="com.acme")
    """
    for name in names.split():
        OPS[domain, name] = op
        if form is not PLAIN:
            FORMS[domain, name] = form
        if standard:
            STANDARD[domain, name] = standard


def find_op(node: onnx_ir.Node) -> Op | None:
    """The semantics of a node's op, or None for an op that nobody registered."""
    _load()
    return OPS.get(_key(node))


def form_of(node: onnx_ir.Node) -> Form:
    """How a node reads as an op of its family."""
    return FORMS.get(_key(node), PLAIN)


def standard_op(node: onnx_ir.Node) -> str:
    """The op of ONNX that a node is, in whichever dialect it is written (``Conv`` for ``conv2d.default``), or ""."""
    _load()
    domain, name = _key(node)
    return STANDARD.get((domain, name), "" if domain else name)


def site_of(node: onnx_ir.Node, facts: Facts, graph: onnx_ir.Graph) -> Site:
    """A node of a graph as its op's semantics see it."""
    return Site(node, facts, opset_of(graph, node.domain), form_of(node))


def _key(node: onnx_ir.Node) -> tuple[str, str]:
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


@lru_cache(maxsize=1)
def _load() -> None:
    import prunec.ir.fx.ops
    import prunec.ir.ops

    prunec.ir.ops.register_all()
    prunec.ir.fx.ops.register_all()
    for entry in entry_points(group="prunec.ops"):
        entry.load()()
