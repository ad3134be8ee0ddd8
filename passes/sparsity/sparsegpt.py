"""Which weights go and what the others become, given the inputs of a layer: SparseGPT on plain matrices.

A layer computes ``Y = W X``. With the Hessian ``H = X X^T`` of its squared output error, and ``U`` the upper
triangular factor of the inverse, ``H^-1 = U^T U``, columns are taken from left to right (Frantar and Alistarh,
*SparseGPT*, ICML 2023, algorithm 1). Removing the weight at row ``r``, column ``j`` costs ``(W[r,j] / U[j,j])^2``;
the columns to its right make up for it::

    e = (W[:,j] - masked) / U[j,j]            W[:,j:] -= e U[j,j:]

Columns go in blocks, so that most of that update is one matrix product a block. Layers of several groups
(grouped convolutions) are a leading axis of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Keep = NDArray[np.bool_]
Choose = Callable[[Floats], Keep]
"""Costs [groups, rows, columns] of removing weights -> which of them stay; sees ``step`` columns at a time."""

BLOCK = 128
DAMPING = 0.01


def sparsegpt(
    weight: Floats, hessian: Floats, choose: Choose, *, step: int, damping: float = DAMPING
) -> tuple[Floats, Keep]:
    """Sparsify a layer so that its outputs on the calibration inputs change little.

    Args:
        weight: [groups, rows, columns].
        hessian: sum of ``x x^T`` over the inputs, [groups, columns, columns].
        choose: which weights stay, given what it costs to remove each.
        step: columns to decide about at a time, from their values at that moment: M for an N:M pattern.
        damping: added to the diagonal, as a share of its mean.

    Returns:
        The new weights, zero where they are masked, and the mask (True: stays), both [groups, rows, columns].
        Weights of inputs that are always zero stay out where the pattern lets them.
    """
    factor = inverse_factor(hessian, damping)
    weight = weight.astype(np.float32)
    weight[np.broadcast_to(_dead(hessian)[:, None, :], weight.shape)] = 0
    keep = np.ones(weight.shape, bool)
    columns = weight.shape[2]
    width = max(BLOCK // step, 1) * step
    for start in range(0, columns, width):
        end = min(start + width, columns)
        block = np.ascontiguousarray(weight[:, :, start:end])
        errors = _sweep(block, factor[:, start:end, start:end], keep[:, :, start:end], choose, step)
        weight[:, :, start:end] = block
        weight[:, :, end:] -= errors @ factor[:, start:end, end:]
    return weight, keep


def update_kept(weight: Floats, hessian: Floats, keep: Keep, *, damping: float = DAMPING) -> Floats:
    """The weights that :func:`sparsegpt` would leave under a mask that somebody else chose.

    Args:
        weight: [groups, rows, columns].
        hessian: [groups, columns, columns].
        keep: which weights stay, [groups, rows, columns].
        damping: as a share of the diagonal's mean.
    """
    position = 0

    def chosen(costs: Floats) -> Keep:
        nonlocal position
        position += costs.shape[2]
        return keep[:, :, position - costs.shape[2] : position]

    return sparsegpt(weight, hessian, chosen, step=BLOCK, damping=damping)[0]


def inverse_factor(hessian: Floats, damping: float = DAMPING) -> NDArray[np.float32]:
    """The upper triangular ``U`` with ``U^T U`` the inverse of the damped Hessian, [groups, columns, columns].

    With the order of the columns turned round, ``H = L L^T`` (Cholesky) gives ``H = R R^T`` with ``R`` upper
    triangular, and ``U = R^-1``: the inverse itself is never formed. An input that is always zero gets a
    diagonal of 1 (it shares nothing with the others); where rounding leaves a Hessian that is not positive
    definite, the damping grows tenfold until it is.
    """
    columns = hessian.shape[-1]
    diagonal = np.arange(columns)
    matrix = hessian.astype(np.float64)
    values = matrix[:, diagonal, diagonal]
    values[_dead(hessian)] = 1
    added = np.broadcast_to(damping * values.mean(axis=1, keepdims=True), values.shape)
    factors = np.empty(matrix.shape, np.float32)
    for group in range(len(matrix)):
        factors[group] = _factor_one(matrix[group], values[group], added[group])
    return factors


def _factor_one(matrix: NDArray[np.float64], diagonal: Floats, added: Floats) -> Floats:
    from scipy.linalg import LinAlgError, cholesky, lapack

    while True:
        np.fill_diagonal(matrix, diagonal + added)
        try:
            lower = cholesky(matrix[::-1, ::-1], lower=True, check_finite=False)
        except LinAlgError:
            added = 10 * np.maximum(added, np.finfo(np.float32).eps * diagonal.mean())
        else:
            return np.asarray(lapack.dtrtri(lower, lower=1)[0][::-1, ::-1])


def _sweep(weight: Floats, factor: Floats, keep: Keep, choose: Choose, step: int) -> Floats:
    """Mask and update one block of columns in place.

    Returns:
        The error of every column, [groups, rows, columns], for the columns behind the block.
    """
    columns = weight.shape[2]
    scale = factor[:, np.arange(columns), np.arange(columns)]
    errors = np.empty_like(weight)
    for column in range(columns):
        if column % step == 0:
            ahead = slice(column, column + step)
            keep[:, :, ahead] = choose(np.square(weight[:, :, ahead] / scale[:, None, ahead]))
        removed = np.where(keep[:, :, column], 0, weight[:, :, column])
        errors[:, :, column] = removed / scale[:, None, column]
        weight[:, :, column + 1 :] -= errors[:, :, column, None] * factor[:, None, column, column + 1 :]
        weight[:, :, column] -= removed
    return errors


def _dead(hessian: Floats) -> Keep:
    """Inputs that are zero in every sample, [groups, columns]."""
    zero: Keep = np.einsum("gcc->gc", hessian) == 0
    return zero
