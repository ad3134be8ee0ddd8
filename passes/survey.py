"""What there is to know before a model is pruned: what each group and each layer carries, what is pinned.

A parameter (one number of a tensor) is *prunable* where it lies in a slot that some group may lose. Of a
tensor with a share ``f_a`` of free slots on axis ``a``, that is a share of ``1 - prod(1 - f_a)``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import onnx_ir

from prunec.ir.registry import find_op
from prunec.ir.scopes import bodies, walk
from prunec.passes.cost import Cost, LayerCost, measure, weight_size, weights_of
from prunec.passes.coupling.axes import Use
from prunec.passes.coupling.groups import Coupling, Group, Member
from prunec.passes.coupling.view import GroupView
from prunec.passes.sparsity.eligibility import Eligibility, assess
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.sparsity.measure import LayerSparsity, measure_sparsity


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFacts:
    """A group that may be pruned.

    Attributes:
        group: the group.
        unit_parameters: parameters that go with one unit.
        parameters: parameters that lie in the group.
        writers: nodes whose weights make the group's channels, in graph order.
        readers: nodes whose weights sum over them.
    """

    group: Group
    unit_parameters: int
    parameters: int
    writers: tuple[onnx_ir.Node, ...]
    readers: tuple[onnx_ir.Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFacts:
    """Frozen groups of one reason.

    Attributes:
        reason: why they are frozen; where it names places, the first of them.
        places: how many different places have this reason.
        groups: ids of the groups.
        axes: how many parameter axes they hold.
        tensors: names of the tensors, in graph order.
        locked: parameters of these tensors that lie in no slot that may go.
        alone: whether all of the axes are tied to nothing else (spatial axes of weights, say).
        help: what the user can do about it, if anything.
    """

    reason: str
    places: int
    groups: tuple[str, ...]
    axes: int
    tensors: tuple[str, ...]
    locked: int
    alone: bool
    help: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """A node that has parameters or multiplies.

    Attributes:
        node: the node.
        cost: what it costs.
        outputs: groups of its output channels.
        inputs: groups of the channels that it sums over.
        prunable: share of its parameters that lie in slots that may go; None where it has no parameters.
        eligibility: what sparse tensor cores can make of it; None where it is no contraction.
        sparsity: zeros in its weight; None where it has none that could hold a pattern.
    """

    node: onnx_ir.Node
    cost: LayerCost
    outputs: tuple[Group, ...]
    inputs: tuple[Group, ...]
    prunable: float | None
    eligibility: Eligibility | None
    sparsity: LayerSparsity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All of it.

    Attributes:
        coupling: the analysis that it was made from.
        cost: cost of the model.
        prunable: parameters that lie in slots that may go.
        groups: groups that may be pruned, in graph order.
        pinned: frozen groups that hold weights, by reason; those that lock most parameters first.
        layers: nodes that have parameters or multiply, in graph order.
        unknown_ops: ops that have no rule, and how often they occur.
    """

    coupling: Coupling
    cost: Cost
    prunable: int
    groups: tuple[GroupFacts, ...]
    pinned: tuple[PinnedFacts, ...]
    layers: tuple[LayerFacts, ...]
    unknown_ops: Mapping[str, int]


def survey(model: onnx_ir.Model, coupling: Coupling, cost: Cost | None = None) -> Survey:
    """Look a model over.

    Args:
        model: the model.
        coupling: its channel groups.
        cost: its cost, where it is at hand already.
    """
    return _Surveyor(model, coupling, cost or measure(model, coupling)).run()


class _Surveyor:
    def __init__(self, model: onnx_ir.Model, coupling: Coupling, cost: Cost) -> None:
        self.model = model
        self.coupling = coupling
        self.cost = cost
        self.view = GroupView.of(coupling)
        self.sizes = {v: n for v in coupling.facts.shapes if (n := weight_size(v, coupling.facts))}
        self.free = self._free_shares()
        self.holders = {node for node, _, _ in coupling.relations.crossings}
        layers = find_layers(model, coupling.facts)
        self.eligibility = {row.node: row for row in assess(model, coupling.facts, layers)}

    def run(self) -> Survey:
        layers = tuple(self._layers())
        return Survey(
            coupling=self.coupling,
            cost=self.cost,
            prunable=round(sum((layer.prunable or 0) * layer.cost.parameters for layer in layers)),
            groups=tuple(map(self._group, self.coupling.prunable)),
            pinned=tuple(sorted(self._pinned(), key=lambda p: (p.alone, -p.locked, -p.axes))),
            layers=layers,
            unknown_ops=Counter(_op_name(node) for node in walk(self.model.graph) if self._is_unknown(node)),
        )

    def _is_unknown(self, node: onnx_ir.Node) -> bool:
        wired = bodies(node) and node in self.holders
        if node.op_type == "Constant" or wired or self.coupling.facts.is_folded(node):
            return False
        return find_op(node) is None

    # -- parameters ------------------------------------------------------------

    def _free_shares(self) -> dict[onnx_ir.Value, float]:
        """Share of every weight's parameters that lie in a free slot."""
        kept: dict[onnx_ir.Value, float] = defaultdict(lambda: 1.0)
        table = self.coupling.relations.table
        for operand, numbers in table.operands.items():
            if operand.value in self.sizes:
                share = prod(1 - self._free(number) for number in numbers)
                kept[operand.value] = min(kept[operand.value], share)
        return {value: 1 - share for value, share in kept.items()}

    def _free(self, number: int) -> float:
        labels = self.coupling.labels(number)
        return (
            0.0 if labels is None or not len(labels) else float(self.coupling.components.free[labels].mean())
        )

    def _group(self, group: Group) -> GroupFacts:
        writers, readers = self._neighbours(group)
        covered = {id(m): int((m.units >= 0).sum()) for m in group.members}
        return GroupFacts(
            group=group,
            unit_parameters=self._touched(group.members, {id(m): m.width for m in group.members}),
            parameters=self._touched(group.members, covered),
            writers=writers,
            readers=readers,
        )

    def _touched(self, members: Iterable[Member], slots: Mapping[int, int]) -> int:
        """Parameters on so many slots of each member; a tensor with two axes in a group counts once."""
        kept: dict[onnx_ir.Value, float] = defaultdict(lambda: 1.0)
        for member in members:
            if member.operand.value in self.sizes:
                kept[member.operand.value] *= 1 - slots[id(member)] / len(member.units)
        return round(sum(self.sizes[value] * (1 - share) for value, share in kept.items()))

    def _neighbours(self, group: Group) -> tuple[tuple[onnx_ir.Node, ...], tuple[onnx_ir.Node, ...]]:
        """The contractions that make a group's channels and those that sum over them."""
        relations = self.coupling.relations
        writers: dict[onnx_ir.Node, None] = {}
        readers: dict[onnx_ir.Node, None] = {}
        pending = [(use, member.axis) for member in group.members for use in member.uses()]
        for (node, position), axis in pending:
            rule = relations.rules.get(node)
            operand = rule.inputs[position] if rule is not None else None
            if rule is None or operand is None:
                continue
            if relations.ops[node].linear:
                term = operand[axis]
                (readers if term and set(term) <= rule.reduced else writers)[node] = None
            elif self._looks_up(node, position):
                writers[node] = None
            elif node.outputs[0] in self.coupling.facts.constant:
                onward = self._onward(node.outputs[0], int(group.components[0]))
                pending += [step for step in onward if step not in pending]
        return tuple(writers), tuple(readers)

    def _looks_up(self, node: onnx_ir.Node, position: int) -> bool:
        """Whether a node takes rows of a weight by indices that the model computes, as an embedding does."""
        constant = self.coupling.facts.constant
        weight = self.coupling.relations.ops[node].roles.get(position) == "weight"
        return weight and all(
            v is None or v not in constant for i, v in enumerate(node.inputs) if i != position
        )

    def _onward(self, value: onnx_ir.Value, component: int) -> Iterator[tuple[Use, int]]:
        """The uses of a weight that was dequantised or transposed, on the axes that hold a component."""
        for axis, number in enumerate(self.view.numbers(value) or ()):
            labels = self.coupling.labels(number)
            if labels is not None and (labels == component).any():
                yield from (((use.node, use.idx), axis) for use in value.uses())

    # -- what is pinned ------------------------------------------------------------

    def _pinned(self) -> Iterator[PinnedFacts]:
        kinds: dict[tuple[str, bool], list[Group]] = defaultdict(list)
        for group in self.coupling.groups:
            if group.frozen is not None and any(m.operand.value in self.sizes for m in group.members):
                kinds[_kind(group), group.id in self.view.alone].append(group)
        for (_, alone), groups in kinds.items():
            members = [m for g in groups for m in g.members if m.operand.value in self.sizes]
            tensors = {m.operand.value: m.name for m in members}
            reasons = dict.fromkeys(g.frozen.text for g in groups if g.frozen is not None)
            yield PinnedFacts(
                reason=next(iter(reasons)),
                places=len(reasons),
                groups=tuple(g.id for g in groups),
                axes=len(members),
                tensors=tuple(tensors.values()),
                locked=round(sum(self.sizes[v] * (1 - self.free.get(v, 0.0)) for v in tensors)),
                alone=alone,
                help=next((g.frozen.help for g in groups if g.frozen is not None and g.frozen.help), None),
            )

    # -- layers ------------------------------------------------------------

    def _layers(self) -> Iterator[LayerFacts]:
        nodes = {node.outputs[0].name or "": node for node in walk(self.model.graph) if node.outputs}
        facts, seen = self.coupling.facts, set[onnx_ir.Value]()
        for cost in self.cost.layers:
            node = nodes[cost.output]
            fresh = {v for v in weights_of(node, facts) if v in self.sizes and v not in seen}
            seen |= fresh
            free = sum(self.sizes[v] * self.free.get(v, 0.0) for v in fresh)
            inputs, outputs = self._sides(node)
            eligibility = self.eligibility.get(node)
            layer = None if eligibility is None else eligibility.layer
            yield LayerFacts(
                node=node,
                cost=cost,
                outputs=outputs,
                inputs=inputs,
                prunable=free / cost.parameters if cost.parameters else None,
                eligibility=eligibility,
                sparsity=None if layer is None else measure_sparsity(layer),
            )

    def _sides(self, node: onnx_ir.Node) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """The groups that a contraction sums over, and the others; those of its weights, where it has any."""
        relations = self.coupling.relations
        rule, op = relations.rules.get(node), relations.ops.get(node)
        if rule is None or op is None:
            return (), ()
        reduced = rule.reduced if op.linear else frozenset()
        operands = [
            (side, i, operand)
            for side, i, operand in rule.operands()
            if side == "in" and node.inputs[i] in self.coupling.facts.constant
        ]
        summed: dict[str, Group] = {}
        others: dict[str, Group] = {}
        for side, position, operand in operands or list(rule.operands()):
            for axis, term in enumerate(operand):
                found = self.view.groups(relations.numbers[node, side, position] + axis)
                into = summed if term and set(term) <= reduced else others
                into.update({g.id: g for g in found if g.id not in self.view.alone})
        return tuple(summed.values()), tuple(others.values())


def _op_name(node: onnx_ir.Node) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _kind(group: Group) -> str:
    """The reason without the names of places; an op's name stays."""
    assert group.frozen is not None
    return re.sub(r"(op )?`[^`]*`", lambda match: match[0] if match[1] else "``", group.frozen.text)
