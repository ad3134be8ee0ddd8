"""Channel groups: what is removed together, and what cannot be removed and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from prunec.ir.facts import Facts
from prunec.ir.registry import find_op, site_of
from prunec.ir.rule import Index
from prunec.ir.site import Site
from prunec.passes.coupling.axes import Operand, Reason, Use, node_label
from prunec.passes.coupling.collect import Relations, is_stored
from prunec.passes.coupling.solve import Bools, Components


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An axis of a parameter that a group cuts.

    Attributes:
        operand: the parameter (and the use, where one shared tensor may be cut differently for each).
        axis: the axis.
        units: per slot of the axis the group's unit that it belongs to, -1 for slots of other groups.
    """

    operand: Operand
    axis: int
    units: Index

    @property
    def name(self) -> str:
        """Name of the tensor."""
        return self.operand.value.name or ""

    @property
    def width(self) -> int:
        """How many slots of the axis one unit covers."""
        return int(np.count_nonzero(self.units == 0))

    @property
    def is_weight(self) -> bool:
        """Whether a layer multiplies by the tensor (and does not merely add or scale with it)."""
        ops = ((find_op(node), position) for node, position in self.uses())
        return any(op is not None and op.linear and op.role(position) == "weight" for op, position in ops)

    def uses(self) -> list[Use]:
        """Where the tensor is read: one place for one use of a shared tensor, else all of them."""
        if self.operand.use is not None:
            return [self.operand.use]
        return [(use.node, use.idx) for use in self.operand.value.uses()]

    def __str__(self) -> str:
        user = f"({node_label(self.operand.use[0])})" if self.operand.use else ""
        return f"@{self.name}{user}:{self.axis}{f'*{self.width}' if self.width > 1 else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Units that are alike: each covers the same number of slots on the same axes.

    Attributes:
        id: ``g1``, ``g2``, ... in the order of the graph.
        components: per unit its component.
        members: the parameter axes that a unit is removed from.
        frozen: why no unit may go, or None.
        statistic: an op takes a statistic over the group's units, so that removal changes it (LayerNorm, mean
            over channels).
    """

    id: str
    components: Index
    members: tuple[Member, ...]
    frozen: Reason | None = None
    statistic: bool = False

    @property
    def units(self) -> int:
        """How many units the group has."""
        return len(self.components)

    @property
    def width(self) -> int:
        """Slots that one unit covers on the axis where it covers most (64 for a head of size 64)."""
        return max((member.width for member in self.members), default=1)

    @property
    def channels(self) -> int:
        """Channels of a layer that one unit stands for: slots on the narrowest axis of a weight (64 for a head
        of size 64; 1 for a filter, also where a classifier reads 49 positions of it).
        """
        weights = [member for member in self.members if member.is_weight]
        matrices = [member for member in self.members if len(member.operand.value.shape or ()) > 1]
        return min((member.width for member in weights or matrices or self.members), default=1)

    @property
    def title(self) -> str:
        """What messages call it: ``group g1 (conv.weight and 3 more)``."""
        more = f" and {len(self.members) - 1:,} more" if len(self.members) > 1 else ""
        return f"group {self.id} ({self.members[0].name}{more})"

    def __str__(self) -> str:
        size = self.units or len(self.members[0].units)  # a class pinned as a whole has no components
        members = ", ".join(str(m) for m in self.members)
        return (
            f"group {self.id} size={size}{' statistic' if self.statistic else ''} {{{members}}}"
            f"{f' frozen: {self.frozen.text}' if self.frozen else ''}"
        )


@dataclass(slots=True)
class Coupling:
    """The result of the dependency analysis of one graph.

    Attributes:
        facts: shapes and numbers that it was made with.
        relations: rules and axes it was made from.
        components: which slots go together.
        groups: all groups that own parameters, prunable ones first in graph order, then frozen ones.
    """

    facts: Facts
    relations: Relations
    components: Components
    groups: tuple[Group, ...] = ()

    @property
    def prunable(self) -> tuple[Group, ...]:
        """The groups of which units may be removed."""
        return tuple(g for g in self.groups if g.frozen is None)

    def site(self, node: onnx_ir.Node) -> Site:
        """A node of the graph, or of a body in it, with the facts."""
        return site_of(node, self.facts, self.relations.graph)

    def labels(self, axis: int) -> Index | None:
        """Component of every slot of an axis (by number), None for an axis that is pinned as a whole."""
        root = self.relations.table.find(axis)
        start = self.components.start.get(root)
        if start is None:
            return None
        return self.components.labels[start : start + self.relations.table.sizes[axis]]

    def axis_sizes(self) -> Iterator[tuple[Index, int]]:
        """Per class of axes that slots can be removed from: the components of its slots, and its size."""
        for root, start in self.components.start.items():
            size = self.relations.table.sizes[root]
            yield self.components.labels[start : start + size], size


def build_groups(facts: Facts, relations: Relations, components: Components) -> Coupling:
    """Sort components into groups by what they cover."""
    coupling = Coupling(facts, relations, components)
    parameters = _parameter_axes(coupling)
    owned = np.zeros(len(components.free), bool)
    for _, _, labels in parameters:
        owned[labels] = True
    owned[_unread(coupling)] = False
    signature = _signatures(components, relations.table.sizes)
    statistic = _statistic_components(coupling)
    classes = _classes(np.flatnonzero(owned & components.free), signature, components)
    groups = [
        Group(id=f"g{n}", components=units, members=members, statistic=bool(statistic[units].any()))
        for n, (units, members) in enumerate(_with_members(classes, parameters, len(owned)), start=1)
    ]
    frozen = _frozen(coupling, owned & ~components.free, parameters, len(groups))
    coupling.groups = (*groups, *frozen)
    return coupling


def _parameter_axes(coupling: Coupling) -> list[tuple[Operand, int, Index]]:
    """The axes of constants that have free or pinned slots: (operand, axis, component of every slot)."""
    return [
        (operand, axis, labels)
        for operand, numbers in coupling.relations.table.operands.items()
        if is_parameter(operand.value, coupling.facts)
        for axis, number in enumerate(numbers)
        if (labels := coupling.labels(number)) is not None
    ]


def _unread(coupling: Coupling) -> Index:
    """Components that are one slot which one reader of a shared constant leaves out: the half of a bias vector, say,
    that a Slice drops, while another reads it. To remove it would copy the constant and gain nothing.
    """
    table, components = coupling.relations.table, coupling.components
    readers: dict[int, list[Operand]] = {}
    for operand, _, root in table.axes():
        if root in components.start:
            readers.setdefault(root, []).append(operand)
    single = np.bincount(components.labels, minlength=len(components.free)) == 1
    found = [np.zeros(0, np.int64)]
    for root, operands in readers.items():
        if len(operands) == 1 and operands[0].use is not None:
            start = components.start[root]
            labels = components.labels[start : start + table.sizes[root]]
            found.append(labels[single[labels]])
    return np.concatenate(found)


def is_parameter(value: onnx_ir.Value, facts: Facts) -> bool:
    """Whether a value is a constant tensor of the model that holds data, not shape arithmetic."""
    return is_stored(value, facts) and value not in facts.derived


def _signatures(components: Components, sizes: Sequence[int]) -> Index:
    """A number per component that tells which classes it covers, and how many slots of each."""
    rng = np.random.default_rng(0)
    total = np.zeros(len(components.free), np.uint64)
    for root, start in components.start.items():
        labels = components.labels[start : start + sizes[root]]
        token = rng.integers(1, 2**63, dtype=np.uint64)
        present, counts = np.unique(labels, return_counts=True)
        total[present] += token * counts.astype(np.uint64)
    return total.astype(np.int64)


def _classes(owned: Index, signature: Index, components: Components) -> list[Index]:
    """Components with equal signatures, ordered as they first appear in the graph."""
    if not len(owned):
        return []
    first = np.full(len(components.free), len(components.labels))
    np.minimum.at(first, components.labels, np.arange(len(components.labels)))
    owned = owned[np.argsort(first[owned], kind="stable")]
    _, seen, inverse = np.unique(signature[owned], return_index=True, return_inverse=True)
    return [owned[inverse == number] for number in np.argsort(seen, kind="stable")]


def _with_members(
    classes: Sequence[Index], parameters: list[tuple[Operand, int, Index]], count: int
) -> Iterator[tuple[Index, tuple[Member, ...]]]:
    """Every class with its members; one look at each axis, however many classes there are."""
    owner, number = np.full(count, -1), np.full(count, -1)
    for n, units in enumerate(classes):
        owner[units] = n
        number[units] = np.arange(len(units))
    members: list[list[Member]] = [[] for _ in classes]
    for operand, axis, labels in parameters:
        owners, units = owner[labels], number[labels]
        alone = (owners == owners[0]).all()  # nearly always: then there is nothing to tell apart
        for n in owners[:1].tolist() if alone else np.unique(owners).tolist():
            if n >= 0:
                mine = units if alone else np.where(owners == n, units, -1)
                members[n].append(Member(operand=operand, axis=axis, units=mine))
    return zip(classes, map(tuple, members), strict=True)


def _statistic_components(coupling: Coupling) -> Bools:
    marked = np.zeros(len(coupling.components.free), bool)
    for axis in coupling.relations.statistic:
        labels = coupling.labels(axis)
        if labels is not None:
            marked[labels] = True
    return marked


def _frozen(
    coupling: Coupling, pinned: Bools, parameters: list[tuple[Operand, int, Index]], offset: int
) -> Iterator[Group]:
    """Pinned components as groups of one reason each, and classes that are pinned as a whole."""
    by_reason: dict[Reason, list[int]] = {}
    for component in np.flatnonzero(pinned):
        by_reason.setdefault(coupling.components.reasons[int(component)], []).append(int(component))
    classes = [np.array(components) for components in by_reason.values()]
    found = _with_members(classes, parameters, len(pinned))
    for reason, (units, members) in zip(by_reason, found, strict=True):
        offset += 1
        yield Group(id=f"g{offset}", components=units, members=members, frozen=reason)
    for root, members in _pinned_classes(coupling).items():
        offset += 1
        yield Group(
            id=f"g{offset}",
            components=np.zeros(0, np.int64),
            members=members,
            frozen=coupling.relations.table.pinned[root],
        )


def _pinned_classes(coupling: Coupling) -> dict[int, tuple[Member, ...]]:
    """Parameter axes of classes that are pinned as a whole."""
    table = coupling.relations.table
    classes: dict[int, list[Member]] = {}
    for operand, numbers in table.operands.items():
        if is_parameter(operand.value, coupling.facts):
            for axis, root in enumerate(map(table.find, numbers)):
                if root in table.pinned and table.sizes[root] > 1:
                    member = Member(operand=operand, axis=axis, units=np.arange(table.sizes[root]))
                    classes.setdefault(root, []).append(member)
    return {root: tuple(members) for root, members in classes.items()}
