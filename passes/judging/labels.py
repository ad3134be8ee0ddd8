"""Whether labels say something about every sample that is judged by them: seen before a model runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunec.ir.data import TABLES
from prunec.ir.diagnostics import Place, UserError, counted
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.judging.metrics import LabelledMetric, Metric


def check_labels(metric: Metric, data: CalibrationData, members: NDArray[np.intp], slice: str) -> None:
    """See that no sample lacks the label that a metric reads, and that there are some that count.

    Args:
        metric: what is measured; one without labels needs nothing.
        data: all samples.
        members: the samples that are judged together.
        slice: what messages call them; ``all`` is the whole set.

    Raises:
        UserError: a label is NaN, or no label of these samples counts.
    """
    if not isinstance(metric, LabelledMetric) or metric.label not in data.arrays:
        return
    labels = data.arrays[metric.label]
    if labels.dtype.kind not in "iuf":
        return
    rows = labels.reshape(len(labels), -1)
    if labels.dtype.kind == "f" and len(missing := np.flatnonzero(np.isnan(rows).any(axis=1))):
        table = data.name.lower().endswith(TABLES)
        where = f"row {missing[0] + 1:,}" if table else f"sample {missing[0]:,}"
        more = f", and in {len(missing) - 1:,} more of {len(labels):,}" if len(missing) > 1 else ""
        negative = ", or give them a negative label: those do not count" if metric.skips_negative else ""
        raise UserError(
            f"`{metric.label}` is missing in {where} (NaN){more}",
            place=Place(file=data.name),
            help=[f"leave these samples out{negative}"],
        )
    if metric.skips_negative and not (rows[members] >= 0).any():
        named = "" if slice == "all" else f" of slice '{slice}'"
        raise UserError(
            f"metric `{metric}` has no value: 0 of {counted(len(members), 'sample')}{named} have a label",
            place=Place(file=data.name),
            notes=[f"all of array `{metric.label}` there are negative, and negative labels do not count"],
        )
