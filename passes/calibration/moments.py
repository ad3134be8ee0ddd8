"""Second moments of what a layer reads, added up run by run: ``H = X^T X`` for rows ``X``.

They are all that a least-squares fit of the layer's weights needs to know of the data: the squared error of
other weights ``W + D`` on the same inputs is ``sum(D H * D)``, and the norm of an input channel is the root of its
diagonal entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]

SMALL = 64
"""Columns up to which the products of all groups are one batched matrix product."""
ROOM = 256 << 20
"""Bytes of products that are held at a time: layers that need more are taken in several passes over the samples."""
_BLOCK = 256
"""Rows of a triangle that are mirrored at a time."""


class Moments:
    """Second moments of rows.

    Args:
        groups: groups of the layer.
        columns: weights of one output.
        diagonal: add up squares only, not products of different columns.
        dtype: float32, or float64 where a fit shall be exact.

    Attributes:
        rows: how many rows were added, of each group.
        sums: of every column, float64 [groups, columns].
    """

    def __init__(
        self, groups: int, columns: int, *, diagonal: bool = False, dtype: type[np.floating[Any]] = np.float32
    ) -> None:
        self.rows = 0
        self.diagonal = diagonal
        self.sums = np.zeros((groups, columns))
        self._sums: Floats = np.zeros((groups, columns) if diagonal else (groups, columns, columns), dtype)
        self._triangle = columns > SMALL and not diagonal

    def add(self, rows: Array) -> None:
        """Add rows, [groups, rows, columns]."""
        rows = rows.astype(self._sums.dtype, copy=False)
        self.rows += rows.shape[1]
        self.sums += rows.sum(axis=1, dtype=np.float64)
        if self.diagonal:
            self._sums += np.einsum("grc,grc->gc", rows, rows)
        elif self._triangle:
            for total, part in zip(self._sums, rows, strict=True):
                _add_products(total, part)
        else:
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # whoever reads the sums sees what became of them
                self._sums += np.swapaxes(rows, 1, 2) @ rows

    def products(self) -> Floats:
        """``X^T X``, [groups, columns, columns]: what is held, not to be changed.

        Raises:
            ValueError: only squares were added up.
        """
        if self.diagonal:
            raise ValueError("only squares were added up")
        if self._triangle:
            for matrix in self._sums:
                _mirror(matrix)
        return self._sums

    def covariance(self) -> NDArray[np.float64]:
        """The same around the means of the columns, in float64.

        Raises:
            ValueError: only squares were added up.
        """
        around = self.sums[:, :, None] * self.sums[:, None, :]
        around /= max(self.rows, 1)
        return np.subtract(self.products(), around, out=around)

    def norms(self) -> Floats:
        """The Euclidean norm of every column, [groups, columns]."""
        norms: Floats = np.sqrt(self._sums if self.diagonal else np.einsum("gcc->gc", self._sums))
        return norms


def bytes_of_products(groups: int, columns: int, *, diagonal: bool, itemsize: int) -> int:
    """Bytes that :class:`Moments` hold of a layer: of its products, or of its squares."""
    return itemsize * groups * columns * (1 if diagonal else columns)


def _add_products(total: Floats, rows: Floats) -> None:
    """``total += rows^T rows``, in the upper triangle only: half of the work of a plain matrix product."""
    from scipy.linalg.blas import dsyrk, ssyrk

    if len(rows):
        columns = np.ascontiguousarray(rows).T  # as Fortran lays arrays out, so that nothing is copied
        multiply = dsyrk if total.dtype == np.float64 else ssyrk
        multiply(1.0, columns, 1.0, total.T, lower=1, overwrite_c=1)


def _mirror(matrix: Floats) -> None:
    """Make the lower triangle that of the transpose, in place."""
    for start in range(0, len(matrix), _BLOCK):
        stop = start + _BLOCK
        block = np.triu(matrix[start:stop, start:stop])
        matrix[start:stop, start:stop] = block + np.triu(block, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T


def output_errors(weight: Array, changes: Sequence[Array], moments: Moments) -> list[float]:
    """How far a layer's outputs move, relative to their size: ``|change X| / |weight X|``, both Frobenius norms.

    Args:
        weight: [groups, rows, columns], the layer as it should be.
        changes: what may be added to it, each of the same shape.
        moments: of the inputs, with all products.

    Returns:
        One number a change: 0 where nothing moves, infinity where something moves that was zero.
    """
    products = moments.products()
    size, *moved = (_energy(matrix, products) for matrix in (weight, *changes))
    return [float(np.sqrt(m / size)) if size > 0 else np.inf if m > 0 else 0.0 for m in moved]


def _energy(weight: Array, products: Floats) -> float:
    """The sum of the squared outputs."""
    matrix = weight.astype(np.float32, copy=False)
    return max(float(np.einsum("grc,grc->", matrix @ products, matrix, dtype=np.float64)), 0.0)
