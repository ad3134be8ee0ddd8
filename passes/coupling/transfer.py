"""An analysis carried over to a clone of its graph, which costs a small part of analysing the clone anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import onnx_ir

from prunec.ir.facts import Facts
from prunec.ir.scopes import values_in, walk
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.groups import Coupling

T = TypeVar("T")


def transferred(coupling: Coupling, clone: onnx_ir.Graph) -> Coupling:
    """What an analysis says about a clone of its graph that nobody has changed yet.

    Groups, chains, products and the causes of ties are left out: they speak of the graph that was analysed. Rules,
    axes, components and facts are all there, and the facts may be changed.
    """
    old = coupling.relations.graph
    nodes = dict(zip(walk(old), walk(clone), strict=True))
    values = dict(zip(values_in(old), values_in(clone), strict=True))
    table, relations = coupling.relations.table, coupling.relations

    def operand(given: Operand) -> Operand:
        use = None if given.use is None else (nodes[given.use[0]], given.use[1])
        return Operand(values[given.value], use)

    operands = {operand(o): numbers for o, numbers in table.operands.items() if o.value in values}
    moved = replace(
        relations,
        graph=clone,
        table=table.of_clone(operands),
        ties=[],
        products=[],
        chains={},
        crossings=[],
        rules={nodes[node]: rule for node, rule in relations.rules.items()},
        ops={nodes[node]: op for node, op in relations.ops.items()},
        factors={(nodes[node], f): axis for (node, f), axis in relations.factors.items()},
        numbers={(nodes[node], s, p): axis for (node, s, p), axis in relations.numbers.items()},
    )
    return Coupling(_facts(coupling.facts, values), moved, coupling.components)


def _facts(facts: Facts, values: dict[onnx_ir.Value, onnx_ir.Value]) -> Facts:
    def mapped(known: dict[onnx_ir.Value, T]) -> dict[onnx_ir.Value, T]:
        return {values[value]: fact for value, fact in known.items() if value in values}

    def renamed(known: set[onnx_ir.Value]) -> set[onnx_ir.Value]:
        return {values[value] for value in known if value in values}

    return Facts(
        shapes=mapped(facts.shapes),
        numbers=mapped(facts.numbers),
        derived=renamed(facts.derived),
        constant=renamed(facts.constant),
        types=mapped(facts.types),
        dynamic=mapped(facts.dynamic),
        unstable=renamed(facts.unstable),
        varying=mapped(facts.varying),
    )
