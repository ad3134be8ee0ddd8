"""Reads a graph once and writes down every relation between axes that its ops' rules imply."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import onnx_ir

from prunec.ir.bodies import taken_branch
from prunec.ir.control import Wire, why_apart, wirings
from prunec.ir.dialect import TIED
from prunec.ir.facts import Facts
from prunec.ir.module import opset_of
from prunec.ir.op import Op
from prunec.ir.ops.refused import Refused
from prunec.ir.ops.relayout import Relayout
from prunec.ir.registry import find_op, site_of
from prunec.ir.rule import Index, IndexMap, Rule, RuleError
from prunec.ir.scopes import bodies, walk
from prunec.ir.site import Site
from prunec.passes.coupling.axes import AxisTable, Operand, Reason
from prunec.passes.coupling.chains import Chain, find_chain
from prunec.passes.coupling.options import CouplingOptions
from prunec.passes.coupling.products import Product, permutation

_NO_RULE = "give the op a rule (docs/add-an-op.md)"
_NO_SHAPE = (
    "export with fixed sizes; where inference has no shape, a run tells it, if ONNX Runtime runs the model"
)
_AT_RUN_TIME = "export with fixed sizes, so that the number is a constant"
_HEADS_OF_CACHES = "`prune-channels{allow-io=true}` lets the heads of caches shrink"


class IndexTie(NamedTuple):
    """Slot ``a_index[k]`` of axis ``a`` and slot ``b_index[k]`` of axis ``b`` are one."""

    a: int
    a_index: Index
    b: int
    b_index: Index
    cause: onnx_ir.Node


@dataclass(frozen=True, slots=True, eq=False)
class Filling:
    """Slots that hold nothing but a constant, between or around those of another axis.

    Attributes:
        around: the axis that is filled up.
        axis: the axis that has its slots and the new ones.
        slots: the new ones.
        cause: the node.
    """

    around: int
    axis: int
    slots: Index
    cause: onnx_ir.Node


@dataclass(slots=True)
class Relations:
    """What the collector found.

    Attributes:
        graph: the main graph.
        table: all axes, with whole-axis ties already merged and pins noted.
        ties: relations between slots.
        products: axes that are products of factors, of which one at a time may carry a cut.
        rules: the rule of every node that has one.
        ops: the semantics of the same nodes.
        chains: fused chains by their last node.
        parallel: axes that are parallel in a contraction of two computed operands (attention heads).
        statistic: axes over which an op takes a statistic, so that a cut changes it.
        factors: axis number of every factor of a node's rule, by (node, factor).
        numbers: number of axis 0 of every operand of a node's rule, by (node, "in" or "out", position).
        crossings: whole axes that are one where control enters or leaves a body, by the node that holds it.
        fillings: slots that a node puts around those of an axis (padding).
    """

    graph: onnx_ir.Graph
    table: AxisTable = field(default_factory=AxisTable)
    ties: list[IndexTie] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    rules: dict[onnx_ir.Node, Rule] = field(default_factory=dict)
    ops: dict[onnx_ir.Node, Op] = field(default_factory=dict)
    chains: dict[onnx_ir.Node, Chain] = field(default_factory=dict)
    parallel: list[int] = field(default_factory=list)
    statistic: list[int] = field(default_factory=list)
    factors: dict[tuple[onnx_ir.Node, str], int] = field(default_factory=dict)
    numbers: dict[tuple[onnx_ir.Node, str, int], int] = field(default_factory=dict)
    crossings: list[tuple[onnx_ir.Node, int, int]] = field(default_factory=list)
    fillings: list[Filling] = field(default_factory=list)


def collect(model: onnx_ir.Model, facts: Facts, options: CouplingOptions | None = None) -> Relations:
    """Write down the relations of a model's main graph and of the bodies in it."""
    return _Collector(model, facts, options or CouplingOptions()).run()


class _Collector:
    def __init__(self, model: onnx_ir.Model, facts: Facts, options: CouplingOptions) -> None:
        self.options = options
        self.graph = model.graph
        self.facts = facts
        self.out = Relations(model.graph)
        self.fused: set[onnx_ir.Node] = set()

    def run(self) -> Relations:
        for node in walk(self.graph):
            if node not in self.fused and not self.facts.is_folded(node) and node.op_type != "Constant":
                self._visit(node)
        heads = {self.out.table.find(axis) for axis in self.out.parallel}
        for value in self.graph.inputs:
            if not value.is_initializer():
                reason = Reason(text=f"graph input `{value.name}`", rank=1, node=value.name)
                self._pin_interface(value, reason, heads)
        for value in self.graph.outputs:
            reason = Reason(text=f"graph output `{value.name}`", rank=0, node=value.name)
            self._pin_interface(value, reason, heads)
        return self.out

    def _pin_interface(self, value: onnx_ir.Value, reason: Reason, heads: set[int]) -> None:
        """Pin what a caller sees, but for the axes that may shrink: heads, of which the batch is none."""
        shape = self.facts.shape(value)
        if shape is None:
            return
        first = self.out.table.of(Operand(value), shape)
        for axis in range(len(shape)):
            if axis == 0 or self.out.table.find(first + axis) not in heads:
                self.out.table.pin(first + axis, reason)
            elif not self.options.allow_io:
                self.out.table.pin(first + axis, replace(reason, help=_HEADS_OF_CACHES))

    def _visit(self, node: onnx_ir.Node) -> None:
        if bodies(node):
            self._add_bodies(node)
            return
        op = find_op(node)
        if op is None:
            domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
            self._pin_node(node, f"op `{domain}{node.op_type}` has no rule", _NO_RULE)
            return
        if not isinstance(op, Refused) and (unknown := self._unknown(node)) is not None:
            self._pin_node(node, f"the shape of `{unknown.name}` is unknown", _NO_SHAPE)
            return
        if isinstance(op, Relayout) and (chain := find_chain(node, self.facts, self._site)) is not None:
            self._add_chain(chain)
            return
        try:
            rule = op.rule(self._site(node))
        except RuleError as error:
            self._pin_node(
                node, f"`{node.op_type}`: {error}", _AT_RUN_TIME if "run time" in str(error) else None
            )
            return
        self.out.rules[node], self.out.ops[node] = rule, op
        taking_part = {(side, i) for side, i, _ in rule.operands()} | {pin.operand for pin in rule.pins}
        numbers = {(side, i): self._operand(node, side, i) for side, i in sorted(taking_part)}
        self.out.numbers.update({(node, side, i): first for (side, i), first in numbers.items()})
        self._add_rule(node, rule, numbers)
        self._pin_bystanders(node, rule)
        self._note_contraction(node, op, rule)

    def _site(self, node: onnx_ir.Node) -> Site:
        return site_of(node, self.facts, self.graph)

    def _unknown(self, node: onnx_ir.Node) -> onnx_ir.Value | None:
        """An operand of unknown shape, which a rule could only take for one that is absent."""
        used = [v for v in node.outputs if v.uses() or v.is_graph_output()]
        return next((v for v in (*node.inputs, *used) if v is not None and v not in self.facts.shapes), None)

    def _operand(self, node: onnx_ir.Node, side: str, position: int) -> int:
        """Number of axis 0 of a node's operand."""
        value = node.inputs[position] if side == "in" else node.outputs[position]
        assert value is not None
        shape = self.facts.shapes[value]
        shared = (
            is_stored(value, self.facts)
            and len(shape) <= 1
            and len(value.uses()) > 1
            and TIED not in value.meta
        )
        return self.out.table.of(Operand(value, (node, position) if shared and side == "in" else None), shape)

    # -- pins ------------------------------------------------------------

    def _pin_value(self, value: onnx_ir.Value, reason: Reason) -> None:
        shape = self.facts.shape(value)
        if shape is not None:
            first = self.out.table.of(Operand(value), shape)
            for axis in range(len(shape)):
                self.out.table.pin(first + axis, reason)

    def _pin_node(self, node: onnx_ir.Node, text: str, help: str | None = None) -> None:
        reason = Reason(text=text, rank=2, node=node.name, help=help)
        for side, values in (("in", node.inputs), ("out", node.outputs)):
            for position, value in enumerate(values):
                shape = self.facts.shape(value)
                if value is not None and shape is not None:
                    first = self._operand(node, side, position)
                    for axis in range(len(shape)):
                        self.out.table.pin(first + axis, reason)

    def _pin_bystanders(self, node: onnx_ir.Node, rule: Rule) -> None:
        """Computed tensors (and weights of several users) that a rule leaves out keep their shape."""
        text = f"an operand that {node.op_type} reads as a whole"
        for value, operand in zip(node.inputs, rule.inputs, strict=False):
            shape = self.facts.shape(value)
            if value is None or operand is not None or shape is None:
                continue
            if not is_stored(value, self.facts) or (len(shape) > 1 and len(value.uses()) > 1):
                self._pin_value(value, Reason(text=text, rank=3, node=node.name))

    # -- bodies ------------------------------------------------------------

    def _add_bodies(self, node: onnx_ir.Node) -> None:
        """Tie what goes into and comes out of the bodies of a node; their nodes are visited by themselves."""
        wired = wirings(node, opset_of(self.graph, ""))
        if wired is None:
            self._pin_node(node, f"op `{node.op_type}` runs its body as it sees fit")
            for value in (v for body in bodies(node) for v in (*body.inputs, *body.outputs)):
                text = f"`{value.name}` passes between `{node.op_type}` and its body"
                self._pin_value(value, Reason(text=text, rank=2, node=node.name))
            return
        known = bool(node.inputs) and self.facts.number(node.inputs[0]) is not None
        taken = taken_branch(node, self.facts) if known else None
        for wiring in wired:
            for wire in wiring.wires:
                self._add_wire(node, wire, dead=taken is not None and taken is not wiring.body)

    def _add_wire(self, node: onnx_ir.Node, wire: Wire, *, dead: bool) -> None:
        """Tie two values, or pin them where they differ; what a branch makes that is never taken cannot pin."""
        outer = wire.outer(node)
        shape, inner = self.facts.shape(outer), self.facts.shape(wire.inner)
        if outer is None:
            return
        if is_stored(wire.inner, self.facts) or outer in self.facts.derived:
            text = f"`{wire.inner.name}` is a constant that passes between `{node.op_type}` and its body"
            self._part(None if dead else outer, wire.inner, Reason(text=text, rank=3, node=node.name))
            return
        stacked = None if shape is None else wire.axis(len(shape))
        axes = [axis for axis in range(len(shape or ())) if axis != stacked]
        if shape is None or inner != tuple(shape[axis] for axis in axes):
            reason = Reason(text=why_apart(node, wire, outer), rank=2, node=node.name)
            self._part(None if dead else outer, wire.inner, reason)
            return
        first, start = self._operand(node, wire.side, wire.position), self._start(wire.inner)
        for at, axis in enumerate(axes):
            self.out.table.union(first + axis, start + at)
            self.out.crossings.append((node, first + axis, start + at))
        if stacked is not None:
            text = f"the iterations of `{node.op_type}`"
            self.out.table.pin(first + stacked, Reason(text=text, rank=3, node=node.name))

    def _part(self, outer: onnx_ir.Value | None, inner: onnx_ir.Value, reason: Reason) -> None:
        """Neither of two values that cannot be tied may change its shape."""
        for value in (outer, inner):
            if value is not None:
                self._pin_value(value, reason)

    def _start(self, value: onnx_ir.Value) -> int:
        """Number of axis 0 of a value as a whole."""
        return self.out.table.of(Operand(value), self.facts.shapes[value])

    # -- rules ------------------------------------------------------------

    def _add_rule(self, node: onnx_ir.Node, rule: Rule, numbers: dict[tuple[str, int], int]) -> None:
        table = self.out.table
        factors: dict[str, int] = {}
        composite: list[tuple[int, tuple[str, ...]]] = []
        for side, position, operand in rule.operands():
            first = numbers[side, position]
            for axis, term in enumerate(operand):
                if len(term) == 1:
                    table.union(factors.setdefault(term[0], first + axis), first + axis)
                elif term:
                    composite.append((first + axis, term))
        for packing in rule.packed:
            if packing.factor not in factors:
                factors[packing.factor] = table.add(rule.sizes[packing.factor])
        self._add_composites(node, rule, factors, composite)
        for packing in rule.packed:
            axis, every = numbers[packing.operand] + packing.axis, np.arange(len(packing.index))
            self.out.ties.append(IndexTie(axis, every, factors[packing.factor], packing.index, node))
        for name, why in rule.fixed.items():
            if name in factors:
                table.pin(factors[name], Reason(text=why, rank=4, node=node.name))
        for pin in rule.pins:
            table.pin(numbers[pin.operand] + pin.axis, Reason(text=pin.reason, rank=3, node=node.name))
        for move in rule.maps:
            valid = np.flatnonzero(move.index >= 0)
            a, b = numbers["in", move.input] + move.axis, numbers["out", move.output] + move.output_axis
            self.out.ties.append(IndexTie(a, move.index[valid], b, valid, node))
            if len(slots := _filled(move, rule.maps)):
                self.out.fillings.append(Filling(a, b, slots, node))
        self.out.factors.update({(node, name): axis for name, axis in factors.items()})

    def _add_composites(
        self,
        node: onnx_ir.Node,
        rule: Rule,
        factors: dict[str, int],
        composite: list[tuple[int, tuple[str, ...]]],
    ) -> None:
        """Product axes: those of the same factors are permutations of each other, the rest wait for a
        carrying factor.
        """
        by_factors: dict[tuple[str, ...], list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
        for axis, term in composite:
            by_factors[tuple(sorted(term))].append((axis, term))
        representatives = []
        for (axis, term), *others in by_factors.values():
            for other, other_term in others:
                index = permutation(term, other_term, rule.sizes)
                self.out.ties.append(IndexTie(axis, index, other, np.arange(len(index)), node))
            representatives.append((axis, term))
        told_apart = {*factors, *rule.fixed, *rule.reduced}
        entangled = [r for r in representatives if _is_entangled(r[1], representatives, told_apart)]
        for name in (f for _, term in entangled for f in term):
            if name not in factors:
                factors[name] = self.out.table.add(rule.sizes[name])
        self.out.products += Product.split(node, entangled, factors, rule.fixed, rule.sizes)

    def _note_contraction(self, node: onnx_ir.Node, op: Op, rule: Rule) -> None:
        computed = [i for i, v in enumerate(node.inputs) if v is not None and v not in self.facts.constant]
        known = [i for i, v in enumerate(node.inputs) if v in self.facts.constant]
        over = [(n, self.out.factors[node, n]) for n in sorted(rule.reduced) if (node, n) in self.out.factors]
        for name, axis in over:
            if op.contested:
                text = f"the slots of an axis of {node.op_type} share one sum"
                self.out.table.pin(axis, Reason(text=text, rank=4, node=node.name))
            elif not op.exact(rule, name, known):
                self.out.statistic.append(axis)
        if op.linear and len(computed) > 1:
            shared = set.intersection(*({f for t in rule.inputs[i] or () for f in t} for i in computed))
            self._note_parallel(node, shared - rule.reduced)
        self._note_parallel(node, set(op.parallel.split()))

    def _note_parallel(self, node: onnx_ir.Node, factors: set[str]) -> None:
        self.out.parallel += [self.out.factors[node, f] for f in factors if (node, f) in self.out.factors]

    def _add_chain(self, chain: Chain) -> None:
        first, last = chain.nodes[0], chain.nodes[-1]
        self.fused.update(chain.nodes)
        self.out.chains[last] = chain
        numbers = {("in", 0): self._operand(first, "in", 0), ("out", 0): self._operand(last, "out", 0)}
        self._add_rule(last, chain.rule, numbers)


def _is_entangled(
    term: tuple[str, ...], terms: list[tuple[int, tuple[str, ...]]], told_apart: set[str]
) -> bool:
    """Whether a node tells the factors of a product axis apart: one of them stands elsewhere as well, is
    fixed, or is reduced over (the channels of one group of a GroupNorm). Otherwise any slot can go.
    """
    return any(f in told_apart or sum(f in other for _, other in terms) > 1 for f in term)


def is_stored(value: onnx_ir.Value, facts: Facts) -> bool:
    """Whether a value is an initializer, the output of a ``Constant`` node, or shape arithmetic that is
    known.
    """
    producer = value.producer()
    return (
        value.is_initializer()
        or value in facts.derived
        or (producer is not None and producer.op_type == "Constant")
    )


def _filled(move: IndexMap, maps: Sequence[IndexMap]) -> Index:
    """Slots of an output's axis that no input reaches; those that another input reaches are no padding."""
    place = (move.output, move.output_axis)
    reached = [other.index >= 0 for other in maps if (other.output, other.output_axis) == place]
    return np.flatnonzero(~np.logical_or.reduce(reached))
