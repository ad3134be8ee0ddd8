"""The arithmetic of patterns, on arrays ``[group, output, position, input]`` in any layout of memory.

Nothing here sorts small groups: within M neighbours every pair is compared once, for all groups at a time.
numpy gives the results of comparisons the layout of their operands, so that the weights of a convolution or
a transposed matrix are read in the order in which they lie.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bools = NDArray[np.bool_]

MOST_COMPARED = 32
"""Sizes of a group above which it is sorted: comparisons grow with the square."""


def largest_of_groups(scores: Array, n: int, m: int) -> Bools:
    """The ``n`` largest of every ``m`` neighbours on the last axis; of equal ones the first.

    With ``beats(i, j) = score_i >= score_j`` for ``i < j``, an element stays if fewer than ``n`` others beat
    it.
    """
    if m > MOST_COMPARED:
        return _sorted_groups(scores, n, m)
    members = [scores[..., i::m] for i in range(m)]
    losses = [np.zeros_like(member, np.uint8) for member in members]
    for i, j in combinations(range(m), 2):
        beats = members[i] >= members[j]
        losses[j] += beats
        losses[i] += ~beats
    keep = np.empty_like(scores, bool)
    for i, lost in enumerate(losses):
        np.less(lost, n, out=keep[..., i::m])
    return keep


def _sorted_groups(scores: Array, n: int, m: int) -> Bools:
    groups = scores.reshape(*scores.shape[:-1], -1, m)
    keep = np.zeros(groups.shape, bool)
    np.put_along_axis(keep, np.argsort(-groups, axis=-1, kind="stable")[..., :n], True, axis=-1)
    return keep.reshape(scores.shape)


def largest(scores: Array, ratio: float) -> Bools:
    """All elements but ``round(ratio * size)``, those of the lowest scores; of equal ones the first stay."""
    flat = scores.ravel(order="K") if scores.flags.c_contiguous else np.ascontiguousarray(scores).ravel()
    gone = round(ratio * flat.size)
    if not gone:
        return np.ones(scores.shape, bool)
    threshold = np.partition(flat, gone - 1)[gone - 1]
    keep = flat > threshold
    ties = np.flatnonzero(flat == threshold)
    keep[ties[: flat.size - gone - int(np.count_nonzero(keep))]] = True
    kept: Bools = keep.reshape(scores.shape)
    return kept


def block_means(scores: Array, rows: int, columns: int) -> Array:
    """The mean of every block of outputs by inputs."""
    means: Array = _blocks(scores, rows, columns).mean(axis=(2, 5))
    return means


def spread_blocks(keep: Bools, rows: int, columns: int) -> Bools:
    """One boolean a block to one a weight."""
    return np.repeat(np.repeat(keep, rows, axis=1), columns, axis=3)


def mixed_blocks(weights: Array, rows: int, columns: int) -> int:
    """How many blocks hold both zeros and others."""
    counts = np.count_nonzero(_blocks(weights, rows, columns), axis=(2, 5))
    return int(np.count_nonzero((counts > 0) & (counts < rows * columns)))


def _blocks(array: Array, rows: int, columns: int) -> Array:
    """``[group, block, output in it, position, block, input in it]``."""
    groups, outputs, positions, inputs = array.shape
    return array.reshape(groups, outputs // rows, rows, positions, inputs // columns, columns)
