"""How sparse a weight is: its share of zeros, and whether they follow an N:M pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Of every ``m`` consecutive elements along ``axis`` at most ``n`` are not zero."""

    n: int
    m: int
    axis: int

    def __str__(self) -> str:
        return f"{self.n}:{self.m}(axis={self.axis})"


def zero_share(array: Array) -> float:
    """The share of elements that are zero, from 0 to 1."""
    return 1 - np.count_nonzero(array) / array.size if array.size else 0.0


def crowded_groups(array: Array, n: int, m: int) -> int:
    """How many groups of ``m`` neighbours on the last axis hold more than ``n`` that are not zero; its size
    must be a multiple of ``m``.
    """
    members = [array[..., i::m] != 0 for i in range(m)]
    counts = sum(members[1:], start=members[0].astype(np.uint32))
    return int(np.count_nonzero(counts > n))


def follows(array: Array, n: int, m: int) -> bool:
    """Whether an array has an N:M pattern along its last axis; one whose size is no multiple of ``m`` has
    none.
    """
    size = array.shape[-1]
    return bool(size) and size % m == 0 and crowded_groups(array, n, m) == 0
