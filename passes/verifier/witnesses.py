"""Which intermediate values are compared where the outputs say too little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir

from prunec.ir.dialect import dialect_of
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.rule import Index
from prunec.ir.scopes import walk

WITNESSES = 24
"""How many intermediate values are compared where the outputs say too little."""

Kept = Mapping[str, Mapping[int, Index]]
"""Per value that a cut shrank the slots of its axes that stay."""


def witnesses(reference: Module, module: Module, kept: Kept, facts: Facts | None) -> Iterator[str]:
    """Intermediate values that both graphs compute by the same op, spread evenly over the graph.

    Shape arithmetic does not count: it tells the sizes of axes, which a cut changes on purpose. Nor does what
    no input reaches: a weight that a Constant node holds is the pass's to change. Nor does an axis that is
    cut and follows the batch as well: which of its slots stay depends on the inputs.
    """
    facts = facts or dialect_of(reference.model).facts(reference.model)
    reached = _reached(reference)
    made = {
        o.name: n.op_type
        for n in reference.graph
        if n in reached and not facts.is_folded(n)
        for o in n.outputs
        if o.name and o in facts.shapes and facts.dynamic.get(o, frozenset()).isdisjoint(kept.get(o.name, {}))
    }
    common = [
        o.name
        for node in module.graph
        for o in node.outputs
        if o.name and made.get(o.name) == node.op_type and not o.is_graph_output()
    ]
    step = max(1, -(-len(common) // WITNESSES))
    yield from reversed(common[::-1][::step])


def _reached(module: Module) -> set[onnx_ir.Node]:
    """The nodes whose results depend on what the model is fed."""
    fed: set[onnx_ir.Value | None] = {
        value for value in module.graph.inputs if value.name not in module.graph.initializers
    }
    nodes: set[onnx_ir.Node] = set()
    for node in module.graph:
        if any(value in fed for reader in walk([node]) for value in reader.inputs):
            nodes.add(node)
            fed.update(node.outputs)
    return nodes
