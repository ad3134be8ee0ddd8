"""Samples from what the option ``--data`` names, the same for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunec.passes.calibration.required import require_data

if TYPE_CHECKING:
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.pipeline import Pipeline

DATA_HELP = "Samples: an .npz file, a .csv or .parquet table, or module:function; arrays are named as the graph inputs."
"""Help of ``--data``."""


def read_samples(text: str) -> CalibrationData:
    """The samples of ``--data``: inputs by name, and columns such as ``label``.

    Args:
        text: see :func:`prunec.ir.data.read_data`.

    Raises:
        UserError: they cannot be read, or arrays have different numbers of samples.
    """
    from prunec.ir.data import read_data
    from prunec.passes.calibration.data import CalibrationData

    return CalibrationData.of(read_data(text), name=text)


def calibration_data(pipeline: Pipeline, data: str | None) -> CalibrationData | None:
    """The data of ``--data``; without it, see that no pass needs any."""
    if data is None:
        require_data(pipeline)
        return None
    return read_samples(data)
