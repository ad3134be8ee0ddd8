"""The metric where nobody names one: what labels and the model's output tell of the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunec.passes.judging.metrics import Array, Metric, parse_metric

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData


@dataclass(frozen=True, slots=True)
class Choice:
    """A metric, and why it is that one.

    Attributes:
        metric: the metric.
        why: for people; empty where it was named.
    """

    metric: Metric
    why: str = ""


def metric_of(metric: Metric | str | None, data: CalibrationData, module: Module) -> Choice:
    """The metric that is meant.

    Args:
        metric: a metric or its text; None is the default for these data and this model.
        data: the samples.
        module: the model that is judged.
    """
    if metric is None:
        return default_metric(data, module)
    return Choice(parse_metric(metric) if isinstance(metric, str) else metric)


def default_metric(data: CalibrationData, module: Module) -> Choice:
    """``top1`` where ``label`` names classes that the first output has, ``rmse`` where it holds other numbers, and
    ``agreement`` where there is none.

    Tables with gaps, and many tools, make whole numbers floating-point: these are classes if the output has so many
    numbers a sample, and amounts otherwise. One number a sample is no score of classes whatever the labels are.
    """
    label = data.arrays.get("label")
    if label is None:
        return Choice(parse_metric("agreement"), "the data have no array `label`")
    width = _width(module, data)
    name = module.graph.outputs[0].name
    if width == 1 and label.dtype.kind in "iuf" and label.ndim == 1:
        return Choice(parse_metric("rmse"), f"output `{name}` is one number a sample")
    if label.dtype.kind in "iub":
        return Choice(parse_metric("top1"), "`label` holds whole numbers")
    known = _whole(label)
    if known is None:
        return Choice(parse_metric("rmse"), "`label` holds numbers that are not whole, or several a sample")
    values = f"`label` holds {len(np.unique(known)):,} different whole numbers up to {known.max():,.0f}"
    if width is not None and known.max() >= width:
        return Choice(
            parse_metric("rmse"), f"{values}, and output `{name}` has only {width:,} numbers a sample"
        )
    classes = "" if width is None else f", and output `{name}` has {width:,} numbers a sample"
    return Choice(parse_metric("top1"), f"{values}{classes}")


def _width(module: Module, data: CalibrationData) -> int | None:
    """Numbers a sample of the first output, where they are of floating point, on one axis, and declared.

    Not known of one axis alone, which may hold several numbers a sample, and of models whose inputs have no axis of
    samples.
    """
    output = module.graph.outputs[0]
    stacked = any(
        value.shape is not None and data.arrays[value.name or ""].ndim > len(value.shape)
        for value in module.graph.inputs
        if value.name in data.arrays
    )
    if stacked or output.shape is None or len(output.shape) < 2:
        return None
    if output.dtype is None or not output.dtype.is_floating_point():
        return None
    sizes = [size for size in output.shape[1:] if size != 1]
    if not sizes:
        return 1
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], int) else None


def _whole(label: Array) -> Array | None:
    """Floating-point labels [samples] that are known, where all of them are whole numbers."""
    if label.dtype.kind != "f" or label.ndim != 1:
        return None
    known = label[~np.isnan(label)]
    whole = len(known) and np.isfinite(known).all() and (known == np.round(known)).all()
    return known if whole else None
