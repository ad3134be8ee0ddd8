"""Reshapes and transposes in a row that are analysed, and cut, as one op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir

from prunec.ir.facts import Facts
from prunec.ir.layout import Layout
from prunec.ir.ops.relayout import Relayout
from prunec.ir.registry import find_op
from prunec.ir.rule import Index, Rule, RuleError
from prunec.ir.site import Site
from prunec.passes.coupling.products import permutation

SiteOf = Callable[[onnx_ir.Node], Site]


@dataclass(frozen=True, slots=True)
class Chain:
    """Reshapes and transposes in a row that together only permute the slots of axes, such as a channel
    shuffle.

    Attributes:
        nodes: the nodes in order; only the last one's output is used elsewhere.
        rule: their common rule, from the first input to the last output.
    """

    nodes: tuple[onnx_ir.Node, ...]
    rule: Rule

    def permuted(self, axis: int) -> bool:
        """Whether the slots of an axis change their order."""
        source, result = self._terms(axis)
        return source != result

    def permutation(self, axis: int) -> Index:
        """For every slot of the last output's axis the slot of the first input's axis that it holds."""
        source, result = self._terms(axis)
        return permutation(source, result, self.rule.sizes)

    def _terms(self, axis: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        source, result = self.rule.inputs[0], self.rule.outputs[0]
        assert source is not None and result is not None
        return source[axis], result[axis]


def find_chain(node: onnx_ir.Node, facts: Facts, site_of: SiteOf) -> Chain | None:
    """The shortest chain of relayouts from ``node`` on that only permutes slots within axes, or None."""
    shape = facts.shape(node.inputs[0])
    if shape is None or 0 in shape:
        return None
    layout, nodes = Layout.of(shape), [node]
    while _follow(nodes[-1], layout, facts, site_of):
        if layout.rejoined():
            return Chain(tuple(nodes), layout.rule())
        output = nodes[-1].outputs[0]
        uses = list(output.uses())
        if len(uses) != 1 or output.is_graph_output() or uses[0].idx != 0:
            return None
        if uses[0].node.graph is not node.graph:
            return None
        nodes.append(uses[0].node)
    return None


def _follow(node: onnx_ir.Node, layout: Layout, facts: Facts, site_of: SiteOf) -> bool:
    op = find_op(node)
    if not isinstance(op, Relayout) or facts.shape(node.outputs[0]) is None:
        return False
    try:
        return op.apply(site_of(node), layout)
    except RuleError:
        return False
