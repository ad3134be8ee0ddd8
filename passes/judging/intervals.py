"""The 95 % interval of a metric, and of a drop, seen how many samples there are.

What every sample has either right or wrong follows a binomial distribution, and score intervals hold for any number
of samples, also where all are right: Wilson (1927) for a share, Tango (1998) for the difference of two shares of the
same samples. Anything else is resampled (:mod:`prunec.passes.judging.bootstrap`). Resamples of very few samples, or
of samples that are all alike, say nothing of others: there the interval is not known, NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from prunec.passes.judging.bootstrap import Interval, interval_of, resampled
from prunec.passes.judging.metrics import Floats, Metric, NamedMetric, SumMetric

UNKNOWN: Interval = (math.nan, math.nan)

QUANTILE = 1.959963984540054
"""Of the normal distribution: 95 % of it are nearer to 0."""

ALIKE = 60
"""Samples from which on equal ones are believed: at most 3/60 of the others differ (the rule of three)."""

_SPREAD = 1e-12
"""Relative difference of resampled values that is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Of a model's value, and of how much worse it is than the dense model.

    Attributes:
        value: of the metric.
        drop: paired, in the metric's unit or as a share of the dense model's value; None without a dense model.
    """

    value: Interval
    drop: Interval | None


def intervals_of(
    metric: Metric, own: Floats, dense: Floats | None, *, relative: bool = False, seed: int = 0
) -> Intervals:
    """The intervals of a metric of some samples.

    Args:
        metric: what is measured.
        own: [samples, k], what the metric keeps of the model.
        dense: the same of the dense model, or None.
        relative: whether drops are shares of the dense model's value.
        seed: of resamples.
    """
    drawn = resampled(metric, [own] if dense is None else [own, dense], seed=seed)
    value = _of_value(metric, own, drawn[0])
    if dense is None:
        return Intervals(value=value, drop=None)
    return Intervals(value=value, drop=_of_drop(metric, own, dense, drawn, relative))


def wilson(hits: float, samples: int) -> Interval:
    """The score interval of a share (Wilson 1927).

    Args:
        hits: how many samples are right.
        samples: how many there are, at least one.
    """
    share, square = hits / samples, QUANTILE**2
    middle = (hits + square / 2) / (samples + square)
    half = QUANTILE * math.sqrt(samples * share * (1 - share) + square / 4) / (samples + square)
    return (max(0.0, middle - half), min(1.0, middle + half))


def tango(lost: float, won: float, samples: int) -> Interval:
    """The score interval of the difference of two shares of the same samples (Tango 1998).

    Args:
        lost: how many samples only the first has right.
        won: how many only the second has right.
        samples: how many there are, at least one.
    """
    difference = (lost - won) / samples

    def beyond(at: float) -> float:
        """How far the observed difference is from a true one, less what chance allows; squares throughout."""
        linear = -lost - won + (2 * samples - lost + won) * at
        constant = -won * at * (1 - at)
        second = (math.sqrt(max(0.0, linear**2 - 8 * samples * constant)) - linear) / (4 * samples)
        variance = samples * max(0.0, 2 * second + at * (1 - at))
        return (lost - won - samples * at) ** 2 - QUANTILE**2 * variance

    return (_root(beyond, -1.0, difference), _root(beyond, 1.0, difference))


def _root(beyond: Callable[[float], float], end: float, inside: float) -> float:
    """Where a true difference is just too far off; the end where none is."""
    if beyond(end) <= 0:
        return end
    near = inside + 1e-9 * (
        end - inside
    )  # at the difference itself both sides are 0 where all samples are alike
    return float(brentq(beyond, end, near, xtol=1e-10))


def _of_value(metric: Metric, own: Floats, drawn: Floats) -> Interval:
    hits = _hits(metric, own)
    if hits is not None and len(hits):
        return wilson(int(hits.sum()), len(hits))
    samples = _counted(metric, own)
    if samples and _is_share(metric) and not _spreads(drawn):
        return wilson(metric.value(own) * samples, samples)
    return _of_resamples(drawn, samples)


def _of_drop(metric: Metric, own: Floats, dense: Floats, drawn: list[Floats], relative: bool) -> Interval:
    mine, other = _hits(metric, own), _hits(metric, dense)
    before, samples = metric.value(dense), _counted(metric, own)
    drops = drops_of(metric, drawn[0], drawn[1], relative=relative)
    if mine is not None and other is not None and len(mine) == len(other) > 0:
        low, high = tango(int((other & ~mine).sum()), int((mine & ~other).sum()), len(mine))
    elif samples and _is_share(metric) and not _spreads(drops):
        drop = (before - metric.value(own)) * samples
        low, high = tango(max(drop, 0.0), max(-drop, 0.0), samples)
    else:
        return _of_resamples(drops, samples)
    unit = abs(before) if relative and before else 1.0
    return (low / unit, high / unit)


def drops_of(metric: Metric, own: Floats, dense: Floats, *, relative: bool) -> Floats:
    """How much worse values of a model are than those of the dense one on the same samples, [n] each."""
    lost = dense - own if metric.higher_is_better else own - dense
    return lost / np.where(dense, np.abs(dense), 1.0) if relative else lost


def _of_resamples(drawn: Floats, samples: int) -> Interval:
    if samples < ALIKE and not _spreads(drawn):
        return UNKNOWN
    return interval_of(drawn, samples=samples)


def _hits(metric: Metric, table: Floats) -> NDArray[np.bool_] | None:
    """Which samples are right, [samples that count]; None for a metric that is not the share of them."""
    if isinstance(metric, SumMetric):
        if not metric.is_share:
            return None
        hits, counts = table[table[:, 1] > 0].T
        return None if (counts > 1).any() else hits > 0
    if not getattr(metric, "is_mean", False) or not np.isin(table, (0, 1)).all():
        return None
    return table[:, 0] > 0


def _counted(metric: Metric, table: Floats) -> int:
    """Samples that count."""
    return int((table[:, 1] > 0).sum()) if isinstance(metric, SumMetric) else len(table)


def _is_share(metric: Metric) -> bool:
    return isinstance(metric, NamedMetric) and metric.is_share


def _spreads(drawn: Floats) -> bool:
    """Whether resampled values differ by more than rounding."""
    known = drawn[~np.isnan(drawn)]
    return bool(len(known)) and float(np.ptp(known)) > _SPREAD * max(1.0, float(np.abs(known).max()))
