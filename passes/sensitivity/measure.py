"""``prunec.sensitivity``: a sweep from its first measurement, or from where an earlier one stopped, to its profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.ir.module import Module, require_module
from prunec.ir.version import VERSION
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.coupling.options import Unit
from prunec.passes.pruning.importance import Criterion
from prunec.passes.sensitivity.executor import Executor, parse_executor
from prunec.passes.sensitivity.identity import sweep_header
from prunec.passes.sensitivity.journal import Journal
from prunec.passes.sensitivity.profile import GroupCurve, Point, Profile
from prunec.passes.sensitivity.sweep import Settings, Sweep

if TYPE_CHECKING:
    from prunec.passes.calibration.required import Data
    from prunec.passes.judging.metrics import Metric

Values = dict[tuple[str, int], float | None]
"""By group and number of masked units the metric; None where it is no number."""


def sensitivity(
    module: Module,
    data: Data,
    metric: Metric | str | None = None,
    *,
    ratios: Sequence[float] = (0.2,),
    criterion: Criterion = "l2",
    unit: Unit = "head",
    seed: int = 0,
    executor: Executor | str = "threads",
    partial: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Profile:
    """Measure how much a model loses when a share of one layer's channels goes, layer by layer.

    Args:
        module: the model.
        data: arrays by name, first axis = samples: the graph inputs, and columns such as ``label``.
        metric: a metric or its text; by default what labels and outputs tell
            (:mod:`prunec.passes.judging.default`), without labels ``agreement`` with the model as it is.
        ratios: shares of a layer's channels, each in (0, 1).
        criterion: what makes a channel important; the least important ones are masked.
        unit: what attention loses: whole heads, or the same positions of every head.
        seed: of a random criterion.
        executor: ``threads``, ``threads:N``, ``dask://host:port``, or an executor.
        partial: a file for measurements until all are there; one that exists is gone on with, and removed at the end.
        progress: told about every measurement.

    Returns:
        The profile, groups in graph order.

    Raises:
        UserError: the data do not fit, the metric fails, the partial file is that of another sweep, or the cluster
            does not answer.

    Example:
        >>> import numpy as np, prunec
        >>> module = prunec.load("examples/digits.onnx")
        >>> with np.load("examples/digits.npz") as file:
        ...     profile = prunec.sensitivity(module, file, ratios=[0.5])
        >>> [round(profile.drop(group.curve[0]), 3) >= 0 for group in profile.groups][:1]
        [True]
    """
    require_module(module)
    settings = Settings(ratios=tuple(sorted(set(ratios))), criterion=criterion, unit=unit, seed=seed)
    where = parse_executor(executor) if isinstance(executor, str) else executor
    where.check()
    sweep = Sweep(module, CalibrationData.of(data), metric, settings)
    dense = sweep.dense()
    with nullcontext() if partial is None else Journal(Path(partial), sweep_header(sweep, dense)) as journal:
        measured = _Measured(sweep=sweep, journal=journal, progress=progress)
        if missing := measured.missing():
            where.run(sweep, [sweep.candidates.make(*key) for key in missing], measured.add)
        profile = _profile(sweep, dense, measured.values)
        if journal is not None:
            journal.discard()
    return profile


@dataclass(slots=True, kw_only=True)
class _Measured:
    """What is known so far.

    Attributes:
        sweep: what is measured.
        journal: where it is kept until all of it is there, or None; it may hold some of it from the beginning.
        progress: told about every measurement.
        values: what was measured.
        wanted: all that is to be measured.
    """

    sweep: Sweep
    journal: Journal | None
    progress: Callable[[str], None] | None
    values: Values = field(init=False)
    wanted: set[tuple[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.values = {} if self.journal is None else self.journal.values
        candidates, ratios = self.sweep.candidates, self.sweep.settings.ratios
        self.wanted = {(row, candidates.removed(row, ratio)) for row in candidates.rows for ratio in ratios}

    def missing(self) -> list[tuple[str, int]]:
        """Groups, and how many of their units to mask."""
        return sorted(self.wanted - self.values.keys())

    def add(self, row: str, removed: int, value: float | None) -> None:
        """Take a measurement."""
        if self.journal is not None:
            self.journal.add(row, removed, value)
        self.values[row, removed] = value
        if self.progress is not None:
            done = len(self.wanted & self.values.keys())
            self.progress(f"{done} of {len(self.wanted)} measured: {removed} units of {row} masked")


def _profile(sweep: Sweep, dense: float, values: Values) -> Profile:
    return Profile(
        model_name=sweep.module.source.name,
        model_sha256=sweep.module.source.sha256,
        data_name=sweep.data.name,
        samples=sweep.data.count,
        metric=str(sweep.metric),
        higher_is_better=sweep.metric.higher_is_better,
        dense=dense,
        criterion=sweep.settings.criterion,
        unit=sweep.settings.unit,
        seed=sweep.settings.seed,
        version=VERSION,
        groups=tuple(_with_curve(sweep, row, values) for _, row in sweep.candidates.rows.values()),
    )


def _with_curve(sweep: Sweep, row: GroupCurve, values: Values) -> GroupCurve:
    removed = [(ratio, sweep.candidates.removed(row.id, ratio)) for ratio in sweep.settings.ratios]
    return replace(row, curve=tuple(Point(ratio=r, removed=n, value=values[row.id, n]) for r, n in removed))
