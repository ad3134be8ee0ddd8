"""What a deployed model did on the samples that it was accepted on, stored, and compared with what it does now.

Metrics need labels (or the dense model); distributions of inputs and outputs need nothing but new samples, and show
a drift long before labels do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunec.ir.diagnostics import Place, UserError
from prunec.passes.judging.bootstrap import FEW, Interval
from prunec.passes.judging.distributions import LARGE, Distribution, Drift, input_features, output_features
from prunec.passes.judging.evaluate import Evaluation
from prunec.passes.judging.metrics import Array, parse_metric
from prunec.passes.judging.outputs import sample_runs
from prunec.passes.judging.rows import known

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData

SCHEMA = "prunec.baseline/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A metric of a slice.

    Attributes:
        slice: its name; ``all`` is the whole set.
        metric: what was measured, as text.
        size: samples.
        value: of the metric.
        interval: of the value, 95 %.
    """

    slice: str
    metric: str
    size: int
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A metric of a slice, stored and now.

    Attributes:
        before: what was stored.
        now: on the new samples.
    """

    before: Measured
    now: Measured

    @property
    def too_few(self) -> bool:
        """Whether one of them is of too few samples to tell."""
        if min(self.before.size, self.now.size) < FEW:
            return True
        return bool(np.isnan([*self.before.interval, *self.now.interval]).any())

    @property
    def worse(self) -> bool:
        """Whether even the favourable end of the new interval is worse than the stored one's unfavourable end."""
        if parse_metric(self.now.metric).higher_is_better:
            return self.now.interval[1] < self.before.interval[0]
        return self.now.interval[0] > self.before.interval[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """New samples against a baseline.

    Attributes:
        changes: of the metrics that could be measured again.
        drifts: of every distribution, inputs first.
        absent: distributions and metrics that the new samples have nothing for.
    """

    changes: tuple[Change, ...]
    drifts: tuple[Drift, ...]
    absent: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "changes": [
                {
                    "slice": c.now.slice,
                    "metric": c.now.metric,
                    "before": c.before.value,
                    "now": c.now.value,
                    "interval": [known(end) for end in c.now.interval],
                    "worse": c.worse,
                }
                for c in self.changes
            ],
            "drifts": [
                {"name": d.name, "psi": d.psi, "ks": d.ks, "chance": d.chance, "status": d.status}
                for d in self.drifts
            ],
            "absent": list(self.absent),
        }

    def failures(self) -> Iterator[str]:
        """What got worse and what drifted, a line each."""
        for change in self.changes:
            if change.worse:
                now, before = change.now, change.before
                named = "the whole set" if now.slice == "all" else f"slice `{now.slice}`"
                yield f"{named}: {now.metric} is {_shown(now)}, in the baseline {_shown(before)}"
        for drift in self.drifts:
            if drift.status == "drifted":
                yield f"{drift.name} has drifted: stability index {drift.psi:.3f}, at most {drift.limit:g} is allowed"


def _shown(measured: Measured) -> str:
    low, high = measured.interval
    return f"{measured.value:.4g} [{low:.4g}, {high:.4g}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a model did on samples; make it with :func:`measure_baseline` or :meth:`from_json`.

    Attributes:
        model: its name.
        sha256: of its file.
        data: name of the samples.
        seed: of the intervals.
        measured: metrics of the whole set and of slices.
        distributions: of inputs and outputs.
    """

    model: str
    sha256: str | None
    data: str
    seed: int
    measured: tuple[Measured, ...]
    distributions: tuple[Distribution, ...]

    def to_json(self) -> dict[str, Any]:
        """The baseline as plain data."""
        return {
            "schema": SCHEMA,
            "model": {"name": self.model, "sha256": self.sha256},
            "data": self.data,
            "seed": self.seed,
            "measured": [
                {
                    "slice": m.slice,
                    "metric": m.metric,
                    "size": m.size,
                    "value": m.value,
                    "interval": [known(end) for end in m.interval],
                }
                for m in self.measured
            ],
            "distributions": [distribution.to_json() for distribution in self.distributions],
        }

    @classmethod
    def from_json(cls, content: Any, *, file: str) -> Baseline:
        """A baseline from plain data.

        Raises:
            UserError: it is none.
        """
        try:
            if content["schema"] != SCHEMA:
                raise ValueError(f"its schema is {content['schema']!r}, not {SCHEMA!r}")
            return cls(
                model=str(content["model"]["name"]),
                sha256=content["model"]["sha256"],
                data=str(content["data"]),
                seed=int(content["seed"]),
                measured=tuple(_measured(row) for row in content["measured"]),
                distributions=tuple(_distribution(row) for row in content["distributions"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            why = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"this is no baseline: {why}",
                place=Place(file=file),
                help=["write one: prunec eval MODEL --data DATA --save-baseline FILE.json"],
            ) from error

    def compare(
        self,
        module: Module,
        data: CalibrationData,
        evaluations: Sequence[Evaluation],
        *,
        limit: float = LARGE,
        file: str = "<baseline>",
    ) -> Comparison:
        """The same model on other samples.

        Args:
            module: the model.
            data: the samples.
            evaluations: of the metrics that can be measured on them.
            limit: stability index from which on a distribution counts as drifted.
            file: what messages call the baseline.

        Raises:
            UserError: the baseline is of another model.
        """
        if self.sha256 is not None and module.source.sha256 != self.sha256:
            raise UserError(
                f"this is the baseline of another model: of '{self.model}', not of '{module.source.name}'",
                place=Place(file=file),
                notes=[f"sha256 {self.sha256}, not {module.source.sha256 or 'that of a model in memory'}"],
                help=["save one of this model: --save-baseline FILE.json"],
            )
        now = {(m.slice, m.metric): m for result in evaluations for m in _rows(result)}
        features = dict(_features(module, data))
        changes = [
            Change(before=m, now=now[m.slice, m.metric]) for m in self.measured if (m.slice, m.metric) in now
        ]
        absent = [f"{m.metric} of {m.slice}" for m in self.measured if (m.slice, m.metric) not in now]
        return Comparison(
            changes=tuple(changes),
            drifts=tuple(
                d.drift(features[d.name], limit=limit) for d in self.distributions if d.name in features
            ),
            absent=(*absent, *(d.name for d in self.distributions if d.name not in features)),
        )


def measure_baseline(module: Module, data: CalibrationData, evaluations: Sequence[Evaluation]) -> Baseline:
    """What a model does on samples, to store.

    Args:
        module: the model.
        data: the samples.
        evaluations: of the metrics to watch, on the same samples.
    """
    return Baseline(
        model=module.source.name,
        sha256=module.source.sha256,
        data=data.name,
        seed=evaluations[0].seed if evaluations else 0,
        measured=tuple(m for result in evaluations for m in _rows(result)),
        distributions=tuple(Distribution.of(name, values) for name, values in _features(module, data)),
    )


def _rows(result: Evaluation) -> Iterator[Measured]:
    for row in result.rows:
        yield Measured(
            slice=row.name, metric=row.metric, size=row.size, value=row.value, interval=row.interval
        )


def _features(module: Module, data: CalibrationData) -> Iterator[tuple[str, Array]]:
    """What is watched, [samples] each, by name: inputs, then outputs."""
    yield from input_features(data.arrays)
    parts: dict[str, list[Array]] = {}
    for run in sample_runs(module, data):
        for name, values in output_features(run.outputs):
            parts.setdefault(name, []).append(values)
    yield from ((name, np.concatenate(values)) for name, values in parts.items())


def _measured(row: Mapping[str, Any]) -> Measured:
    low, high = (float("nan") if end is None else float(end) for end in row["interval"])
    return Measured(
        slice=str(row["slice"]),
        metric=str(row["metric"]),
        size=int(row["size"]),
        value=float(row["value"]),
        interval=(low, high),
    )


def _distribution(row: Mapping[str, Any]) -> Distribution:
    return Distribution(
        name=str(row["name"]),
        samples=int(row["samples"]),
        quantiles=tuple(map(float, row.get("quantiles", ()))),
        shares={str(name): float(share) for name, share in row.get("shares", {}).items()},
    )
