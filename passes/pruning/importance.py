"""How much a unit matters, judged by every member of its group.

A unit is not one filter: it is the rows that produce it, the scale that multiplies it and the columns that
consume it, in every layer
that shares it. With ``w`` running over all their weights, the importance of unit ``u`` is ``sum |w|`` (l1) or
``sqrt(sum w^2)`` (l2), the group norm of Fang et al. 2023 (DepGraph, eq. 6); ``bn-scale`` is ``sum |gamma|``
(Liu et al. 2017, network slimming); ``fpgm`` is the distance to all other units of the group (He et al. 2019,
eq. 4); ``taylor`` is ``sum (g w)^2`` over weights, scales and biases, what the loss changes by to first order where
a weight goes, squared (Molchanov et al. 2019, the group contribution of eq. 8); ``random`` is the baseline that
every criterion has to beat.
"""

from __future__ import annotations

from math import prod
from typing import Any, Literal, NoReturn

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError
from prunec.passes.coupling.groups import Coupling, Group, Member
from prunec.passes.pruning.gradients import Gradients

Criterion = Literal["l1", "l2", "bn-scale", "fpgm", "taylor", "random"]

Floats = NDArray[np.float64]

_BLOCK = 1 << 15
"""Weights that are summed at once: in float64 a quarter of a megabyte."""


class Importance:
    """Scores the units of groups; reads every weight tensor once.

    Quantised weights count with the numbers that they stand for: their scales may differ from channel to
    channel.
    """

    def __init__(
        self, coupling: Coupling, criterion: Criterion, seed: int = 0, gradients: Gradients | None = None
    ) -> None:
        self.coupling = coupling
        self.criterion = criterion
        self.gradients = gradients
        self.rng = np.random.default_rng(seed)
        self._sums: dict[tuple[onnx_ir.Value, int], tuple[Floats, ...]] = {}

    def score(self, group: Group) -> Floats:
        """Importance of every unit of a group, not normalised; larger means keep.

        Raises:
            UserError: a weight that counts is NaN or infinite, or no gradient says anything about the group.
        """
        if self.criterion == "random":
            return self.rng.random(group.units)
        scores = {"fpgm": self._distance, "taylor": self._loss_change}.get(self.criterion, self._sum)(group)
        if not np.isfinite(scores).all():
            self._refuse(group)
        return scores

    def _refuse(self, group: Group) -> NoReturn:
        """Say which weights cannot be judged, and how many of their elements are to blame."""
        names = {member.name: self._array(member) for member in self._judged(group)}
        counts = {name: int(np.count_nonzero(~np.isfinite(array))) for name, array in names.items()}
        ignored = next((name for name, count in counts.items() if count), next(iter(names)))
        broken = [f"`{name}` holds {count:,} NaN or infinite" for name, count in counts.items() if count]
        raise UserError(
            f"the importance of group {group.id} is not a number: {'; '.join(broken) or 'its weights overflow'}",
            help=[
                "these weights are broken: look at the training or the export",
                f"to prune the rest: prune-channels{{ignore={ignored}}}",
            ],
        )

    def _sum(self, group: Group) -> Floats:
        power = 2 if self.criterion == "l2" else 1
        total = np.zeros(group.units)
        for member in self._judged(group):
            total += self._sum_by_unit(member, self._power_sums(member, power), group.units)
        return np.sqrt(total) if power == 2 else total

    def _loss_change(self, group: Group) -> Floats:
        """What the loss changes by where a unit goes, squared, to first order: ``sum (g w)^2``."""
        assert self.gradients is not None, "the manager sees to it"
        total = np.zeros(group.units)
        judged = [m for m in group.members if self.gradients.knows(m.operand.value)]
        if not judged:
            self._refuse_unknown(group)
        for member in judged:
            change = self.gradients.of(member.operand.value) * _float_array(member.operand.value)
            total += self._sum_by_unit(member, power_sums(change, 2)[member.axis], group.units)
        return total

    def _refuse_unknown(self, group: Group) -> NoReturn:
        first = group.members[0].name
        raise UserError(
            f"no gradient is given for group {group.id} (`{first}` and {len(group.members) - 1} more)",
            help=[
                "unfreeze these parameters before the gradients are collected, and let the loss depend on them",
                f"to prune the rest: prune-channels{{criterion=taylor ignore={first}}}",
            ],
        )

    def _judged(self, group: Group) -> list[Member]:
        """The members that the criterion looks at; where it finds none of its kind, all of them."""
        roles = ("scale",) if self.criterion == "bn-scale" else ("weight", "scale")
        chosen = [m for m in group.members if self._role(m) in roles]
        return chosen or [m for m in group.members if _is_float(m.operand.value)]

    def _role(self, member: Member) -> str:
        """What the constant is to the op that reads it, looking through ops that only move it."""
        value, ops = member.operand.value, self.coupling.relations.ops
        roles = [ops[node].role(index) for node, index in member.uses() if node in ops]
        matrix = len(value.shape or ()) > 1
        if not _is_float(value):  # integers are weights where an op says so; else indices, or a bias
            return "weight" if matrix and "weight" in roles else "operand"
        if matrix or "weight" in roles:
            return "weight"
        return roles[0] if roles else "operand"

    def _array(self, member: Member) -> NDArray[Any]:
        """The numbers that a constant holds, or those that it stands for."""
        ops = self.coupling.relations.ops
        for node, index in member.uses():
            if node in ops and (array := ops[node].real(self.coupling.site(node), index)) is not None:
                return array
        return _float_array(member.operand.value)

    def _power_sums(self, member: Member, power: int) -> Floats:
        """Per slot of the member's axis the sum of ``|w|^power``."""
        key = (member.operand.value, power)
        if key not in self._sums:
            self._sums[key] = power_sums(self._array(member), power)
        return self._sums[key][member.axis]

    def _sum_by_unit(self, member: Member, values: Floats, units: int) -> Floats:
        mine = member.units >= 0
        return np.bincount(member.units[mine], values[mine], units).astype(np.float64)

    def _distance(self, group: Group) -> Floats:
        """Sum of distances to all other units: ``sum_v |w_u - w_v|``, over the group's weights laid side by
        side.
        """
        rows = [_unit_rows(m, self._array(m), group.units) for m in self._judged(group)]
        flat = np.concatenate([np.zeros((group.units, 0)), *rows], axis=1)
        squares = np.square(flat).sum(axis=1)
        distances = squares[:, None] + squares[None, :] - 2 * (flat @ flat.T)
        total: Floats = np.sqrt(np.maximum(distances, 0)).sum(axis=1)
        return total


def _float_array(value: onnx_ir.Value) -> NDArray[Any]:
    tensor = onnx_ir.convenience.get_const_tensor(value)
    assert tensor is not None
    array = tensor.numpy()
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _is_float(value: onnx_ir.Value) -> bool:
    tensor = onnx_ir.convenience.get_const_tensor(value)
    return tensor is not None and tensor.dtype.is_floating_point()


def power_sums(array: NDArray[Any], power: int) -> tuple[Floats, ...]:
    """For every axis, per slot the sum of ``|w|^power`` (1 or 2) over all other axes.

    One pass over the weights for all axes, in blocks that the processor's cache holds. Sums are in float64, and in an
    order that does not depend on the slot: equal slots have equal sums.
    """
    rows = array.reshape(len(array), prod(array.shape[1:]))
    first, rest = np.empty(len(rows)), np.zeros(rows.shape[1])
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        (np.square if power == 2 else np.abs)(block, out=block)
        block.sum(axis=1, out=first[start : start + step])
        rest += block.sum(axis=0)
    inner = rest.reshape(array.shape[1:])
    others = [tuple(a for a in range(inner.ndim) if a != axis) for axis in range(inner.ndim)]
    return (first, *(inner.sum(axis=axes) for axes in others))


def _unit_rows(member: Member, weights: NDArray[Any], units: int) -> Floats:
    """The member's weights as one row a unit (slots of a unit in their order)."""
    array = np.moveaxis(weights, member.axis, 0)
    mine = np.flatnonzero(member.units >= 0)
    order = mine[np.argsort(member.units[mine], kind="stable")]
    rows: Floats = array[order].reshape(units, -1).astype(np.float64)
    return rows
