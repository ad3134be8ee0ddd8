"""The metric of a model on samples, with an interval; the numbers of every sample are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import Blame
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.judging.bootstrap import Interval, bootstrap_interval
from prunec.passes.judging.metrics import Floats, Metric, default_metric, parse_metric
from prunec.passes.judging.outputs import OutputReader, sample_outputs

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.required import Data

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good a model is on samples.

    Attributes:
        model: its name.
        sha256: of its file, or None.
        data: name of the samples.
        metric: what was measured.
        value: of all samples.
        interval: 95 % bootstrap interval of the value over samples.
        samples: their number.
        seed: of the bootstrap.
        observations: [samples, k], what the metric keeps of every sample.
    """

    model: str
    sha256: str | None
    data: str
    metric: Metric
    value: float
    interval: Interval
    samples: int
    seed: int
    observations: Floats = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The result as plain data, without the numbers of single samples."""
        return {
            "schema": "prunec.evaluation/1",
            "model": {"name": self.model, "sha256": self.sha256},
            "data": self.data,
            "samples": self.samples,
            "metric": str(self.metric),
            "higher_is_better": self.metric.higher_is_better,
            "value": self.value,
            "interval": list(self.interval),
            "seed": self.seed,
        }


def evaluate(
    module: Module,
    data: Data,
    metric: Metric | str | None = None,
    *,
    reference: Module | None = None,
    seed: int = 0,
    blame: Blame = "user",
) -> Evaluation:
    """Measure a model on samples.

    Args:
        module: the model.
        data: arrays by name, first axis = samples: the graph inputs, and columns such as ``label``.
        metric: a metric or its text, such as ``"top1"``; by default ``top1`` where there are labels, else
            ``agreement`` with the reference.
        reference: the dense model, for metrics that compare with it.
        seed: of the bootstrap.
        blame: whose mistake it is where the model fails.

    Raises:
        UserError: the data do not fit the model or lack what the metric reads, outputs are NaN, or the metric
            fails.
        PassFailure: the model fails or its outputs are NaN, with ``blame="pass"``.

    Example:
        >>> import numpy as np, prunec
        >>> module = prunec.load("examples/digits.onnx")
        >>> with np.load("examples/digits.npz") as file:
        ...     result = prunec.evaluate(module, file, "top1")
        >>> round(result.value, 4), result.samples
        (0.9978, 450)
    """
    known = CalibrationData.of(data)
    chosen = metric_of(metric, known)
    observations = observe(module, known, chosen, reference=reference, blame=blame)
    return Evaluation(
        model=module.source.name,
        sha256=module.source.sha256,
        data=known.name,
        metric=chosen,
        value=chosen.value(observations),
        interval=bootstrap_interval(
            lambda rows: chosen.value(observations[rows]), len(observations), seed=seed
        ),
        samples=known.count,
        seed=seed,
        observations=observations,
    )


def metric_of(metric: Metric | str | None, data: CalibrationData) -> Metric:
    """The metric that is meant; None is the default for these data."""
    if isinstance(metric, str):
        return parse_metric(metric)
    return default_metric(data) if metric is None else metric


def observe(
    module: Module,
    data: CalibrationData,
    metric: Metric,
    *,
    reference: Module | None = None,
    blame: Blame = "user",
) -> Floats:
    """What a metric keeps of every sample, [samples, k]; the models run side by side, and no outputs are kept.

    Raises:
        UserError or PassFailure: as :func:`evaluate` does.
    """
    runs = sample_outputs(module, data, blame=blame)
    beside: OutputReader | None = None
    if reference is not None and metric.needs_reference:
        beside = OutputReader(sample_outputs(reference, data))
    rows: list[Floats] = []
    begin = 0
    for outputs in runs:
        count = len(next(iter(outputs.values())))
        dense = None if beside is None else beside.take(count)
        columns = {name: array[begin : begin + count] for name, array in data.arrays.items()}
        rows.append(_observed(metric, data.name, outputs, columns, dense))
        begin += count
    observations = np.concatenate(rows)
    _check_known(metric, data.name, observations)
    return observations


def _observed(
    metric: Metric,
    file: str,
    outputs: Mapping[str, Array],
    columns: Mapping[str, Array],
    dense: Mapping[str, Array] | None,
) -> Floats:
    try:
        return metric.observe(outputs, columns, dense)
    except UserError as error:
        error.place = error.place or Place(file=file)
        raise


def _check_known(metric: Metric, file: str, observations: Floats) -> None:
    unknown = np.flatnonzero(np.isnan(observations).any(axis=1))
    if len(unknown):
        raise UserError(
            f"metric `{metric}` is NaN for {len(unknown):,} of {len(observations):,} samples, "
            f"the first is sample {unknown[0]}",
            place=Place(file=file),
            help=["look at the labels of these samples"],
        )
