"""What tells one sweep from another: model, samples, metric, and what the metric says of the model as it is.

The name of a metric does not change with its code, and its code may change where a mistake in it ended a sweep. What
it says of the model as it is does change, so that measurements of two metrics of one name are not mixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.sensitivity.sweep import Sweep

Array = NDArray[Any]

_SAMPLED = 1 << 20
"""Bytes at both ends of an array that tell it from another."""


def sweep_header(sweep: Sweep, dense: float) -> dict[str, Any]:
    """What must be the same for measurements to belong together, as plain data.

    Args:
        sweep: the sweep.
        dense: its metric of the model as it is.
    """
    settings = sweep.settings
    return {
        "schema": "prunec.sensitivity.partial/1",
        "model": sweep.module.source.sha256 or _fingerprint(sweep.module),
        "data": _digest(sweep.data.arrays),
        "metric": str(sweep.metric),
        "criterion": settings.criterion,
        "unit": settings.unit,
        "seed": settings.seed,
        "dense": dense,
    }


def _fingerprint(module: Module) -> str:
    """A hash of a model that was made in memory: its ops and its weights."""
    digest = hashlib.sha256()
    for node in module.graph:
        digest.update(f"{node.op_type} {[v.name for v in node.outputs]}".encode())
    for name, value in module.graph.initializers.items():
        digest.update(name.encode())
        if value.const_value is not None:
            digest.update(value.const_value.tobytes())
    return digest.hexdigest()


def _digest(arrays: Mapping[str, Array]) -> str:
    """A hash of samples: names, types, shapes, and the ends of every array."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        for part in _ends(array):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _ends(array: Array) -> Iterator[Array]:
    rows = max(1, _SAMPLED * len(array) // max(array.nbytes, 1))
    yield array[:rows]
    yield array[-rows:]
