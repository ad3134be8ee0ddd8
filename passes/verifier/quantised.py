"""What is proven of a pass that quantises, which means to compute something else.

Weights that are in 8 bits now are what they were to within one step of their scale: that much rounding and a clipped
end of the range may do. All other constants are the same to the last bit. Outputs have the shapes that they had and
are finite where they were; how far they differ is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diagnostics import VerificationError
from prunec.ir.dialect import dialect_of
from prunec.ir.module import Module
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.verifier.compare import Comparison, first_run, run_after
from prunec.passes.verifier.sparse import constants_of
from prunec.passes.verifier.tolerance import relative_error

Array = NDArray[Any]

RUNS = 16
"""Held-out runs that the change is measured on, at most."""
_SUFFIX = "_quantized"
"""How the quantizer calls the integers of a constant."""
STEP = 1.01
"""Steps of its scale that a number may be off; what is above one is the rounding of floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedWeights:
    """What was found about weights that were quantised.

    Attributes:
        checked: tensors that are what they were to within one step of their scale.
        total: tensors that were quantised; those in a layout that is not known are not checked.
        worst: largest distance from the weight before, in steps.
        kept: tensors that are the same to the last bit.
    """

    checked: int
    total: int
    worst: float
    kept: int

    def __str__(self) -> str:
        if not self.total:
            return f"{self.kept} constants are the same to the last bit"
        which = f"{self.checked} of {self.total}" if self.checked < self.total else f"{self.total}"
        others = f", {self.kept} others the same to the last bit" if self.kept else ""
        return f"{which} quantised tensors are within {self.worst:.2f} steps of what they were{others}"


def check_weights(pass_name: str, before: Module, after: Module) -> QuantisedWeights:
    """Compare the constants of two modules, those in 8 bits with what they stand for.

    Raises:
        VerificationError: a weight is off by more than a step (V020), or one that is not quantised changed (V016).
    """
    old, new = constants_of(before.graph), constants_of(after.graph)
    axes = dict(_axes(after.graph))
    kept = 0
    for name in old.keys() & new.keys():
        if not _same(old[name][1], new[name][1]):
            raise VerificationError(
                f"`{pass_name}` changed tensor `{name}`, which it did not quantise", code="V016"
            )
        kept += 1
    quantised = {
        name: new[name][1] for name in new if name.endswith(_SUFFIX) and _part(new, name, "scale") is not None
    }
    errors = []
    for name, integers in quantised.items():
        scale, zero = _part(new, name, "scale"), _part(new, name, "zero_point")
        weight = old.get(name.removesuffix(_SUFFIX))
        if weight is not None and scale is not None:
            error = _steps_off(integers, scale, zero, axes.get(name), weight[1])
            errors += [] if error is None else [error]
            if error is not None and not error <= STEP:
                stem = name.removesuffix(_SUFFIX)
                message = f"weight `{stem}` is off by {error:.2f} steps after `{pass_name}`, allowed is one"
                notes = [f"a step is {float(scale.max()):.3g}" + (" at most" if scale.size > 1 else "")]
                raise VerificationError(message, code="V020", notes=notes)
    return QuantisedWeights(
        checked=len(errors), total=len(quantised), worst=max(errors, default=0.0), kept=kept
    )


def _same(one: Array, other: Array) -> bool:
    """Whether two constants hold the same bits, the second perhaps transposed (of a Gemm that is a MatMul now)."""
    if one.dtype == other.dtype and one.ndim == 2 and one.shape == other.shape[::-1]:
        return one.tobytes() == other.tobytes() or one.T.tobytes() == other.tobytes()
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def _part(constants: Mapping[str, tuple[onnx_ir.Value, Array]], name: str, part: str) -> Array | None:
    """The scale or zero point of a quantised constant: the quantizer names those of weights and biases apart."""
    found = constants.get(f"{name.removesuffix(_SUFFIX)}_{part}", constants.get(f"{name}_{part}"))
    return None if found is None else found[1]


def _axes(graph: onnx_ir.Graph) -> Iterator[tuple[str, int]]:
    """The axis of the scales of every constant that is dequantised."""
    for node in graph:
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
            yield node.inputs[0].name or "", node.attributes.get_int("axis", 1)


def _steps_off(
    integers: Array, scale: Array, zero: Array | None, axis: int | None, weight: Array
) -> float | None:
    """The largest distance from a weight in steps of its scale; None where the layout is not known.

    The dynamic quantizer transposes the weights of some ops (Gemm, LSTM) on the way.
    """
    steps = _spread(scale.astype(np.float64), integers.shape, axis)
    zeros = _spread(np.zeros(()) if zero is None else zero.astype(np.float64), integers.shape, axis)
    if steps is None or zeros is None:
        return None
    meant = (integers.astype(np.float64) - zeros) * steps
    layouts = [weight, np.swapaxes(weight, -1, -2)] if axis is None and weight.ndim > 1 else [weight]
    size = np.where(steps == 0, 1, steps)
    errors = [float((np.abs(meant - w) / size).max(initial=0)) for w in layouts if w.shape == meant.shape]
    return min(errors, default=None)


def _spread(values: Array, shape: tuple[int, ...], axis: int | None) -> Array | None:
    """One value for each channel in a form that broadcasts against the tensor."""
    if values.size == 1:
        return values.reshape(())
    if axis is None:  # a matrix product has its channels last, a convolution first
        axis = -1 if len(shape) == 2 else 0
    if shape[axis] == values.size:
        return values.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    if len(shape) == 3 and shape[0] * shape[-1] == values.size:  # directions and gates of an LSTM
        return values.reshape(shape[0], 1, shape[-1])
    return None


def measure_change(
    pass_name: str, before: Module, after: Module, *, data: CalibrationData | None = None, seed: int = 0
) -> Comparison:
    """Run a model and what a pass made of it on the same inputs, where they need not agree.

    Args:
        pass_name: the pass, for messages.
        before: the model before.
        after: the model behind it; its outputs must be finite wherever those of ``before`` are.
        data: samples, of which the held-out runs are taken; without it, inputs are made from nothing but the graph.
        seed: of the inputs that are made.

    Raises:
        UserError: the model before does not run.
        VerificationError: the model behind does not run, or is not finite.
    """
    if data is None:
        expected, feeds, batch = first_run(before, seed)
        return _change(pass_name, expected, run_after(pass_name, after, feeds), batch)
    bound = data.bind(before)
    runner = dialect_of(before.model).executor(before, blame="user")
    runs = [bound[run] for run in range(bound.fitting, min(len(bound), bound.fitting + RUNS))]
    changes = [
        _change(pass_name, runner.run(feeds), run_after(pass_name, after, feeds), bound.batch)
        for feeds in runs
    ]
    return Comparison(
        error=max(change.error for change in changes),
        batch=min(bound.samples - bound.fitting * bound.batch, RUNS * bound.batch),
        witnesses=0,
        finite=any(change.finite for change in changes),
    )


def _change(
    pass_name: str, expected: Mapping[str, Array], actual: Mapping[str, Array], batch: int
) -> Comparison:
    worst, finite = 0.0, False
    for name, array in expected.items():
        finite = finite or bool(np.isfinite(array.astype(np.float64)).any())
        error = relative_error(actual[name], array)
        if np.isinf(error):
            message = f"output `{name}` has another shape or other non-finite values after `{pass_name}`"
            raise VerificationError(message, code="V018")
        worst = max(worst, error)
    return Comparison(error=worst, batch=batch, witnesses=0, finite=finite)
