"""What tells one sweep from another: version, model, samples, metric, and what that says of the model as it is.

The name of a metric does not change with its code, and its code may change where a mistake in it ended a sweep. What
it says of the model as it is does change, so that measurements of two metrics of one name are not mixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.fingerprint import fingerprint
from prunec.ir.version import VERSION

if TYPE_CHECKING:
    from prunec.passes.sensitivity.sweep import Sweep

Array = NDArray[Any]

_PIECE = 16 << 20
"""Bytes of an array that are read at a time."""


def sweep_header(sweep: Sweep, dense: float) -> dict[str, Any]:
    """What must be the same for measurements to belong together, as plain data.

    Args:
        sweep: the sweep.
        dense: its metric of the model as it is.
    """
    settings = sweep.settings
    return {
        "schema": "prunec.sensitivity.partial/2",
        "version": VERSION,
        "model": fingerprint(sweep.module.model),
        "data": _digest(sweep.data.arrays),
        "metric": str(sweep.metric),
        "criterion": settings.criterion,
        "unit": settings.unit,
        "seed": settings.seed,
        "dense": dense,
    }


def _digest(arrays: Mapping[str, Array]) -> str:
    """A hash of samples: names, types, shapes, and every byte, some rows at a time."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        step = max(1, _PIECE * len(array) // max(array.nbytes, 1))
        for start in range(0, len(array), step):
            digest.update(np.ascontiguousarray(array[start : start + step]).tobytes())
    return digest.hexdigest()
