"""What is proven of a pass that means to compute something else, such as one that quantises.

Its outputs keep their names, types and shapes and are finite where they were, how far they differ is measured, and
weights that are in 8 bits now are what they were to within one step of their scale: that much rounding may do, and
what a clipped end of the range adds. Tensors that kept their names kept their bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diagnostics import VerificationError
from prunec.ir.module import Module
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.verifier.compare import Change, change_of_outputs, first_run, run_after
from prunec.passes.verifier.sparse import constants_of

Array = NDArray[Any]

RUNS = 16
"""Held-out runs that the change is measured on, at most."""
STEP = 1.01
"""Steps of its scale that a number may be off; what is above one is the rounding of floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedWeights:
    """What was found about weights that were quantised.

    Attributes:
        checked: tensors that are what they were to within one step of their scale.
        total: tensors that were quantised; those in another layout than before (an LSTM's) are not checked.
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
        if old[name][1].tobytes() != new[name][1].tobytes():
            raise VerificationError(f"`{pass_name}` changed tensor `{name}`, which it did not quantise", code="V016")
        kept += 1
    errors = []
    total = 0
    for name, (_, quantised) in new.items():
        stem = name.removesuffix("_quantized")
        scale = new.get(f"{stem}_scale", new.get(f"{name}_scale"))
        if stem == name or scale is None:
            continue
        total += 1
        if stem in old and old[stem][1].shape == quantised.shape:
            zero = new.get(f"{stem}_zero_point", new.get(f"{name}_zero_point"))
            found = _Quantised(quantised, scale[1], None if zero is None else zero[1], axes.get(name))
            errors.append(found.steps_off(pass_name, stem, old[stem][1]))
    return QuantisedWeights(checked=len(errors), total=total, worst=max(errors, default=0.0), kept=kept)


def _axes(graph: onnx_ir.Graph) -> Iterator[tuple[str, int]]:
    """The axis of the scales of every constant that is dequantised."""
    for node in graph:
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
            yield node.inputs[0].name or "", node.attributes.get_int("axis", 1)


@dataclass(frozen=True, slots=True)
class _Quantised:
    integers: Array
    scale: Array
    zero: Array | None
    axis: int | None

    def steps_off(self, pass_name: str, name: str, weight: Array) -> float:
        """The largest distance from a weight in steps of the scale."""
        scale = self._spread(self.scale.astype(np.float64))
        zero = 0 if self.zero is None else self._spread(self.zero.astype(np.int64))
        meant = (self.integers.astype(np.int64) - zero) * scale
        steps = np.abs(meant - weight) / np.where(scale == 0, 1, scale)
        worst = float(steps.max(initial=0))
        if not worst <= STEP:
            raise VerificationError(
                f"weight `{name}` is off by {worst:.2f} steps after `{pass_name}`, allowed is one",
                code="V020",
                notes=[f"a step is {float(scale.max()):.3g} at most"],
            )
        return worst

    def _spread(self, values: Array) -> Array:
        """Values of one axis in a shape that broadcasts against the tensor."""
        if values.size == 1:
            return values.reshape(())
        axis = self.axis if self.axis is not None else self.integers.ndim - 1
        if self.integers.shape[axis] != values.size:  # a convolution of integers counts its channels first
            axis = 0
        return values.reshape([-1 if i == axis % self.integers.ndim else 1 for i in range(self.integers.ndim)])


def measure_on_data(pass_name: str, before: Module, after: Module, data: CalibrationData) -> Change:
    """How far the outputs of two models differ on the held-out runs of calibration data.

    Raises:
        UserError: the model before does not run on them.
        VerificationError: the model behind does not run, or its outputs have other shapes or are not finite.
    """
    from prunec.ir.dialect import dialect_of

    feeds = data.bind(before)
    runner = dialect_of(before.model).executor(before, blame="user")
    runs = range(feeds.fitting, min(len(feeds), feeds.fitting + RUNS))
    found = [_change(pass_name, runner.run(feeds[run]), after, feeds[run]) for run in runs]
    ...
