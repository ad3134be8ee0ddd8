"""Runs models on samples and keeps what metrics need of every sample; outputs themselves are not kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.dialect import Blame
from prunec.passes.judging.metrics import Arrays, Floats, Metric
from prunec.passes.judging.outputs import OutputReader, sample_runs

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.judging.perturb import Perturbation

Observed = Mapping[str, Floats]
"""[samples, k] by the text of the metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What metrics keep of every sample, of a model and of the dense one.

    Attributes:
        own: of the model.
        dense: of the dense model; None where there is none.
    """

    own: Observed
    dense: Observed | None


def observe(
    module: Module,
    data: CalibrationData,
    metrics: Iterable[Metric],
    *,
    reference: Module | None = None,
    perturbation: Perturbation | None = None,
    seed: int = 0,
    blame: Blame = "user",
) -> Observations:
    """Run a model, and beside it the dense one, on all samples.

    Args:
        module: the model.
        data: the samples.
        metrics: what is measured.
        reference: the dense model, or None.
        perturbation: what is done to the samples first; the dense model gets the same (of an attack, its own).
        seed: for perturbations that are random.
        blame: whose mistake it is where the model fails.

    Raises:
        UserError: the data do not fit the model or lack what a metric reads, or a metric fails.
        PassFailure: the model fails or its outputs are NaN, with ``blame="pass"``.
    """
    used = {str(metric): metric for metric in metrics}
    own: dict[str, list[Floats]] = {text: [] for text in used}
    dense: dict[str, list[Floats]] = {text: [] for text in used}
    beside = None
    if reference is not None:
        beside = OutputReader(sample_runs(reference, data, perturbation=perturbation, seed=seed))
    for run in sample_runs(module, data, perturbation=perturbation, seed=seed, blame=blame):
        other = None if beside is None else beside.take(run.count)
        for text, metric in used.items():
            own[text].append(_observed(metric, data.name, run.outputs, run.columns, other))
            if other is not None:
                dense[text].append(_observed(metric, data.name, other, run.columns, other))
    return Observations(
        own={text: _joined(used[text], data.name, parts) for text, parts in own.items()},
        dense=None
        if reference is None
        else {text: _joined(used[text], data.name, parts) for text, parts in dense.items()},
    )


def _observed(metric: Metric, file: str, outputs: Arrays, columns: Arrays, dense: Arrays | None) -> Floats:
    try:
        return metric.observe(outputs, columns, dense)
    except UserError as error:
        error.place = error.place or Place(file=file)
        raise


def _joined(metric: Metric, file: str, parts: Sequence[Floats]) -> Floats:
    observations = np.concatenate(parts)
    unknown = np.flatnonzero(np.isnan(observations).any(axis=1))
    if len(unknown):
        raise UserError(
            f"metric `{metric}` is NaN for {len(unknown):,} of {len(observations):,} samples, "
            f"the first is sample {unknown[0]}",
            place=Place(file=file),
            help=["look at the labels of these samples"],
        )
    return observations
