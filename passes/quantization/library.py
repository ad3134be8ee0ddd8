"""``onnxruntime.quantization``, imported without traces.

It imports modules of ``onnxruntime.transformers`` by their bare names, for which that package puts its folder on
``sys.path`` for good, the first time that it is imported. Here the folder is there during the import and gone after it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def quantization() -> Any:
    """The package ``onnxruntime.quantization``."""
    import onnxruntime

    before = list(sys.path)
    sys.path.append(str(Path(onnxruntime.__file__).parent / "transformers"))
    try:
        importlib.import_module("onnxruntime.quantization.registry")
        return importlib.import_module("onnxruntime.quantization")
    finally:
        sys.path[:] = before
