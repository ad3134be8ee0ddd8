"""Whether a pipeline has the calibration data that it needs; imports neither numpy nor onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from prunec.ir.diagnostics import UserError

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.pipeline import Pipeline

Data: TypeAlias = "CalibrationData | Mapping[str, Any]"
"""What callers give: calibration data, or arrays by name."""


def require_data(pipeline: Pipeline) -> None:
    """See that no pass of a pipeline needs calibration data: there are none.

    Raises:
        UserError: one needs some.
    """
    for pass_ in pipeline.expand():
        if pass_.needs_data:
            raise UserError(
                f"`{pass_}` needs calibration data, and none are given",
                help=[
                    "on the command line: --data FILE.npz; in Python: prunec.run(..., data={name: array})",
                    "name the arrays as the graph inputs; their first axis is the samples",
                ],
            )


def checked_data(module: Module, pipeline: Pipeline, data: Data | None) -> CalibrationData | None:
    """Calibration data that fit a module and the passes that read them, before anything runs.

    Raises:
        UserError: there are none and a pass needs some, they do not fit, or a pass lacks something else.
    """
    known = None
    if data is None:
        require_data(pipeline)
    else:
        from prunec.passes.calibration.data import CalibrationData

        known = CalibrationData.of(data)
        fitted = any(pass_.fits_data for pass_ in pipeline.expand())
        known.bind(module, every=not fitted)
    for pass_ in pipeline.expand():
        pass_.check(module, known)
    return known
