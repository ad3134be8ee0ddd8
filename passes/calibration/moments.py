"""Second moments of what a layer reads, added up run by run: ``H = X^T X`` for rows ``X``.

They are all that a least-squares fit of the layer's weights needs to know of the data: the squared error of
other weights ``W + D`` on the same inputs is ``sum(D H * D)``, and the norm of an input channel is the root of its
diagonal entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Moments:
    """Second moments of rows; float32 products of one run, float64 sums.

    Attributes:
        products: [groups, columns, columns], or [groups, columns] where only the diagonal is added up.
        rows: how many rows were added, of each group.
    """

    products: Floats
    rows: int = 0

    @classmethod
    def zeros(cls, groups: int, columns: int, *, diagonal: bool = False) -> Moments:
        """Moments of no rows yet.

        Args:
            groups: groups of the layer.
            columns: weights of one output.
            diagonal: add up squares only, not products of different columns.
        """
        return cls(np.zeros((groups, columns) if diagonal else (groups, columns, columns)))

    def add(self, rows: Array) -> None:
        """Add rows, [groups, rows, columns]."""
        rows = rows.astype(np.float32, copy=False)
        if self.products.ndim == 2:
            self.products += np.einsum("grc,grc->gc", rows, rows)
        else:
            self.products += np.swapaxes(rows, 1, 2) @ rows
        self.rows += rows.shape[1]

    @property
    def norms(self) -> Floats:
        """The Euclidean norm of every column, [groups, columns]."""
        squares = self.products if self.products.ndim == 2 else np.einsum("gcc->gc", self.products)
        norms: Floats = np.sqrt(squares)
        return norms


def output_error(weight: Array, change: Array, moments: Moments) -> float:
    """How far a layer's outputs move, relative to their size: ``|change X| / |weight X|``, both Frobenius norms.

    Args:
        weight: [groups, rows, columns], the layer as it should be.
        change: what was added to it, of the same shape.
        moments: of the inputs, all products.

    Returns:
        0 where the outputs are the same; 0 also where both are zero.
    """
    moved, size = (_energy(matrix, moments.products) for matrix in (change, weight))
    return float(np.sqrt(moved / size)) if size > 0 else 0.0 if moved <= 0 else float("inf")


def _energy(weight: Array, products: Floats) -> float:
    """The sum of the squared outputs."""
    matrix = weight.astype(np.float64)
    return max(float(np.sum((matrix @ products) * matrix)), 0.0)
