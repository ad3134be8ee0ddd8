"""What is proven of a pass that quantises, which means to compute something else.

Weights that are in 8 bits now are what they were to within one step of their scale: that much rounding and a clipped
end of the range may do. All other constants are the same to the last bit, none is lost, and none is new that was no
weight before. Outputs have the shapes that they had and are finite where they were; how far they differ is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diagnostics import VerificationError
from prunec.ir.dialect import dialect_of
from prunec.ir.equality import relative_error
from prunec.ir.module import Module
from prunec.passes.calibration.data import CalibrationData
from prunec.passes.verifier.compare import Comparison
from prunec.passes.verifier.probing import first_run, run_after
from prunec.passes.verifier.sparse import constants_of
from prunec.passes.verifier.tolerance import has_numbers

Array = NDArray[Any]
Constants = Mapping[str, tuple[onnx_ir.Value, Array]]

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
    kept = _check_floats(pass_name, old, new)
    quantised = [name for name in new if name.endswith(_SUFFIX) and _part(new, name, "scale") is not None]
    errors = []
    for name in quantised:
        value, integers = new[name]
        scale, zero = _part(new, name, "scale"), _part(new, name, "zero_point")
        assert scale is not None, "it was asked for"
        meant = _dequantised(integers, scale, zero, axes.get(name))
        error = None if meant is None else _worst(meant, _origins(name, value, old, axes))
        errors += [] if error is None else [error]
        if error is not None and not error <= STEP:
            stem = name.removesuffix(_SUFFIX)
            message = f"weight `{stem}` is off by {error:.2f} steps after `{pass_name}`, allowed is one"
            notes = [f"a step is {float(scale.max()):.3g}" + (" at most" if scale.size > 1 else "")]
            raise VerificationError(message, code="V020", notes=notes)
    return QuantisedWeights(
        checked=len(errors), total=len(quantised), worst=max(errors, default=0.0), kept=kept
    )


def _check_floats(pass_name: str, old: Constants, new: Constants) -> int:
    """See that what is not quantised is what it was; returns how many constants have their name still."""
    both = old.keys() & new.keys()
    for name in both:
        (before, values), (after, others) = old[name], new[name]
        if not _same(values.T if _is_turned(before, after) else values, others):
            message = f"`{pass_name}` changed tensor `{name}`, which it did not quantise"
            raise VerificationError(message, code="V016")
    for name in old.keys() - both:
        value, values = old[name]
        if _is_weight(values) and f"{name}{_SUFFIX}" not in new and not _is_needless(value):
            raise VerificationError(f"`{pass_name}` lost tensor `{name}`", code="V016")
    for name in new.keys() - both:
        value, values = new[name]
        # A scale is judged with what it scales; a number or a node may be what was an attribute in an older opset.
        is_new = value.is_initializer() and values.size > 1 and not name.endswith("_scale")
        if is_new and _is_weight(values) and not any(_is_copy(v, values) for _, v in old.values()):
            raise VerificationError(
                f"`{pass_name}` made tensor `{name}`, which is none of before", code="V016"
            )
    return len(both)


def _is_weight(values: Array) -> bool:
    """Whether a constant is of floats: the quantizer makes and drops shapes, axes and zero points as it likes."""
    return bool(np.issubdtype(values.dtype, np.floating))


def _is_needless(value: onnx_ir.Value) -> bool:
    """Whether a constant may go: nothing read it, or only a Clip, whose bounds a quantised range can hold."""
    return not value.is_graph_output() and all(node.op_type == "Clip" for node, _ in value.uses())


def _is_turned(before: onnx_ir.Value, after: onnx_ir.Value) -> bool:
    """Whether a Gemm transposed a constant, and what reads it now does not: it is a matrix product."""
    was, now = ([_transposes(*use) for use in value.uses()] for value in (before, after))
    return bool(was and now and all(was) and not any(now))


def _transposes(node: onnx_ir.Node, position: int) -> bool:
    return node.op_type == "Gemm" and position == 1 and bool(node.attributes.get_int("transB", 0))


def _same(one: Array, other: Array) -> bool:
    """Whether two constants hold the same bits."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _is_copy(one: Array, other: Array) -> bool:
    """Whether the second is a copy of the first, perhaps transposed: copies of what a Gemm shared with others are."""
    return _same(one, other) or (one.ndim == 2 and _same(one.T, other))


def _origins(name: str, value: onnx_ir.Value, old: Constants, axes: Mapping[str, int]) -> Iterator[Array]:
    """What a quantised constant may stand for: the weight of its name, or, of a copy, any that was there."""
    stem = name.removesuffix(_SUFFIX)
    if stem in old:
        before, weight = old[stem]
        of_lstm = any(node.op_type == "DynamicQuantizeLSTM" for node, _ in value.uses())
        turned = name not in axes and weight.ndim > 1 and (of_lstm or _is_turned(before, value))
        yield np.swapaxes(weight, -1, -2) if turned else weight
        return
    for _, weight in old.values():
        yield weight
        if name not in axes and weight.ndim > 1:
            yield np.swapaxes(weight, -1, -2)


def _part(constants: Constants, name: str, part: str) -> Array | None:
    """The scale or zero point of a quantised constant: the quantizer names those of weights and biases apart."""
    found = constants.get(f"{name.removesuffix(_SUFFIX)}_{part}", constants.get(f"{name}_{part}"))
    return None if found is None else found[1]


def _axes(graph: onnx_ir.Graph) -> Iterator[tuple[str, int]]:
    """The axis of the scales of every constant that is dequantised."""
    for node in graph:
        if node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
            yield node.inputs[0].name or "", node.attributes.get_int("axis", 1)


def _dequantised(
    integers: Array, scale: Array, zero: Array | None, axis: int | None
) -> tuple[Array, Array] | None:
    """What integers stand for, and their steps; None where the layout of the scales is not known."""
    steps = _spread(scale.astype(np.float64), integers.shape, axis)
    zeros = _spread(np.zeros(()) if zero is None else zero.astype(np.float64), integers.shape, axis)
    if steps is None or zeros is None:
        return None
    return (integers.astype(np.float64) - zeros) * steps, np.where(steps == 0, 1, steps)


def _worst(dequantised: tuple[Array, Array], origins: Iterable[Array]) -> float | None:
    """The largest distance in steps from the nearest origin; None where none has the shape."""
    meant, steps = dequantised
    fitting = (weight for weight in origins if weight.shape == meant.shape)
    return min((float((np.abs(meant - w) / steps).max(initial=0)) for w in fitting), default=None)


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
    pass_name: str,
    before: Module,
    after: Module,
    *,
    data: CalibrationData | None = None,
    fitted: bool = True,
    seed: int = 0,
) -> Comparison:
    """Run a model and what a pass made of it on the same inputs, where they need not agree.

    Args:
        pass_name: the pass, for messages.
        before: the model before.
        after: the model behind it; its outputs must be finite wherever those of ``before`` are.
        data: samples; without it, inputs are made from nothing but the graph.
        fitted: something was fitted to the samples, so that only those of the held-out runs are taken.
        seed: of the inputs that are made.

    Raises:
        UserError: the model before does not run.
        VerificationError: the model behind does not run, or is not finite.
    """
    if data is None:
        expected, feeds, batch = first_run(before, seed)
        return _change(pass_name, expected, run_after(pass_name, after, feeds), batch)
    bound = data.bind(before, every=not fitted)
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
        finite = finite or has_numbers(array)
        error = relative_error(actual[name], array)
        if np.isinf(error):
            message = f"output `{name}` has another shape or other non-finite values after `{pass_name}`"
            raise VerificationError(message, code="V018")
        worst = max(worst, error)
    return Comparison(error=worst, batch=batch, witnesses=0, finite=finite)
