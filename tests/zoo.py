"""Finds the zoo of real models that tests run over; its folder is in $PRUNEC_ZOO."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

FOLDER = os.environ.get("PRUNEC_ZOO")


def zoo_models(*, runs: bool | None = None) -> list[ParameterSet]:
    """Paths of the zoo's real models as pytest parameters, or one skipped where there is no zoo.

    Args:
        runs: only those that ONNX Runtime is known to run (True), or not to run (False).
    """
    if FOLDER is None:
        return [pytest.param(None, marks=pytest.mark.skip(reason="PRUNEC_ZOO does not say where the zoo is"))]
    folder = Path(FOLDER) / "real"
    entries = json.loads((folder / "INDEX.json").read_text())
    chosen = [entry["name"] for entry in entries if runs is None or (entry["ort_run"] == "ok") == runs]
    return [pytest.param(folder / f"{name}.onnx", id=name) for name in chosen]
