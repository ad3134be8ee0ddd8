"""What it means that two models compute the same numbers: relative errors, and how large they may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.module import Module

Array = NDArray[Any]

TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 1e-1}
"""Largest accepted relative error of an output, by the coarsest floating-point type in the model."""

FLOOR = 1e-3
"""Outputs smaller than this are compared as if they were this large: a saturated sigmoid rounds in steps."""


def relative_error(actual: Array, expected: Array, *, floor: float = FLOOR) -> float:
    """Largest difference over the largest finite magnitude of ``expected`` (``floor`` where that is smaller).

    Infinite where shapes or non-finite values differ. Integers and booleans count as equal or not: the share
    of differing elements.
    """
    if actual.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind == "c":
        return relative_error(_parts(actual), _parts(expected), floor=floor)
    if expected.dtype.kind not in "fV" and expected.dtype.name != "bfloat16":
        return float(np.mean(actual != expected)) if expected.size else 0.0
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    same_holes = np.array_equal(a[~finite], b[~finite], equal_nan=True)
    if not same_holes or not np.array_equal(finite, np.isfinite(a)):
        return float("inf")
    largest = float(np.abs(a[finite] - b[finite]).max()) if finite.any() else 0.0
    return largest / max(magnitude(b), floor, np.finfo(np.float64).tiny)


def _parts(array: Array) -> Array:
    """Real and imaginary parts, in a new axis."""
    return np.stack([array.real, array.imag], axis=-1)


def magnitude(array: Array) -> float:
    """The largest finite magnitude, 0 where there is none."""
    numbers = array.astype(np.float64, copy=False)
    finite = numbers[np.isfinite(numbers)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def coarsest_type(module: Module) -> str:
    """The floating-point type with the fewest digits among weights and inputs: it bounds the comparison."""
    values = [*module.graph.initializers.values(), *module.graph.inputs]
    names = {str(v.dtype.name).lower() for v in values if v.dtype is not None}
    return next((name for name in ("bfloat16", "float16") if name in names), "float32")
