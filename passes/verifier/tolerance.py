"""What rounding may add to how far two models differ (see :mod:`prunec.ir.equality`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.equality import relative_error
from prunec.ir.execute import Runner
from prunec.ir.module import Module

Array = NDArray[Any]

NEAR = 3
"""Errors up to this many times the tolerance are as likely rounding as a mistake."""

MOST_NOISE = 1e-2
"""Largest error that a model's own sensitivity to rounding can excuse where sums are taken in another order."""

HALF_STEP = 6e-8
"""How much rounding changes a number in float32, about."""


def has_numbers(array: Array) -> bool:
    """Whether an array holds a number that is finite; text holds none that could not be compared."""
    return array.dtype.kind in "OSU" or bool(np.isfinite(array.astype(np.float64)).any())


def noise(reference: Module, expected: Mapping[str, Array], feeds: Mapping[str, Array]) -> float:
    """How much inputs and weights changed by rounding change the outputs.

    A new order of channels is a new order of summation in every layer, which rounds otherwise; a network that
    magnifies such differences of its weights magnifies those too.
    """
    other = reference.clone()
    weights = {name: value.const_value for name, value in other.graph.initializers.items()}
    floats = {name: t.numpy() for name, t in weights.items() if t is not None and _is_weight(t)}
    for name, array in rounded(floats, HALF_STEP).items():
        other.graph.initializers[name].const_value = onnx_ir.tensor(array, name=name)
    noisy = Runner(other).run(rounded(feeds))
    worst = worst_error(expected, noisy)
    return worst if np.isfinite(worst) else 0.0


def _is_weight(tensor: onnx_ir.TensorProtocol) -> bool:
    """Vectors may be scales that shapes are worked out from."""
    return tensor.dtype == onnx_ir.DataType.FLOAT and len(tensor.shape) > 1


def worst_error(expected: Mapping[str, Array], actual: Mapping[str, Array]) -> float:
    """The largest relative error of several values."""
    return max((relative_error(actual[name], array) for name, array in expected.items()), default=0.0)


def rounded(feeds: Mapping[str, Array], share: float = 1e-6) -> dict[str, Array]:
    """Arrays of which every number is changed by about this share."""
    rng = np.random.default_rng(0)
    return {
        name: array * (1 + share * rng.standard_normal(array.shape)).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in feeds.items()
    }
