"""Dependency analysis: which channels of which tensors must be removed together.

Other tools walk layers; this one couples indices. See docs/architecture.md for the idea, and in reading
order: ``axes`` (whole axes), ``collect`` (rules of ops to relations), ``products`` (axes that are products),
``solve`` (components), ``groups`` (the result).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

    from prunec.ir.facts import Facts
    from prunec.passes.coupling.groups import Coupling
    from prunec.passes.coupling.options import CouplingOptions


def analyse(
    model: onnx_ir.Model, facts: Facts | None = None, *, options: CouplingOptions | None = None
) -> Coupling:
    """Find the channel groups of a model's main graph.

    Args:
        model: the graph; it is not changed.
        facts: its facts, where they are at hand already.
        options: what may be cut, and by what unit.

    Raises:
        UserError: this is no model.
    """
    import onnx_ir

    from prunec.ir.dialect import dialect_of
    from prunec.ir.module import Module, not_a_module
    from prunec.passes.coupling.collect import collect
    from prunec.passes.coupling.groups import build_groups
    from prunec.passes.coupling.solve import solve

    if not isinstance(model, onnx_ir.Model | Module):
        raise not_a_module(model)
    facts = facts or dialect_of(model).facts(model)
    relations = collect(model, facts, options)
    return build_groups(facts, relations, solve(relations, options.unit if options else "head"))
