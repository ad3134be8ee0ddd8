"""One slice judged: its value and drop with intervals, and what became of its thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunec.passes.judging.bootstrap import Interval, interval_of, resampled
from prunec.passes.judging.metrics import Floats, Metric
from prunec.passes.judging.slices import Slice
from prunec.passes.judging.thresholds import Check, Status, checks_of, worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A slice, measured.

    Attributes:
        name: of the slice; ``all`` is the whole set.
        where: its predicate, or what was done to the samples; empty for the whole set.
        metric: what was measured, as text.
        size: samples.
        value: of the metric.
        interval: of the value; NaN of too few samples.
        dense: value of the dense model; None where there is none.
        drop: how much worse the model is than the dense one; positive is worse.
        drop_interval: of the drop, paired.
        relative: whether drops are shares of the dense model's value, as the limit is.
        checks: what became of every threshold.
    """

    name: str
    where: str
    metric: str
    size: int
    value: float
    interval: Interval
    dense: float | None
    drop: float | None
    drop_interval: Interval | None
    relative: bool
    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        """The worst that became of a threshold."""
        return worst(check.status for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The row as plain data."""
        return {
            "name": self.name,
            "where": self.where,
            "metric": self.metric,
            "size": self.size,
            "value": known(self.value),
            "interval": [known(end) for end in self.interval],
            "dense": known(self.dense),
            "drop": known(self.drop),
            "relative": self.relative,
            "drop_interval": None
            if self.drop_interval is None
            else [known(end) for end in self.drop_interval],
            "status": self.status if self.checks else None,
            "checks": [
                {"name": check.name, "limit": check.limit, "status": check.status} for check in self.checks
            ],
        }


def known(value: float | None) -> float | None:
    """A number as JSON has it: None where it is not known."""
    return None if value is None or math.isnan(value) else value


def judge(item: Slice, metric: Metric, own: Floats, dense: Floats | None, *, seed: int) -> Row:
    """Measure one slice.

    Args:
        item: the slice and its thresholds.
        metric: what is measured.
        own: [samples of the slice, k], what the metric keeps of the model.
        dense: the same of the dense model, or None.
        seed: of the bootstrap.
    """
    size, value = len(own), metric.value(own)
    tables = [own] if dense is None else [own, dense]
    drawn = resampled(metric, tables, seed=seed)
    interval = interval_of(drawn[0], samples=size)
    drop, drop_interval = None, None
    if dense is not None:
        drop = float(_drop(item, metric, np.array([value]), np.array([metric.value(dense)]))[0])
        drop_interval = interval_of(_drop(item, metric, *drawn), samples=size)
    what = item.perturbation
    checks = checks_of(
        item.limits,
        size=size,
        value=value,
        interval=interval,
        drop=drop,
        drop_interval=drop_interval or (float("nan"), float("nan")),
    )
    return Row(
        name=item.name,
        where=item.where if what is None else f"{what.kind} {what.strength:g}",
        metric=str(metric),
        size=size,
        value=value,
        interval=interval,
        dense=None if dense is None else metric.value(dense),
        drop=drop,
        drop_interval=drop_interval,
        relative=item.limits.relative,
        checks=tuple(checks),
    )


def _drop(item: Slice, metric: Metric, own: Floats, dense: Floats) -> Floats:
    """How much worse values of a model are than those of the dense one on the same samples, [n] each."""
    lost = dense - own if metric.higher_is_better else own - dense
    if not item.limits.relative:
        return lost
    return lost / np.where(dense, np.abs(dense), 1.0)
