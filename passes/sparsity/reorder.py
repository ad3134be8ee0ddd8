"""Orders for all channel groups of a model that sparse layers read, one group after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter

import numpy as np

from prunec.passes.coupling.exchange import Ranks, exchange_classes
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.permutation import Effort
from prunec.passes.sparsity.stripes import Columns, Found, Reader, find_unit_order


def find_orders(
    coupling: Coupling,
    groups: Sequence[Group],
    layers: Sequence[SparseLayer],
    n: int,
    m: int,
    *,
    ranks: Ranks | None = None,
    seed: int = 0,
    seconds: float | None = None,
) -> Iterator[tuple[Group, Found]]:
    """Search an order for every group that some layer reads in whole stripes.

    A group of which nothing moves is searched all the same, and found to keep its order. Where several groups
    stand in the stripes of one layer (behind a concatenation, or interleaved), each search sees what the earlier
    ones made of it.

    Args:
        coupling: the analysis.
        groups: prunable groups of it.
        layers: the sparse layers of the same graph.
        n: elements that the pattern keeps of each stripe.
        m: columns of a stripe.
        ranks: of the same coupling, where they are at hand.
        seed: of the searches.
        seconds: wall-clock limit for all of them, shared out by the size of the groups.

    Yields:
        The groups that are read, each with what was found.
    """
    columns = [read for layer in layers if (read := Columns.of(coupling, layer, m)) is not None]
    total = len(coupling.components.free)
    reading = _reading(groups, columns, total)
    work = np.array(
        [(g.units / m) ** 2 * sum(c.rows for c in read) for g, read in zip(groups, reading, strict=True)]
    )
    end = None if seconds is None else perf_counter() + seconds
    classes = exchange_classes(coupling, groups, ranks)
    for position in np.flatnonzero(work).tolist():
        group = groups[position]
        readers = [Reader.of(c, group.components, total) for c in reading[position]]
        effort = Effort()
        if end is not None:
            effort = Effort(seconds=(end - perf_counter()) * work[position] / work[position:].sum())
        found = find_unit_order(readers, classes[position], n, m, seed=seed, effort=effort)
        for reader in readers:
            reader.columns.order = reader.columns.order[reader.moved(found.order)]
        yield group, found


def _reading(groups: Sequence[Group], columns: Sequence[Columns], total: int) -> list[list[Columns]]:
    """Per group the layers that read it."""
    owner = np.full(total, -1)
    for position, group in enumerate(groups):
        owner[group.components] = position
    reading: list[list[Columns]] = [[] for _ in groups]
    for of_layer in columns:
        for position in np.unique(owner[of_layer.components]):
            if position >= 0:
                reading[position].append(of_layer)
    return reading
