"""The verifier refuses masks that do not hold, wherever the fault lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph, weights
from sabotage import armed, edited, put, swap_relu
from sparse_graphs import CASES

import prunec
from prunec.ir.diagnostics import VerificationError
from prunec.ir.module import Module
from prunec.passes.base import Context, Contract, Outcome, Pass
from prunec.passes.plan import Step, WeightMask
from prunec.passes.sparsify import Sparsify
from prunec.passes.sparsity.layers import find_layers
from prunec.passes.verifier.weight_axes import readings

NET = (
    "net (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8,8] other> "
    "{ a = MatMul(x, w) b = Relu(a) y = Gemm<transB = 1>(b, other) }"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenSparsify(Pass):
    """Sparsifies `w`, then lets a fault loose on the module or on what it claims."""

    name: ClassVar[str] = "broken"
    contract: ClassVar[Contract] = "sparse"
    fault: ClassVar[Callable[[Module], None]]
    claim: ClassVar[Callable[[WeightMask], WeightMask]]

    def run(self, module: Module, context: Context) -> Outcome:
        outcome = Sparsify(layers="all", only=("w",)).run(module, context)
        assert outcome.step is not None
        self.fault(module)
        masks = tuple(self.claim(mask) for mask in outcome.step.masks)
        return replace(outcome, step=Step(pass_name=self.name, masks=masks))


def broken(
    fault: Callable[[Module], None] = lambda module: None,
    claim: Callable[[WeightMask], WeightMask] = lambda mask: mask,
) -> Pass:
    return armed(BrokenSparsify, fault=fault, claim=claim)


def refusal(broken_pass: Pass, text: str = NET) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        prunec.run(graph(text), broken_pass)
    return caught.value


def other_axis(mask: WeightMask) -> WeightMask:
    """A mask that is 2:4 along the other axis."""
    keep = np.tile([True, True, False, False], (8, 2))
    return WeightMask.of(mask.name, keep, pattern="2:4")


FAULTS: dict[str, tuple[Pass, str, str]] = {
    "another weight changed": (
        broken(edited("other", lambda a: a * 1.001)),
        "V016",
        "`broken` changed tensor `other`, which no mask names",
    ),
    "a node changed": (broken(swap_relu), "V016", "`broken` changed node `b`, which no mask names"),
    "a kept weight changed": (
        broken(edited("w", lambda a: np.where(a == a.max(), a * np.float32(1.0001), a))),
        "V017",
        "weight `w` after `broken`: 1 weights that should stay differ from before",
    ),
    "a weight that goes is there": (
        broken(edited("w", lambda a: np.where(a == 0, np.float32(1e-9), a))),
        "V017",
        "weight `w` after `broken`: 32 of 32 weights that should go are not zero",
    ),
    "new weights are not finite": (
        broken(edited("w", lambda a: np.where(a == a.max(), np.nan, a)), lambda m: replace(m, updated=True)),
        "V017",
        "weight `w` after `broken`: it is not finite",
    ),
    "the pattern is claimed too strictly": (
        broken(claim=lambda mask: replace(mask, pattern="1:4")),
        "V017",
        "weight `w` after `broken`: 16 places break 1:4 as `a` reads it",
    ),
    "zeros are along the wrong axis": (
        broken(
            lambda m: put(m, "w", np.where(np.tile([1, 1, 0, 0], (8, 2)), weights(graph(NET))["w"], 0)),
            other_axis,
        ),
        "V017",
        "weight `w` after `broken`: 8 places break 2:4 as `a` reads it",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_found(what: str) -> None:
    broken_pass, code, message = FAULTS[what]
    error = refusal(broken_pass)
    assert (error.code, error.message) == (code, message)


def test_infinite_outputs_are_refused() -> None:
    fault = edited("w", lambda a: np.where(a == 0, a, np.float32(3e38)))
    error = refusal(broken(fault, lambda mask: replace(mask, updated=True)))
    assert error.code == "V018"


def test_new_weights_may_take_any_finite_value() -> None:
    double = edited("w", lambda a: 2 * a)
    (verdict,) = prunec.run(graph(NET), broken(double, lambda m: replace(m, updated=True))).verdicts
    assert verdict.equivalence == "sparse"
    assert verdict.error > 0.1


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in ("conv-depthwise", "conv-one-channel")]
)
def test_the_verifiers_axes_are_those_of_the_layers(name: str) -> None:
    case = CASES[name]
    module = case.module
    value = module.graph.initializers["w"]
    (reading,) = readings(value, value.const_value.numpy())  # type: ignore[union-attr]
    assert reading.axes is not None
    letters = case.axes.split()
    assert reading.axes.inputs == tuple(a for a, text in enumerate(letters) if "i" in text)
    assert reading.axes.outputs == tuple(a for a, text in enumerate(letters) if "o" in text)
    (layer,) = find_layers(module.model, prunec.passes.coupling.analyse(module.model).facts).layers
    zero = np.broadcast_to(layer.zero, layer.shape)
    np.testing.assert_array_equal(
        layer.layout.unfold(np.broadcast_to(reading.zero, layer.layout.stored_shape)), zero
    )


def test_an_op_that_the_verifier_does_not_know_is_not_counted() -> None:
    value = onnx_ir.val("w", const_value=onnx_ir.tensor(np.ones((4, 4), np.float32)))
    onnx_ir.node("FancyProduct", [value])
    (reading,) = readings(value, np.ones((4, 4), np.float32))
    assert reading.axes is None
