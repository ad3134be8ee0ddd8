"""The columns that predicates read: what the data have one number or word a sample of, and some that are derived.

Of an array ``name`` [samples, ...] with more axes there are

- whole numbers: ``name_length``, the entries of a sample that are not 0 (padding);
- others: ``name_mean`` and ``name_std`` of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_STEP = 1 << 24
"""Bytes of an array that are looked at together."""


def column_names(arrays: Mapping[str, Array]) -> list[str]:
    """All columns of some data, given ones first."""
    given = [name for name, array in arrays.items() if array.ndim == 1]
    return [*given, *(name for name in _derived(arrays) if name not in given)]


def column(arrays: Mapping[str, Array], name: str) -> Array:
    """One column, [samples]."""
    if name in arrays and arrays[name].ndim == 1:
        return arrays[name]
    array, reduce = _derived(arrays)[name]
    step = max(1, _STEP * len(array) // max(array.nbytes, 1))
    parts = [
        reduce(array[at : at + step].reshape(len(array[at : at + step]), -1))
        for at in range(0, len(array), step)
    ]
    return np.concatenate(parts)


def _derived(arrays: Mapping[str, Array]) -> dict[str, tuple[Array, Callable[[Array], Array]]]:
    return {
        f"{name}_{suffix}": (array, reduce)
        for name, array in arrays.items()
        if array.ndim > 1
        for suffix, reduce in _reductions(array)
    }


def _reductions(array: Array) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    if array.dtype.kind in "iub":
        yield "length", lambda rows: np.count_nonzero(rows, axis=1)
    elif array.dtype.kind == "f":
        yield "mean", lambda rows: rows.mean(axis=1, dtype=np.float64)
        yield "std", lambda rows: rows.std(axis=1, dtype=np.float64)
