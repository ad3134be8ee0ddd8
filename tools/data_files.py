"""Calibration data from the files that a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunec.passes.calibration.required import require_data

if TYPE_CHECKING:
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.pipeline import Pipeline


def calibration_data(pipeline: Pipeline, data: str | None) -> CalibrationData | None:
    """The data of ``--data``; without it, see that no pass needs any."""
    if data is None:
        require_data(pipeline)
        return None
    from prunec.ir.npz import ArrayFile
    from prunec.passes.calibration.data import CalibrationData

    return CalibrationData.of(ArrayFile(data), name=data)


def read_samples(text: str) -> CalibrationData:
    """The samples that a command line names."""
    from prunec.ir.npz import ArrayFile
    from prunec.passes.calibration.data import CalibrationData

    return CalibrationData.of(ArrayFile(text), name=text)
