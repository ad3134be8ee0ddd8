"""What it means that two models compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError, VerificationError
from prunec.ir.execute import Runner
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds

Array = NDArray[Any]

#: Largest accepted relative error of an output, by the coarsest floating-point type in the model.
TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 1e-1}

#: Outputs smaller than this are compared as if they were this large: a saturated sigmoid rounds in steps.
FLOOR = 1e-3


def check_outputs(pass_name: str, reference: Module, module: Module, *, seed: int) -> tuple[float, int]:
    """Run both models on the same random inputs and compare all outputs.

    Returns:
        The largest relative error over all outputs, and the batch size of the inputs.

    Raises:
        UserError: the reference does not run.
        VerificationError: outputs differ.
    """
    expected, feeds, batch = _run_reference(reference, seed)
    actual = Runner(module).run(feeds)
    tolerance = TOLERANCE[coarsest_type(module)]
    worst = 0.0
    for name, array in expected.items():
        error = relative_error(actual[name], array)
        worst = max(worst, error)
        if not error <= tolerance:
            raise VerificationError(
                f"output `{name}` is off by {error:.1e} (relative) after `{pass_name}`, "
                f"allowed is {tolerance:.0e}",
                code="V013",
                notes=[
                    f"shape {list(array.shape)}, largest magnitude {_magnitude(array):.3g}",
                    f"probe inputs of seed {seed}, batch {batch}",
                ],
                help=["this is a bug in prunec: please report it with the model and the pipeline"],
            )
    return worst, batch


def _run_reference(reference: Module, seed: int) -> tuple[dict[str, Array], dict[str, Array], int]:
    """Outputs of the reference at batch 2 where the batch is free and the model accepts that, else at batch
    1.
    """
    runner = Runner(reference, blame="user")
    feeds = {batch: probe_feeds(reference, seed=seed, batch=batch) for batch in (2, 1)}
    if any(feeds[2][name].shape != feeds[1][name].shape for name in feeds[1]):
        try:
            return runner.run(feeds[2]), feeds[2], 2
        except UserError:  # the graph has a batch of 1 built in, whatever its inputs say
            pass
    return runner.run(feeds[1]), feeds[1], 1


def relative_error(actual: Array, expected: Array) -> float:
    """Largest difference over the largest finite magnitude of ``expected``; infinite where shapes or
    non-finite values differ.

    Integers and booleans count as equal or not: the share of differing elements.
    """
    if actual.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind not in "fcV" and expected.dtype.name != "bfloat16":
        return float(np.mean(actual != expected)) if expected.size else 0.0
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)) or not np.array_equal(
        a[~finite], b[~finite], equal_nan=True
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    difference = float(np.abs(a[finite] - b[finite]).max())
    return difference / max(_magnitude(b), FLOOR)


def _magnitude(array: Array) -> float:
    numbers = array.astype(np.float64, copy=False)
    finite = numbers[np.isfinite(numbers)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def coarsest_type(module: Module) -> str:
    """The floating-point type with the fewest digits among the model's weights: it bounds what can be
    compared.
    """
    names = {str(v.dtype.name).lower() for v in module.graph.initializers.values() if v.dtype is not None}
    names |= {str(v.dtype.name).lower() for v in module.graph.inputs if v.dtype is not None}
    return next((name for name in ("bfloat16", "float16") if name in names), "float32")
