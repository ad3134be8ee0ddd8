"""How much a unit matters on data: what it adds to activations, or what the layers that read it lose without it.

``activation`` is the group norm of ``|w| * |x|`` over the weights that read a unit, with ``|x|`` the norm of what the
weight is multiplied with on the samples (the metric of Wanda; Sun et al., 2023, eq. 1), relative to that of all
weights of the layer. Of units that no layer reads (the queries of attention) the weights that make them count.

``reconstruction`` asks what is left of the outputs of the layers that read a unit when it goes and their other
weights make up for it as well as they can. With the covariance ``H`` of what such a layer reads, its inverse ``G``,
and ``u`` the columns of a unit, that costs

    tr(W_u (G_uu)^-1 W_u^T),        and then    W -= W_u (G_uu)^-1 G_u,    G -= G_u^T (G_uu)^-1 G_u

(the optimal brain surgeon of Hassibi and Stork, 1992, eq. 5, for blocks of columns). Units are taken out one after
the other, the cheapest first, so that of two alike one goes and the other is then dear. Costs are relative to the
energy of each layer's outputs, and add up over the layers that read the group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.passes.base import Context
from prunec.passes.calibration.moments import ROOM, Moments, bytes_of_products
from prunec.passes.calibration.packing import packed
from prunec.passes.coupling.groups import Coupling, Group, Member
from prunec.passes.pruning.importance import Importance
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.statistics import LayerStatistics, layer_inputs

Array = NDArray[Any]
Floats = NDArray[np.float64]

DAMPING = 1e-2
"""Added to the diagonal of a covariance, as a share of its mean."""


def observed_scores(
    coupling: Coupling,
    groups: Sequence[Group],
    criterion: Literal["activation", "reconstruction"],
    context: Context,
    *,
    origin: str,
    share: float = 1.0,
) -> list[Floats]:
    """The importance of every unit of groups, larger means keep.

    Args:
        coupling: the analysis that the groups come from.
        groups: the groups.
        criterion: as above; ``activation`` stands in for ``reconstruction`` where no layer reads a group (the
            queries of attention), and the norm of the weights where no layer of it can be observed.
        context: has the data, and takes remarks.
        origin: who makes them.
        share: of a group's units that may go; the order of the others is not looked for.
    """

    def score(group: Group, layers: Sequence[_Seen]) -> Floats:
        readers = _all_readers(layers) if criterion == "reconstruction" else []
        if readers:
            return _Elimination(readers, group.units).run(int(np.ceil(share * group.units)))
        if (found := _activation(layers, group.units)) is not None and np.isfinite(found).all():
            return found
        context.remarks.missed(
            origin, f"{group.title} is judged by `l2`", reason="what its layers read cannot be observed"
        )
        return Importance(coupling, "l2", context.seed).score(group)

    return _Observed(groups, context, origin=origin, diagonal=criterion == "activation").judge(score)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A layer of a group, and what it reads on the samples."""

    member: Member
    layer: SparseLayer
    moments: Moments


_Part = Sequence[tuple[Group, Sequence[tuple[Member, onnx_ir.Value]]]]
_Score = Callable[[Group, Sequence[_Seen]], Floats]


class _Observed:
    """What layers of groups read.

    Args:
        groups: to judge.
        context: has the model, the data, and takes remarks.
        origin: who makes them.
        diagonal: norms are enough.
    """

    def __init__(self, groups: Sequence[Group], context: Context, *, origin: str, diagonal: bool) -> None:
        wanted = {member.operand.value for group in groups for member in group.members}
        layers = [layer for layer in context.analyses.layers().layers if layer.value in wanted]
        self._groups = groups
        self._context = context
        self._diagonal = diagonal
        self._inputs = layer_inputs(layers, context, origin=origin)
        self._layers = {layer.value: layer for layer in layers if layer.node in self._inputs}

    def judge(self, score: _Score) -> list[Floats]:
        """The score of every group by its layers: those that read it, if there are any."""
        members = [self._members(group) for group in self._groups]
        numbered = ((at, {value: self._size(value) for _, value in mine}) for at, mine in enumerate(members))
        parts = ([(self._groups[at], members[at]) for at in part] for part in packed(numbered, ROOM))
        return [found for part in parts for found in self._judged(part, score)]

    def _judged(self, part: _Part, score: _Score) -> list[Floats]:
        """The scores of groups whose layers are observed together, and forgotten at the end."""
        values = {value for _, members in part for _, value in members}
        layers = [layer for value, layer in self._layers.items() if value in values]
        statistics = LayerStatistics(
            self._context.analyses.module,
            layers,
            self._inputs,
            self._context,
            diagonal=self._diagonal,
            judged=False,
        )
        moments = {
            layer.value: found.fit for layer in layers if (found := statistics.take(layer)) is not None
        }
        return [
            score(group, [_Seen(member=m, layer=self._layers[v], moments=moments[v]) for m, v in members])
            for group, members in part
        ]

    def _members(self, group: Group) -> list[tuple[Member, onnx_ir.Value]]:
        """What tells of a group: the weights that read it, or where no such layer is observed, all."""
        known = [(m, m.operand.value) for m in group.members if m.operand.value in self._layers]
        return [(m, v) for m, v in known if _reads(m, self._layers[v])] or known

    def _size(self, value: onnx_ir.Value) -> int:
        """Bytes that are held for a layer."""
        groups, _, positions, inputs = self._layers[value].shape
        return bytes_of_products(groups, positions * inputs, diagonal=self._diagonal, itemsize=4)


def _reads(member: Member, layer: SparseLayer) -> bool:
    """Whether a group's units are what a layer reads, not what it makes."""
    return member.axis in layer.layout.axes("input")


def _activation(layers: Sequence[_Seen], units: int) -> Floats | None:
    """The score ``activation``; None where no layer of the group is observed."""
    energies = [_energy(seen.member, seen.layer, seen.moments, units) for seen in layers]
    return np.sqrt(np.sum(energies, axis=0)) if energies else None


def _all_readers(layers: Sequence[_Seen]) -> list[_Reader]:
    """The layers that read a group, as far as products of their inputs are known."""
    return [
        reader
        for seen in layers
        if not seen.moments.diagonal and _reads(seen.member, seen.layer)
        for reader in _readers(seen.member, seen.layer, seen.moments)
    ]


def _energy(member: Member, layer: SparseLayer, moments: Moments, units: int) -> Floats:
    """Per unit the sum of ``(w x)^2`` over its slots of one weight, relative to that over all of the weight."""
    groups, _, positions, inputs = layer.shape
    norms = moments.norms().astype(np.float64).reshape(groups, 1, positions, inputs)
    energy = layer.layout.fold(np.square(layer.weights() * norms))
    slots = energy.sum(axis=tuple(axis for axis in range(energy.ndim) if axis != member.axis))
    mine = member.units >= 0
    total = float(energy.sum()) or 1.0
    return np.bincount(member.units[mine], slots[mine], units) / total


@dataclass(slots=True)
class _Reader:
    """One group of a layer that reads units: its weights, and the inverse covariance of what it reads.

    Attributes:
        weights: [output, column], of the columns that are units.
        inverse: [column, column], of these.
        columns: of every unit that it reads, [unit, column of the unit].
        units: the units that it reads.
        energy: of its outputs, before anything goes.
    """

    weights: Floats
    inverse: Floats
    columns: NDArray[np.int64]
    units: NDArray[np.int64]
    energy: float

    def costs(self, units: int) -> Floats:
        """What it costs to take each unit out."""
        blocks = self.inverse[self.columns[:, :, None], self.columns[:, None, :]]
        weights = np.moveaxis(self.weights[:, self.columns], 0, 2)  # [unit, column, output]
        lost = np.einsum("uco,uco->u", weights, np.linalg.solve(blocks, weights))
        costs = np.zeros(units)
        costs[self.units] = np.maximum(lost, 0) / self.energy
        return costs

    def remove(self, unit: int) -> None:
        """Take a unit out, the other weights making up for it."""
        [where] = np.nonzero(self.units == unit)
        if not len(where):
            return
        [gone] = self.columns[where]
        share = np.linalg.solve(self.inverse[np.ix_(gone, gone)], self.inverse[gone])
        self.weights = self.weights - self.weights[:, gone] @ share
        self.inverse = self.inverse - self.inverse[:, gone] @ share
        self.weights[:, gone] = 0
        self.inverse[gone, :] = self.inverse[:, gone] = 0
        self.inverse[gone, gone] = 1
        self.columns, self.units = np.delete(self.columns, where, 0), np.delete(self.units, where)


def _readers(member: Member, layer: SparseLayer, moments: Moments) -> Iterator[_Reader]:
    """What reads the units through one weight, group by group of the layer."""
    shape = [1] * len(layer.layout.stored_shape)
    shape[member.axis] = -1
    stored = np.broadcast_to(member.units.reshape(shape), layer.layout.stored_shape)
    unit_of = layer.layout.unfold(stored)[:, 0].reshape(layer.shape[0], -1)
    weights = layer.weights().reshape(*layer.shape[:2], -1).astype(np.float64)
    for matrix, products, owner in zip(weights, moments.covariance(), unit_of, strict=True):
        read = np.unique(owner[owner >= 0])
        energy = float(np.einsum("oc,oc->", matrix @ products, matrix))
        scale = float(np.trace(products)) / len(products)
        if not len(read) or not (energy > 0 and scale > 0) or not np.isfinite(energy):
            continue
        inverse = _damped_inverse(products, scale)
        if not (mine := owner >= 0).all():  # columns of other groups change, and are not asked for
            matrix, inverse, owner = matrix[:, mine], inverse[np.ix_(mine, mine)], owner[mine]
        yield _Reader(
            weights=matrix,
            inverse=inverse,
            columns=np.stack([np.flatnonzero(owner == unit) for unit in read]),
            units=read,
            energy=energy,
        )


def _damped_inverse(products: Floats, scale: float) -> Floats:
    """The inverse of a covariance with a share of its mean variance added, tenfold until rounding leaves one."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    damping, unit = DAMPING, np.eye(len(products))
    while True:
        try:
            return np.asarray(cho_solve(cho_factor(products + damping * scale * unit), unit))
        except LinAlgError:
            damping *= 10


class _Elimination:
    """Takes units out, the cheapest first.

    Args:
        readers: what reads the units.
        units: how many there are.
    """

    def __init__(self, readers: Sequence[_Reader], units: int) -> None:
        self.readers = readers
        self.units = units

    def run(self, count: int) -> Floats:
        """Per unit the cost of everything that is gone once it is; behind ``count`` units as if it went next."""
        scores = np.full(self.units, np.nan)
        spent = 0.0
        for _ in range(min(count, self.units)):
            costs = self._costs(scores)
            unit = int(np.argmin(costs))
            spent += float(costs[unit])
            scores[unit] = spent
            for reader in self.readers:
                reader.remove(unit)
        left = np.isnan(scores)
        if left.any():
            scores[left] = spent + self._costs(scores)[left]
        return scores

    def _costs(self, scores: Floats) -> Floats:
        """Of taking each unit out now; infinite for those that are gone."""
        costs = sum((reader.costs(self.units) for reader in self.readers), np.zeros(self.units))
        return np.where(np.isnan(scores), costs, np.inf)
