"""Percentile bootstrap over samples (Efron 1979): how far a value would move on other samples of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Interval = tuple[float, float]

RESAMPLES = 1000
LEVEL = 0.95
"""Share of the resampled values inside an interval."""


def bootstrap_interval(
    value: Callable[[NDArray[Any]], float],
    samples: int,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """The interval in which a value lies for most resamples of the samples.

    Args:
        value: computes it from rows of samples, some of which come more than once; what is paired (two models on
            the same samples) must use the same rows.
        samples: how many there are.
        seed: the same seed draws the same samples.
        resamples: how often they are drawn.
        level: share of the values inside.

    Returns:
        Lower and upper end; NaN where no resample has a value.
    """
    if not samples:
        return (float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    values = np.array([value(rng.integers(0, samples, samples)) for _ in range(resamples)])
    known = values[~np.isnan(values)]
    if not len(known):
        return (float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))
