"""Files of ``prunec eval --save-baseline`` and ``--baseline``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prunec
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import read_text, write_text

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.calibration.data import CalibrationData
    from prunec.passes.judging.baseline import Baseline
    from prunec.passes.judging.evaluate import Evaluation


def with_versions(schema: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file with its schema and the versions that its numbers hold for."""
    import onnxruntime as ort

    versions = {"prunec": prunec.__version__, "onnxruntime": ort.__version__}
    return {**content, "schema": schema, "versions": versions}


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        UserError: it cannot be read, or is none.
    """
    from prunec.passes.judging.baseline import Baseline

    text = read_text(path, "baseline")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"this is no JSON: {error}", place=Place(file=str(path))) from error
    return Baseline.from_json(content, file=str(path))


def write_baseline(
    path: Path, module: Module, data: CalibrationData, evaluations: Sequence[Evaluation]
) -> None:
    """Store what a model does on samples.

    Raises:
        UserError: the file cannot be written.
    """
    from prunec.passes.judging.baseline import SCHEMA, measure_baseline

    content = with_versions(SCHEMA, measure_baseline(module, data, evaluations).to_json())
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
