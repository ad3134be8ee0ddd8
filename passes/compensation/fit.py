"""The algebra of compensation, from moments alone.

A layer computes ``y = W x + b`` from rows ``x`` of what the pruned layers before it compute, and should compute
``t``. With the residual ``r = t - y``, the change of weights and bias that brings it nearest, not too large, is

    min  |r - D x - c|^2 + ridge * |D|^2        =>        (H + ridge I) D^T = C,    c = mean(r) - D mean(x)

where ``H`` is the covariance of ``x`` and ``C`` that of ``x`` and ``r``, times the number of rows: linear
regression of what is missing (the reconstruction of Luo et al., *ThiNet*, ICCV 2017, eq. 6, and He et al., *Channel
Pruning*, ICCV 2017, eq. 2, around the weights that there are instead of zero). ``D = 0`` is bias absorption.

The error of any ``D`` and ``c`` on other rows follows from the moments of those rows, so that held-out samples
choose the ridge, and refuse a fit that does harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.passes.calibration.moments import Moments

Array = NDArray[Any]
Floats = NDArray[np.float64]

RIDGES = (1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges to choose from, as shares of the mean variance of the inputs."""


class ResidualMoments:
    """Moments of what a layer lacks, against what it reads.

    Args:
        inputs: of what the layer reads; whoever adds rows here adds the same rows there.
        outputs: of one group.

    Attributes:
        inputs: as given.
        size: sum of the squares of what the layer should compute.
    """

    def __init__(self, inputs: Moments, outputs: int) -> None:
        groups, columns = inputs.sums.shape
        self.inputs = inputs
        self.size = 0.0
        self.sums: Floats = np.zeros((groups, outputs))
        self.squares = 0.0
        self.cross: Floats = np.zeros(0 if inputs.diagonal else (groups, columns, outputs))

    def add(self, rows: Array, residual: Array) -> None:
        """Add rows ``[groups, rows, columns]`` of the inputs and ``[groups, rows, outputs]`` of the residual."""
        residual = residual.astype(np.float64)
        self.sums += residual.sum(axis=1)
        self.squares += float(np.square(residual).sum())
        if not self.inputs.diagonal:
            self.cross += np.swapaxes(rows, 1, 2).astype(np.float64) @ residual


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is added to a layer.

    Attributes:
        bias: [group, output].
        weights: [group, column, output], None where they stay.
        ridge: that they were fitted with.
    """

    bias: Floats
    weights: Floats | None = None
    ridge: float | None = None


def absorb(moments: ResidualMoments) -> Change:
    """The change of the bias alone: the mean of what the layer lacks."""
    return Change(bias=moments.sums / max(moments.inputs.rows, 1))


def reconstruct(moments: ResidualMoments, ridges: Sequence[float]) -> Iterator[Change]:
    """The changes of weights and bias that the layer needs, one for each ridge, made when it is asked for.

    Args:
        moments: of the samples to fit to.
        ridges: shares of the mean variance of the inputs.

    Yields:
        The changes; none for a ridge with which the inputs do not determine the weights.
    """
    inputs, count = moments.inputs, moments.inputs.rows
    mean, missing = inputs.sums / count, moments.sums / count
    products = inputs.covariance()
    cross = moments.cross - count * mean[:, :, None] * missing[:, None, :]
    for ridge in ridges:
        weights = _solved(products, cross, ridge)
        if weights is not None:
            bias = missing - np.einsum("gco,gc->go", weights, mean)
            yield Change(bias=bias, weights=weights, ridge=ridge)


def error(change: Change | None, moments: ResidualMoments) -> float:
    """Sum of the squares of what a layer lacks once it is changed (None: as it is); from moments of any rows."""
    if change is None:
        return moments.squares
    count, inputs = moments.inputs.rows, moments.inputs
    left = moments.squares - 2 * np.sum(change.bias * moments.sums) + count * np.sum(np.square(change.bias))
    if change.weights is not None:
        weights, products = change.weights, inputs.products()
        left += np.sum(weights * (products @ weights - 2 * moments.cross))
        left += 2 * np.sum(change.bias * np.einsum("gco,gc->go", weights, inputs.sums))
    return max(float(left), 0.0)


def _solved(products: Floats, cross: Floats, ridge: float) -> Floats | None:
    """``(products + ridge * mean(diagonal) I)^-1 cross`` for every group; None where that does not exist."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    solved = np.zeros_like(cross)
    for group, (matrix, right) in enumerate(zip(products, cross, strict=True)):
        scale = float(np.trace(matrix)) / len(matrix)
        if not scale > 0:
            continue  # the inputs do not vary: the bias says all
        damped = matrix.copy()
        np.einsum("cc->c", damped)[:] += ridge * scale
        try:
            # As Fortran lays arrays out, the transpose is factored where it lies.
            factor = cho_factor(damped.T, overwrite_a=True, check_finite=False)
            solved[group] = cho_solve(factor, right, check_finite=False)
        except LinAlgError:
            return None
    return solved
