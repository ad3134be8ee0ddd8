"""Percentile bootstrap over samples (Efron 1979): how far a value would move on other samples of the same kind.

All tables of one call are resampled alike, so that models are compared on the same samples. A metric that follows
from sums over samples needs no resampled tables: how often each sample was drawn, times the table, is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from prunec.passes.judging.metrics import Floats, Metric, NamedMetric, SumMetric

Interval: TypeAlias = tuple[float, float]
Rows: TypeAlias = NDArray[np.int64]

RESAMPLES = 1000
LEVEL = 0.95
"""Share of the resampled values inside an interval."""
FEW = 10
"""Resamples of fewer samples say nothing about others: those of one are all alike, and those of a few hardly differ.
The intervals of 10 normal samples hold their mean 90 % of the time, those of 3 only 76 %.
"""

_DRAWN = 1 << 20
"""Rows that are drawn together."""


def resampled(
    metric: Metric, tables: Sequence[Floats], *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Floats]:
    """A metric on resamples of the samples.

    Args:
        metric: computes a value from rows.
        tables: [samples, k] each, of the same samples: what the metric keeps of several models.
        seed: the same seed draws the same samples.
        resamples: how often they are drawn.

    Returns:
        For each table [resamples], NaN where a resample has no value.
    """
    if not len(tables[0]):
        return [np.full(resamples, np.nan) for _ in tables]
    if isinstance(metric, SumMetric):
        joined = np.concatenate(tables, axis=1)
        sums = np.concatenate([_counts(rows) @ joined for rows in _drawn(len(joined), seed, resamples)])
        return [metric.of_sums(part) for part in np.split(sums, len(tables), axis=1)]
    values = [
        [_of_rows(metric, table, rows) for table in tables]
        for rows in _drawn(len(tables[0]), seed, resamples)
    ]
    return [np.concatenate(parts) for parts in zip(*values, strict=True)]


def _of_rows(metric: Metric, table: Floats, rows: Rows) -> Floats:
    """A metric on some resamples; one of the user's takes them one after the other."""
    if isinstance(metric, NamedMetric):
        return metric.of_rows(table, rows)
    return np.array([metric.value(table[row]) for row in rows], np.float64)


def interval_of(values: Floats, *, samples: int, level: float = LEVEL) -> Interval:
    """The interval that holds the middle of the resampled values; NaN where none is known.

    Args:
        values: [resamples].
        samples: how many they were drawn from; of less than :data:`FEW` there is no interval.
        level: share of the values inside.
    """
    known = values[~np.isnan(values)]
    if samples < FEW or not len(known):
        return (float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))


def _drawn(samples: int, seed: int, resamples: int) -> Iterator[Rows]:
    """Rows with repetition, [some resamples, samples], until there are enough."""
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWN // samples)
    for begin in range(0, resamples, step):
        yield rng.integers(0, samples, (min(step, resamples - begin), samples))


def _counts(rows: Rows) -> Floats:
    """How often each sample was drawn, [resamples, samples]."""
    resamples, samples = rows.shape
    flat = rows + samples * np.arange(resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=rows.size).reshape(rows.shape).astype(np.float64)
