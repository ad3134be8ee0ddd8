"""How sparse a weight is: its share of zeros, and whether they follow an N:M pattern."""

from __future__ import annotations

from collections.abc import Iterable
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


def follows(array: Array, pattern: Pattern) -> bool:
    """Whether an array has an N:M pattern; an axis whose size is no multiple of ``m`` has none."""
    size = array.shape[pattern.axis]
    if not size or size % pattern.m:
        return False
    shape = (*array.shape[: pattern.axis], size // pattern.m, pattern.m, *array.shape[pattern.axis + 1 :])
    counts = np.count_nonzero(array.reshape(shape), axis=pattern.axis + 1)
    return bool(counts.max() <= pattern.n)


def find_pattern(array: Array, axes: Iterable[int], n: int = 2, m: int = 4) -> Pattern | None:
    """The N:M pattern of an array along the first of ``axes`` that has one; None where none has."""
    if zero_share(array) < 1 - n / m:
        return None
    return next((p for axis in axes if follows(array, p := Pattern(n, m, axis))), None)
