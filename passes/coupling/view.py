"""How axes look in terms of channel groups: ``g1:8*16``, ``g4:64+g5:32``.

=================  =============================================================================
``g1:8``           the axis is the 8 channels of group g1
``g1:8*16``        every channel covers 16 slots in a row (a flattened image)
``12*g1:64``       the 64 channels stand there 12 times over (the same position of 12 heads)
``g4:64+g5:32``    first the channels of g4, then those of g5; a plain number is slots of no group
``g1:8~``          the channels stand in another order than in the group
``mix(g1:4,g2:4)`` channels of several groups alternate
=================  =============================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from prunec.ir.rule import Index
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.groups import Coupling, Group

NO_GROUP = -1
MOST_PIECES = 4
"""Pieces for every group of an axis above which the groups are said to alternate."""


@dataclass(frozen=True, slots=True)
class GroupView:
    """Where the groups of a coupling are.

    Attributes:
        coupling: the analysis.
        alone: ids of frozen groups that hold an axis of one parameter and nothing that is computed from the
            graph's inputs, such as the spatial axes of convolution weights.
    """

    coupling: Coupling
    alone: frozenset[str]
    _group: Index
    _unit: Index
    _pinned: Mapping[int, int]

    @classmethod
    def of(cls, coupling: Coupling) -> GroupView:
        """The view of a coupling; costs a walk over all axes."""
        table = coupling.relations.table
        count = len(coupling.components.free)
        number, unit = np.full(count, NO_GROUP), np.zeros(count, np.int64)
        pinned: dict[int, int] = {}
        for position, group in enumerate(coupling.groups):
            number[group.components] = position
            unit[group.components] = np.arange(group.units)
            if not group.units:
                member = group.members[0]
                pinned[table.find(table.operands[member.operand][member.axis])] = position
        return cls(coupling, _alone(coupling, pinned), number, unit, pinned)

    def groups(self, axis: int, slots: Index | None = None) -> list[Group]:
        """The groups that an axis (by number), or some of its slots, belong to, in the order of their ids."""
        labels = self.coupling.labels(axis)
        if labels is None:
            position = self._pinned.get(self.coupling.relations.table.find(axis))
            return [] if position is None else [self.coupling.groups[position]]
        numbers = np.unique(self._group[labels if slots is None else labels[slots]])
        return [self.coupling.groups[int(i)] for i in numbers if i != NO_GROUP]

    def numbers(self, value: onnx_ir.Value, use: tuple[onnx_ir.Node, int] | None = None) -> range | None:
        """The axis numbers of a value, or of one use of a shared constant; None where it takes no part."""
        operands = self.coupling.relations.table.operands
        return operands.get(Operand(value, use)) or operands.get(Operand(value))

    def text(self, axis: int) -> str | None:
        """The axis (by number) as text, None where it belongs to no group worth a name."""
        labels = self.coupling.labels(axis)
        if labels is None:
            found = [g for g in self.groups(axis) if g.id not in self.alone]
            return f"{found[0].id}:{self.coupling.relations.table.sizes[axis]}" if found else None
        numbers = self._group[labels]
        if (numbers == NO_GROUP).all():
            return None
        ends = np.flatnonzero(np.diff(numbers, append=NO_GROUP - 1)) + 1
        pieces = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
        if len(pieces) > MOST_PIECES * len(np.unique(numbers)):
            return f"mix({','.join(self._shares(numbers))})"
        return "+".join(
            self._piece(int(numbers[start]), self._unit[labels[start:end]]) for start, end in pieces
        )

    def _shares(self, numbers: Index) -> Iterator[str]:
        for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
            yield str(count) if number == NO_GROUP else f"{self.coupling.groups[int(number)].id}:{count}"

    def _piece(self, number: int, units: Index) -> str:
        if number == NO_GROUP:
            return str(len(units))
        group = self.coupling.groups[number]
        return f"{group.id}:{len(units)}" if group.frozen else _pattern(group.id, units)


def _alone(coupling: Coupling, pinned: Mapping[int, int]) -> frozenset[str]:
    """Ids of the groups that are pinned as a whole and hold one parameter and no data."""
    tied = {at for at in pinned.values() if len(coupling.groups[at].members) > 1}
    for operand, _, root in coupling.relations.table.axes():
        if root in pinned and operand.value not in coupling.facts.constant:
            tied.add(pinned[root])
    return frozenset(coupling.groups[at].id for at in pinned.values() if at not in tied)


def _pattern(name: str, units: Index) -> str:
    """``outer*name:count*inner``: every unit ``inner`` times in a row, all of that ``outer`` times."""
    inner = int(np.argmax(np.append(units != units[0], True)))
    count = len(np.unique(units))
    order = units[: count * inner : inner]
    outer, rest = divmod(len(units), count * inner)
    if rest or not np.array_equal(units, np.tile(np.repeat(order, inner), outer)):
        return f"{name}:{len(units)}~"
    moved = "~" if np.any(np.diff(order) < 0) else ""
    return f"{f'{outer}*' if outer > 1 else ''}{name}:{count}{f'*{inner}' if inner > 1 else ''}{moved}"
