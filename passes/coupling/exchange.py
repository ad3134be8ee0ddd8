"""Which units of a channel group may exchange places, and what an exchange does to every axis.

Removing a unit asks only which slots go together. Exchanging two asks for more: every op has to treat both
alike. Ops that work slot by slot or sum over slots do; ops that depend on the order, such as TopK along an
axis, pin it; and axes that an op makes in an order of its own stay. What else can tell units apart is data
movement: which slots of one axis an index map ties to which of another.

The slots that a unit has on one class of axes are counted in ascending order: their *ranks*. An exchange gives
every place of a unit the slot of the same rank of the unit that comes there. A tie between two axes stays true
under it if it ties the same ranks for both units. So units are of one class if they are of one group and all
ties look the same in terms of ranks. A unit of several slots moves as a block; the slots of a unit on an axis
that is a product of factors have the same coordinates on the other factors, in the same order, for all units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from prunec.ir.rule import Index
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.coupling.solve import Bools

STAYS = -1
"""The class of units that keep their places."""

Codes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Ranks:
    """The slots of every class of axes, in order of their components.

    Attributes:
        coupling: the analysis.
        order: per class of axes (by root) its slots, sorted by component.
        component: the components of these slots, ascending.
        rank: per class and slot how many slots of the same component stand before it.
    """

    coupling: Coupling
    order: dict[int, Index] = field(default_factory=dict)
    component: dict[int, Index] = field(default_factory=dict)
    rank: dict[int, Index] = field(default_factory=dict)

    @classmethod
    def of(cls, coupling: Coupling) -> Ranks:
        """The ranks of all slots of a coupling."""
        ranks = cls(coupling)
        for root in coupling.components.start:
            labels = coupling.labels(root)
            assert labels is not None
            order = np.argsort(labels, kind="stable")
            component, rank = labels[order], np.empty(len(labels), np.int64)
            rank[order] = np.arange(len(labels)) - np.searchsorted(component, component)
            ranks.order[root], ranks.component[root], ranks.rank[root] = order, component, rank
        return ranks


def exchange_classes(coupling: Coupling, groups: Sequence[Group], ranks: Ranks | None = None) -> list[Index]:
    """Per group and unit the number of the class of units that it may exchange places with.

    Args:
        coupling: the analysis.
        groups: prunable groups of it.
        ranks: of the same coupling, where they are at hand.

    Returns:
        Per group ``[units]``: equal numbers may exchange places; ``STAYS`` for units that may not move.
    """
    codes = _tie_codes(ranks or Ranks.of(coupling))
    stays = _ordered(coupling)
    found = []
    for group in groups:
        classes = np.unique(codes[group.components], return_inverse=True)[1].astype(np.int64)
        found.append(np.where(stays[group.components], STAYS, classes))
    return found


def _tie_codes(ranks: Ranks) -> Codes:
    """A number per component that tells which ranks of which axes are tied by which ties."""
    coupling = ranks.coupling
    codes = np.zeros(len(coupling.components.free), np.uint64)
    table = coupling.relations.table
    for number, tie in enumerate(coupling.relations.ties):
        a, b = table.find(tie.a), table.find(tie.b)
        labels = coupling.labels(a)
        if labels is None or b not in ranks.rank:
            continue
        pair = ranks.rank[a][tie.a_index] * len(ranks.rank[b]) + ranks.rank[b][tie.b_index]
        np.add.at(codes, labels[tie.a_index], _mixed(pair.astype(np.uint64) + np.uint64(number << 40)))
    return codes


def _mixed(numbers: Codes) -> Codes:
    """Numbers scattered over 64 bits, so that sums of them tell sets apart (Steele et al., 2014, splitmix64)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _ordered(coupling: Coupling) -> Bools:
    """Per component whether its slots have an order of their own, which an exchange would not change with them:
    numbers that shape arithmetic computes again whenever the graph runs, or an axis that an op makes (the taps
    of a constant table of indices).
    """
    ordered = np.zeros(len(coupling.components.free), bool)
    for number in (*_computed_axes(coupling), *_made_axes(coupling)):
        labels = coupling.labels(number)
        if labels is not None:
            ordered[labels] = True
    return ordered


def _computed_axes(coupling: Coupling) -> Iterator[int]:
    """The axes of shape arithmetic that data ops read."""
    for operand, numbers in coupling.relations.table.operands.items():
        if operand.value in coupling.facts.derived:
            yield from numbers


def _made_axes(coupling: Coupling) -> Iterator[int]:
    """The axes of outputs with a factor that no input has."""
    relations = coupling.relations
    for node, rule in relations.rules.items():
        if relations.ops[node].uniform:
            continue
        known = {f for operand in rule.inputs for term in operand or () for f in term}
        known |= {packing.factor for packing in rule.packed}
        for position, operand in enumerate(rule.outputs):
            for axis, term in enumerate(operand or ()):
                if not known.issuperset(term):
                    yield relations.numbers[node, "out", position] + axis


@dataclass(slots=True)
class Exchange:
    """An exchange of places between units.

    Attributes:
        ranks: of the coupling.
        content: per component the one whose slots come to its places.
    """

    ranks: Ranks
    content: Index
    _slots: dict[int, Index | None] = field(default_factory=dict)

    @classmethod
    def of(cls, ranks: Ranks, groups: Sequence[Group], orders: Sequence[Index]) -> Exchange:
        """The exchange in which unit ``orders[i][k]`` of group ``i`` comes to the places of unit ``k``."""
        content = np.arange(len(ranks.coupling.components.free))
        for group, order in zip(groups, orders, strict=True):
            content[group.components] = group.components[order]
        return cls(ranks, content)

    def slots(self, number: int) -> Index | None:
        """For every slot of an axis (by number) the slot that comes to its place; None where none moves."""
        root = self.ranks.coupling.relations.table.find(number)
        if root not in self._slots:
            self._slots[root] = self._find_slots(root)
        return self._slots[root]

    def _find_slots(self, root: int) -> Index | None:
        labels = self.ranks.coupling.labels(root)
        if labels is None or np.array_equal(self.content[labels], labels):
            return None
        ranks = self.ranks
        begin = np.searchsorted(ranks.component[root], self.content[labels])
        slots: Index = ranks.order[root][begin + ranks.rank[root]]
        return slots

    def axes(self, operand: Operand) -> dict[int, Index]:
        """The axes of an operand on which slots move, with the slot that comes to every place."""
        numbers = self.ranks.coupling.relations.table.operands.get(operand, range(0))
        return {a: slots for a, number in enumerate(numbers) if (slots := self.slots(number)) is not None}
