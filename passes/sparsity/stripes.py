"""Which stripes of which layers a channel group has columns in, as one matrix for the search.

A layer reads the units of a group as input channels: as columns of the matrix ``[group x output x position,
input]``. An N:M pattern sees stripes of M neighbouring columns. The layers that read one group may see it at
different offsets (behind a concatenation), several times (the same position of every attention head), between
columns of other groups (a channel shuffle), or several columns of a unit in a row (a flattened image). The
search takes the division of units into stripes that most rows agree on; blocks of rows that see another one
take no part in it, but they count when the order that was found is compared with the given one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from prunec.ir.rule import Index
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.exchange import STAYS
from prunec.passes.coupling.groups import Coupling
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.permutation import Effort, find_order, kept_magnitude, most_magnitude

Floats = NDArray[np.float32]

FOREIGN = -1
"""In place of a unit: a column of another group, or of none."""
AGREEING = 0.5
"""Share of the stripes that a block of rows has to see as the search divides them to take part in it."""


@dataclass(slots=True)
class Columns:
    """The input channels of one layer, in the order that they have come to so far.

    Attributes:
        layer: the layer.
        components: per column the component of the coupling that it is a slot of.
        order: which column of the stored weight stands where.
    """

    layer: SparseLayer
    components: Index
    order: Index

    @classmethod
    def of(cls, coupling: Coupling, layer: SparseLayer, m: int) -> Columns | None:
        """The columns of a layer; None where they are no whole stripes, or no slots of one axis."""
        axes = layer.layout.axes("input")
        numbers = coupling.relations.table.operands.get(Operand(layer.value))
        if len(axes) != 1 or numbers is None or layer.shape[-1] % m:
            return None
        labels = coupling.labels(numbers[axes[0]])
        if labels is None or len(labels) != layer.shape[-1]:
            return None
        return cls(layer, labels, np.arange(len(labels)))

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return prod(self.layer.shape[:-1])

    def matrix(self) -> Floats:
        """The magnitudes of the weights, ``[rows, columns]``."""
        weights = np.abs(self.layer.weights()).reshape(-1, len(self.order))
        return np.take(weights, self.order, axis=1)


@dataclass(frozen=True, slots=True)
class Reader:
    """How one layer reads the units of one group.

    Attributes:
        columns: of the layer.
        matrix: its magnitudes, ``[rows, columns]``.
        units: per column the unit, or ``FOREIGN``.
        slots: per unit its columns, ascending, ``[units, columns of a unit]``.
    """

    columns: Columns
    matrix: Floats
    units: Index
    slots: Index

    @classmethod
    def of(cls, columns: Columns, components: Index, total: int) -> Reader:
        """How a layer reads the units that are these components (of ``total``)."""
        number = np.full(total, FOREIGN)
        number[components] = np.arange(len(components))
        units = number[columns.components]
        held = np.argsort(units, kind="stable")[np.count_nonzero(units == FOREIGN) :]
        return cls(columns, columns.matrix(), units, held.reshape(len(components), -1))

    def stripes(self, m: int) -> tuple[Index, Index]:
        """Per stripe its units in ascending order, and the columns in the same order; both ``[stripes, m]``."""
        places = self.units.reshape(-1, m)
        order = np.argsort(places, axis=1, kind="stable")
        return np.take_along_axis(places, order, axis=1), order + np.arange(0, len(self.units), m)[:, None]

    def moved(self, order: Index) -> Index:
        """The columns as they stand after unit ``order[k]`` has come to the places of unit ``k``."""
        result = np.arange(len(self.units))
        result[self.slots] = self.slots[order]
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the search made of one group.

    Attributes:
        order: which unit comes to the places of which.
        kept: magnitude that the pattern kept of all layers that read the group, before.
        gain: how much more it keeps after.
        possible: how much more unstructured pruning of every row would keep.
    """

    order: Index
    kept: float
    gain: float
    possible: float

    @property
    def efficacy(self) -> float:
        """Percent of the possible gain."""
        return 100 * self.gain / self.possible if self.possible > 0 else 0.0


def find_unit_order(
    readers: Sequence[Reader], classes: Index, n: int, m: int, *, seed: int = 0, effort: Effort | None = None
) -> Found:
    """The order of a group's units in which an N:M pattern keeps most of the layers that read it.

    All rows of all layers count alike. The order is the given one where no better is found, and where one of the
    layers has the pattern already, which another order would break.

    Args:
        readers: the layers that read the group.
        classes: per unit its class (see :func:`prunec.passes.coupling.exchange.exchange_classes`).
        n: elements kept of each stripe.
        m: columns of a stripe.
        seed: of the search.
        effort: how long to search.
    """
    given = np.arange(len(classes))
    each = [kept_magnitude(reader.matrix, n, m) for reader in readers]
    kept = sum(each)
    possible = sum(most_magnitude(reader.matrix, n, m) for reader in readers) - kept
    if any(k >= r.matrix.sum(dtype=np.float64) * (1 - 1e-9) for r, k in zip(readers, each, strict=True)):
        return Found(order=given, kept=kept, gain=0.0, possible=possible)
    stripes = _division(readers, m, len(classes))
    blocks = [block for reader in readers for block in _blocks(reader, stripes)]
    if not blocks:
        return Found(order=given, kept=kept, gain=0.0, possible=possible)
    places = stripes.ravel()
    columns = find_order(
        np.concatenate(blocks),
        n,
        m,
        classes=np.where(places == FOREIGN, STAYS, classes[places]),
        seed=seed,
        effort=effort,
    )
    order = given.copy()
    order[places[places != FOREIGN]] = places[columns][places != FOREIGN]
    gain = sum(kept_magnitude(r.matrix[:, r.moved(order)], n, m) for r in readers) - kept
    if gain <= 1e-7 * kept:
        return Found(order=given, kept=kept, gain=0.0, possible=possible)
    return Found(order=order, kept=kept, gain=gain, possible=possible)


def _division(readers: Sequence[Reader], m: int, units: int) -> Index:
    """The stripes of units that most rows agree on, no unit in two of them: ``[stripes, m]``, ascending."""
    seen = [reader.stripes(m)[0] for reader in readers]
    every = np.concatenate(seen)
    weights = np.repeat([len(reader.matrix) for reader in readers], [len(stripes) for stripes in seen])
    twice = ((every[:, 1:] == every[:, :-1]) & (every[:, 1:] != FOREIGN)).any(axis=1)
    usable = ~twice & (every[:, -1] != FOREIGN)
    stripes, inverse = np.unique(every[usable], axis=0, return_inverse=True)
    votes = np.bincount(inverse.ravel(), weights[usable], len(stripes))
    stripes = stripes[np.argsort(-votes, kind="stable")]
    first = np.full(units + 1, len(stripes))  # the last one is for FOREIGN
    np.minimum.at(first, stripes, np.arange(len(stripes))[:, None])
    chosen = (first[stripes] == np.arange(len(stripes))[:, None]) | (stripes == FOREIGN)
    division: Index = stripes[chosen.all(axis=1)]
    return division


def _blocks(reader: Reader, stripes: Index) -> Iterator[Floats]:
    """The rows of a layer, once for every column of a unit, as columns ``[rows, stripes * m]`` of the search."""
    if not len(stripes):
        return
    m = stripes.shape[1]
    seen, standing = reader.stripes(m)
    foreign = stripes == FOREIGN
    for slots in reader.slots.T:
        home = slots[stripes[:, -1]] // m
        together = (foreign | (slots[stripes] // m == home[:, None])).all(axis=1)
        agrees = together & (seen[home] == stripes).all(axis=1)
        if agrees.mean() < AGREEING:
            continue
        block = reader.matrix[:, np.where(foreign, standing[home], slots[stripes]).ravel()]
        block[:, (foreign & ~agrees[:, None]).ravel()] = 0
        yield block
