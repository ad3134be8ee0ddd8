"""The metric of a model on samples and on slices of them, with intervals, against what is demanded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import GateError, Place, UserError, counted
from prunec.ir.dialect import Blame
from prunec.ir.module import Module, require_module
from prunec.ir.source import SourceText
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.judging.default import metric_of
from prunec.passes.judging.labels import check_labels
from prunec.passes.judging.metrics import Floats, Metric, NamedMetric, parse_metric
from prunec.passes.judging.observe import Observations, observe
from prunec.passes.judging.predicates import matching
from prunec.passes.judging.rows import Row, judge, known
from prunec.passes.judging.slice_file import read_slices
from prunec.passes.judging.slices import Slice, SliceFile
from prunec.passes.judging.thresholds import Limits, Status, worst

if TYPE_CHECKING:
    from prunec.passes.calibration.required import Data
    from prunec.passes.judging.bootstrap import Interval

Positions = NDArray[np.intp]
Slices = SliceFile | Sequence[Slice] | str | Path
"""What callers give: a file of slices, its path, or slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good a model is on samples.

    Attributes:
        model: its name.
        sha256: of its file, or None.
        reference: name of the dense model, or None.
        data: name of the samples.
        metric: what was measured, where a slice names no other.
        why: why that, where nobody named it.
        samples: their number.
        seed: of the bootstrap, and of what is random about slices.
        rows: the whole set, then every slice.
        observations: [samples, k], what the metric keeps of every sample.
    """

    model: str
    sha256: str | None
    reference: str | None
    data: str
    metric: Metric
    why: str
    samples: int
    seed: int
    rows: tuple[Row, ...]
    observations: Floats = field(repr=False)

    @property
    def value(self) -> float:
        """The metric of all samples."""
        return self.rows[0].value

    @property
    def interval(self) -> Interval:
        """95 % interval of the value over samples; NaN where they are too few to know it."""
        return self.rows[0].interval

    @property
    def status(self) -> Status:
        """The worst that became of any threshold."""
        return worst(row.status for row in self.rows)

    def failures(self, *, undecided: bool = False) -> Iterator[str]:
        """Thresholds that do not hold, a line each.

        Args:
            undecided: also those that the samples do not decide.
        """
        bad = ("fails", "undecided") if undecided else ("fails",)
        for row in self.rows:
            for check in row.checks:
                if check.status in bad:
                    named = "the whole set" if row.name == "all" else f"slice `{row.name}`"
                    yield f"{named} ({counted(row.size, 'sample')}): {row.metric} {check.why}"

    def require(self, *, undecided: bool = False, file: str | None = None) -> None:
        """See that all thresholds hold.

        Args:
            undecided: thresholds that the samples do not decide count as failed.
            file: that they stand in, for the message.

        Raises:
            GateError: one does not.
        """
        failures = list(self.failures(undecided=undecided))
        if failures:
            error = GateError.of(failures, None if file is None else Place(file=file))
            error.evaluation = self
            raise error

    def to_json(self) -> dict[str, Any]:
        """The result as plain data, without the numbers of single samples."""
        return {
            "schema": "prunec.evaluation/1",
            "model": {"name": self.model, "sha256": self.sha256},
            "reference": self.reference,
            "data": self.data,
            "samples": self.samples,
            "metric": str(self.metric),
            "higher_is_better": self.metric.higher_is_better,
            "value": known(self.value),
            "interval": [known(end) for end in self.interval],
            "seed": self.seed,
            "status": self.status,
            "rows": [row.to_json() for row in self.rows],
        }


def evaluate(
    module: Module,
    data: Data,
    metric: Metric | str | None = None,
    *,
    reference: Module | None = None,
    slices: Slices = (),
    seed: int = 0,
    blame: Blame = "user",
) -> Evaluation:
    """Measure a model on samples and slices of them.

    Args:
        module: the model.
        data: arrays by name, first axis = samples: the graph inputs, and columns such as ``label``.
        metric: a metric or its text, such as ``"top1"``; by default that of the slices, else what the labels tell
            (:mod:`prunec.passes.judging.default`).
        reference: the dense model: for drops, and for metrics that compare with it. It runs on the same samples.
        slices: a file of slices or its path, or slices; thresholds in it that do not hold raise nothing.
        seed: of the bootstrap, and of what is random about slices.
        blame: whose mistake it is where the model fails.

    Raises:
        UserError: the data do not fit the model or lack what the metric reads, a slice has a mistake or no
            samples, outputs are NaN, or the metric fails.
        PassFailure: the model fails or its outputs are NaN, with ``blame="pass"``.

    Example:
        >>> import numpy as np, prunec
        >>> module = prunec.load("examples/digits.onnx")
        >>> with np.load("examples/digits.npz") as file:
        ...     result = prunec.evaluate(module, file, "top1")
        >>> round(result.value, 4), result.samples
        (0.9978, 450)
    """
    require_module(module)
    if reference is not None:
        require_module(reference)
    known, file = CalibrationData.of(data), slices_of(slices)
    choice = metric_of(metric if metric is not None else file.metric, known, module)
    chosen = choice.metric
    metrics, members = checked_slices(file, known, chosen, reference)
    options: dict[str, Any] = {"reference": reference, "seed": seed, "blame": blame}
    clean = observe(module, known, [chosen, *_of_clean(file, metrics)], **options)
    rows = [_row(_whole(file), chosen, np.arange(known.count), clean, seed)]
    for item in file.slices:
        if item.name == "all":
            continue
        found = clean
        if item.perturbation is not None:
            found = observe(module, known, [metrics[item.name]], perturbation=item.perturbation, **options)
        rows.append(_row(item, metrics[item.name], members[item.name], found, seed))
    return Evaluation(
        model=module.source.name,
        sha256=module.source.sha256,
        reference=None if reference is None else reference.source.name,
        data=known.name,
        metric=chosen,
        why=choice.why,
        samples=known.count,
        seed=seed,
        rows=tuple(rows),
        observations=clean.own[str(chosen)],
    )


def slices_of(slices: Slices) -> SliceFile:
    """The slices that are meant."""
    if isinstance(slices, SliceFile):
        return slices
    if isinstance(slices, str | Path):
        return read_slices(slices)
    return SliceFile(source=SourceText.of("", "<slices>"), slices=tuple(slices))


def checked_slices(
    file: SliceFile, data: CalibrationData, chosen: Metric, reference: Module | None
) -> tuple[dict[str, Metric], dict[str, Positions]]:
    """The metric and the samples of every slice by its name, seen to go together before a model runs.

    Args:
        file: the slices.
        data: the samples.
        chosen: the metric of slices that name no other.
        reference: the dense model, or None.

    Raises:
        UserError: a slice has a mistake, no samples or no labels, or a threshold does not fit its metric.
    """
    metrics = {item.name: parse_metric(item.metric) if item.metric else chosen for item in file.slices}
    members = members_of(file, data)
    _check_limits(file, metrics, chosen, reference)
    check_labels(chosen, data, np.arange(data.count), "all")
    for item in file.slices:
        check_labels(metrics[item.name], data, members[item.name], item.name)
    return metrics, members


def members_of(file: SliceFile, data: CalibrationData) -> dict[str, Positions]:
    """The samples of every slice, by its name.

    Raises:
        UserError: a predicate has a mistake, or a slice has no samples.
    """
    return {item.name: _members(item, file, data) for item in file.slices}


def _members(item: Slice, file: SliceFile, data: CalibrationData) -> Positions:
    if not item.where:
        return np.arange(data.count)
    found = np.flatnonzero(matching(item.where, data.arrays, source=file.source, sets=file.sets))
    if not len(found):
        start = max(file.source.text.find(item.where), 0)
        raise file.source.error(
            f"slice '{item.name}' is empty: its predicate holds for none of {data.count:,} samples",
            start,
            start + len(item.where),
        )
    return found


def _check_limits(
    file: SliceFile, metrics: Mapping[str, Metric], chosen: Metric, reference: Module | None
) -> None:
    """See that thresholds go together with the metric, and with a dense model where they need one."""
    for item in file.slices:
        metric = metrics.get(item.name, chosen)
        wrong = item.limits.maximum if metric.higher_is_better else item.limits.minimum
        if wrong is not None:
            names = ("max", "higher", "min") if metric.higher_is_better else ("min", "lower", "max")
            raise UserError(
                f"{file.source.file}: '{item.name}' limits {metric} by '{names[0]}', but {names[1]} is better",
                help=[f"write {names[2]} = {wrong:g}"],
            )
        _check_reach(f"{file.source.file}: '{item.name}'", item.limits, metric)
        if item.limits.max_drop is not None and reference is None:
            raise UserError(
                f"{file.source.file}: '{item.name}' limits the drop against the dense model, and none is given",
                help=["on the command line: --against DENSE.onnx; in Python: reference=module"],
            )


def _check_reach(named: str, limits: Limits, metric: Metric) -> None:
    """See that a metric that is a share can keep a limit, and that the limit says something."""
    if not isinstance(metric, NamedMetric) or not metric.is_share:
        return
    drop = None if limits.relative else limits.max_drop
    for key, limit in (("min", limits.minimum), ("max-drop", drop)):
        if limit is not None and limit > 1:
            help = [f"write {key} = {limit / 100:g}"] if limit <= 100 else []
            raise UserError(f"{named} has {key} = {limit:g}, but {metric} is between 0 and 1", help=help)


def _of_clean(file: SliceFile, metrics: Mapping[str, Metric]) -> list[Metric]:
    return [metrics[item.name] for item in file.slices if item.perturbation is None]


def _whole(file: SliceFile) -> Slice:
    return next((item for item in file.slices if item.name == "all"), Slice(name="all"))


def _row(item: Slice, metric: Metric, members: Positions, found: Observations, seed: int) -> Row:
    text = str(metric)
    dense = None if found.dense is None else found.dense[text][members]
    row = judge(item, metric, found.own[text][members], dense, seed=seed)
    if math.isnan(row.value) or (row.dense is not None and math.isnan(row.dense)):
        named = "" if item.name == "all" else f" of slice '{item.name}'"
        raise UserError(f"metric `{metric}` has no value for {counted(row.size, 'sample')}{named}: it is NaN")
    return row
