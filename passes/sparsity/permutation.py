"""The search for an order of input channels that keeps more magnitude under an N:M pattern, on arrays alone.

Of every ``m`` neighbouring columns (a *stripe*) an N:M pattern keeps the ``n`` largest elements of each row.
Which columns are neighbours decides how much that is (Pool and Yu, 2021, "Channel permutations for N:M
sparsity"). Their search swaps two columns at a time; here every stripe gives up one column, and all of these
are dealt out again in the best way there is, as an assignment problem (so do Zhang et al., 2024,
"Plug-and-Play", for whole blocks of columns).

For one row, let ``b`` be the ``n``-th largest of the ``m - 1`` elements that stay in a stripe. With a new
element ``x`` the stripe keeps ``max(b, x) = (b + x + |b - x|) / 2`` and what it kept above ``b`` anyway. Sums
over all stripes of ``b`` and of ``x`` are the same for every assignment, so the best one has the largest total
of the distances ``sum_rows |b - x|`` between stripes and columns: one matrix of city-block distances. The
assignment that changes nothing is one of those compared, so that no step ever loses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from prunec.passes.coupling.exchange import STAYS

Array = NDArray[Any]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]

DISTANCES = 1 << 26
"""Differences of elements that one round may take; where there were more, it looks at a sample of the rows."""
FEWEST_ROWS = 256
"""Rows of a sample at least."""
MOST_ROWS = 1 << 13
"""Rows above which the whole search looks at a sample of them."""
MOST_STRIPES = 128
"""Stripes that one round deals columns out to; time for an assignment grows with their third power."""
PATIENCE = 5
"""Rounds without a gain, for each column of a stripe, after which some columns are exchanged at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to search.

    Attributes:
        differences: of elements in all rounds together; at about 0.3 ns each the default is 0.2 s.
        fewest: rounds that every column has a part in at least, however large the matrix is.
        most: rounds at most, however small.
        patience: exchanges at random in a row that lead to nothing better, after which the search ends.
        seconds: wall-clock limit; where one is given, the result depends on the machine.
    """

    differences: int = 1 << 29
    fewest: int = 32
    most: int = 1500
    patience: int = 25
    seconds: float | None = None

    def rounds(self, stripes: int, rows: int) -> int:
        """Rounds for a matrix: each costs the distances, and handling of the columns and stripes."""
        together = min(stripes, MOST_STRIPES)
        cost = together * (together + 32) * rows + 1
        return max(self.fewest * stripes // together, min(self.most, self.differences // cost))


def kept_magnitude(matrix: Array, n: int, m: int) -> float:
    """What an N:M pattern keeps of the magnitude of a matrix ``[rows, columns]`` of whole stripes."""
    magnitude = np.abs(matrix)
    return float(
        sum(kept.sum(dtype=np.float64) for kept in _largest((magnitude[:, i::m] for i in range(m)), n))
    )


def most_magnitude(matrix: Array, n: int, m: int) -> float:
    """What unstructured pruning to the same sparsity keeps: the ``n / m`` largest elements of each row."""
    magnitude = np.abs(matrix)
    gone = magnitude.shape[1] - magnitude.shape[1] * n // m
    if not gone:
        return float(magnitude.sum(dtype=np.float64))
    return float(np.partition(magnitude, gone - 1, axis=1)[:, gone:].sum(dtype=np.float64))


def efficacy(matrix: Array, order: Index, n: int, m: int) -> float:
    """How good an order of columns is, in percent: 0 keeps what the given order keeps, 100 what unstructured
    pruning of each row keeps.

    Example:
        >>> matrix = np.array([[4, 3, 2, 2, 1, 0, 0, 0]])
        >>> efficacy(matrix, np.array([0, 1, 4, 5, 2, 3, 6, 7]), 2, 4)
        100.0
    """
    given, best = kept_magnitude(matrix, n, m), most_magnitude(matrix, n, m)
    found = kept_magnitude(matrix[:, order], n, m)
    return 100.0 if best <= given else 100 * (found - given) / (best - given)


def find_order(
    matrix: Array,
    n: int,
    m: int,
    *,
    classes: Index | None = None,
    seed: int = 0,
    effort: Effort | None = None,
) -> Index:
    """The best order of columns that the search comes across, by the rows that it looks at (all, up to
    ``MOST_ROWS``) never a worse one than the given.

    Args:
        matrix: ``[rows, columns]``, weights or their magnitudes; the columns are whole stripes.
        n: elements kept of each stripe.
        m: columns of a stripe.
        classes: per column its class; columns only take the places of others of their class, and those of
            class ``STAYS`` keep theirs. All are of one class where none are given.
        seed: the same seed gives the same order (unless ``effort`` has a limit in seconds).
        effort: how long to search.

    Returns:
        ``order[k]`` is the column that comes to place ``k``.

    Raises:
        ValueError: the columns are not whole stripes.
    """
    columns = matrix.shape[1]
    if columns % m:
        raise ValueError(f"{columns} columns are no multiple of {m}")
    if classes is None:
        classes = np.zeros(columns, np.int64)
    if len(matrix) > MOST_ROWS:
        matrix = matrix[np.random.default_rng(seed).choice(len(matrix), MOST_ROWS, replace=False)]
    search = _Search(np.ascontiguousarray(np.abs(matrix.T), np.float32), n, m, classes, seed)
    if columns > m and len(matrix):
        search.run(effort or Effort())
    return search.stripes.ravel()


class _Search:
    """The state of one search.

    Attributes:
        elements: magnitudes ``[columns, rows]``.
        stripes: the columns of each stripe as they stand, ``[stripes, m]``.
        gained: magnitude kept more than at the start.
    """

    def __init__(self, elements: Array, n: int, m: int, classes: Index, seed: int) -> None:
        self.elements, self.n, self.m, self.classes = elements, n, m, classes
        self.rng = np.random.default_rng(seed)
        self.stripes: Index = np.arange(len(elements)).reshape(-1, m)
        self.gained = 0.0
        movable = np.bincount(classes[classes != STAYS])
        self.weights = movable / max(1, movable.sum())
        rows = elements.shape[1]
        most = max(FEWEST_ROWS, DISTANCES // min(MOST_STRIPES, len(self.stripes)) ** 2)
        self.sample = None if rows <= most else most

    def run(self, effort: Effort) -> None:
        """Rounds of reassignment; where those gain no more, exchange some columns at random and go on from
        there, back to the best order where that led to nothing better.
        """
        if not len(self.weights):
            return
        started, stale, vain, best = perf_counter(), 0, 0, (0.0, self.stripes.copy())
        for _ in range(effort.rounds(len(self.stripes), self.sample or self.elements.shape[1])):
            gain = self._reassign()
            self.gained += gain
            stale = 0 if gain > 0 else stale + 1
            if stale > PATIENCE * self.m:
                vain += 1
                if self.gained > best[0]:
                    best, vain = (self.gained, self.stripes.copy()), 0
                if vain > effort.patience:
                    break
                self.gained, self.stripes = best[0], best[1].copy()
                self._shake()
                stale = 0
            if effort.seconds is not None and perf_counter() - started > effort.seconds:
                break
        if best[0] >= self.gained:
            self.gained, self.stripes = best

    def _reassign(self) -> float:
        """Take one column of one class out of each stripe that has one, and deal them out again."""
        rows, slots = self._draw(self._class())
        out = self.stripes[rows, slots]
        others = np.delete(self.stripes[rows].ravel(), np.arange(len(rows)) * self.m + slots)
        bounds = self._bounds(others.reshape(len(rows), self.m - 1))
        offered = self.elements[out]
        chosen = self._assign(bounds, offered)
        moved = np.flatnonzero(chosen != np.arange(len(rows)))
        if not len(moved):
            return 0.0
        gains = _distances(bounds[moved], offered[chosen[moved]]) - _distances(bounds[moved], offered[moved])
        if (
            self.sample is not None
        ):  # the sample chose; all rows decide, about every cycle of columns by itself
            better = _by_cycle(chosen, moved, gains) > 0
            moved, gains = moved[better], gains[better]
        gain = float(gains.sum()) / 2
        if gain <= 1e-7 * self.elements.shape[1]:
            return 0.0
        self.stripes[rows[moved], slots[moved]] = out[chosen[moved]]
        return gain

    def _class(self) -> int:
        """One of the classes, those of many columns more often."""
        return int(self.rng.choice(len(self.weights), p=self.weights))

    def _draw(self, number: int) -> tuple[Index, Index]:
        """A random column of a class in each stripe that has one: the stripes, and the places in them."""
        keys = np.where(self.classes[self.stripes] == number, self.rng.random(self.stripes.shape), -1)
        slots = keys.argmax(axis=1)
        rows = np.flatnonzero(keys.max(axis=1) >= 0)
        if len(rows) > MOST_STRIPES:
            rows = self.rng.choice(rows, MOST_STRIPES, replace=False)
        return rows, slots[rows]

    def _bounds(self, others: Index) -> Array:
        """The ``n``-th largest of the elements that stay, ``[stripes, rows]``."""
        return _largest((self.elements[column] for column in others.T), self.n)[-1]

    def _assign(self, bounds: Array, offered: Array) -> Index:
        """Which of the columns on offer each stripe gets."""
        if self.sample is not None:
            rows = self.rng.choice(bounds.shape[1], self.sample, replace=False)
            bounds, offered = np.take(bounds, rows, axis=1), np.take(offered, rows, axis=1)
        _, chosen = linear_sum_assignment(cdist(bounds, offered, "cityblock"), maximize=True)
        return np.asarray(chosen, np.int64)

    def _shake(self) -> None:
        """Let a few columns of one class go round, and note what that costs."""
        number = self._class()
        places = np.flatnonzero(self.classes[self.stripes.ravel()] == number)
        count = min(len(places), 2 * int(self.rng.integers(2, 6)))
        places = self.rng.choice(places, count, replace=False)
        touched = np.unique(places // self.m)
        before = self._kept(touched)
        flat = self.stripes.ravel()
        flat[places] = flat[np.roll(places, 1)]
        self.gained += self._kept(touched) - before

    def _kept(self, rows: Index) -> float:
        return kept_magnitude(self.elements[self.stripes[rows].ravel()].T, self.n, self.m)


def _largest(arrays: Iterable[Array], n: int) -> list[Array]:
    """The ``n`` largest of some arrays, element by element, in descending order: every array is inserted into
    the largest so far.
    """
    top: list[Array] = []
    for fresh in arrays:
        for place, known in enumerate(top):
            top[place], fresh = np.maximum(known, fresh), np.minimum(known, fresh)
        if len(top) < n:
            top.append(fresh)
    return top


def _distances(a: Array, b: Array) -> Array:
    """City-block distance of every pair of rows."""
    differences: Array = np.abs(a - b)
    return np.asarray(differences.sum(axis=1, dtype=np.float64))


def _by_cycle(chosen: Index, moved: Index, gains: Array) -> Array:
    """For every column that an assignment moves the gain of the whole cycle of columns that it is in."""
    size = len(chosen)
    edges = coo_array((np.ones(size, np.int8), (np.arange(size), chosen)), shape=(size, size))
    cycle = connected_components(edges, directed=False)[1][moved]
    of_cycles: Array = np.bincount(cycle, gains)
    gain: Array = of_cycles[cycle]
    return gain
