"""One slice judged: its value and drop with intervals, and what became of its thresholds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunec.passes.judging.bootstrap import Interval
from prunec.passes.judging.intervals import UNKNOWN, drops_of, intervals_of
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
        interval: of the value; NaN where the samples are too few to know it.
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
    relative = item.limits.relative
    found = intervals_of(metric, own, dense, relative=relative, seed=seed)
    before = None if dense is None else metric.value(dense)
    drop = None
    if before is not None:
        drop = float(drops_of(metric, np.array([value]), np.array([before]), relative=relative)[0])
    what = item.perturbation
    checks = checks_of(
        item.limits,
        size=size,
        value=value,
        interval=found.value,
        drop=drop,
        drop_interval=found.drop or UNKNOWN,
    )
    return Row(
        name=item.name,
        where=item.where if what is None else f"{what.kind} {what.strength:g}",
        metric=str(metric),
        size=size,
        value=value,
        interval=found.value,
        dense=before,
        drop=drop,
        drop_interval=found.drop,
        relative=relative,
        checks=tuple(checks),
    )
