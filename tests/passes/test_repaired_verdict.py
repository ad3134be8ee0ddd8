"""The verifier refuses repairs that do more than they say, or something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph
from sabotage import armed, edited, swap_relu

import prunec
from prunec.ir.diagnostics import VerificationError
from prunec.ir.module import Module
from prunec.passes.base import Context, Contract, Outcome, Pass

NET = (
    "net (float[N,8] x) => (float[N,8] y) <float[8,8] w, float[8,8] other> "
    "{ a = MatMul(x, w) b = Relu(a) y = MatMul(b, other) }"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubled(Pass):
    """Doubles `w`, and lets a fault loose on the module or on what it claims."""

    name: ClassVar[str] = "doubled"
    contract: ClassVar[Contract] = "repaired"
    fault: ClassVar[Callable[[Module], None]]
    claim: ClassVar[Callable[[Outcome], Outcome]]

    def run(self, module: Module, context: Context) -> Outcome:
        value = module.graph.initializers["w"]
        old = value.const_value
        assert old is not None
        value.const_value = onnx_ir.tensor(2 * old.numpy(), name="w")
        self.fault(module)
        return self.claim(Outcome(changed=True, repaired={"w": old}))


def doubled(
    fault: Callable[[Module], None] = lambda module: None,
    claim: Callable[[Outcome], Outcome] = lambda outcome: outcome,
) -> Pass:
    return armed(Doubled, fault=fault, claim=claim)


def other_numbers(outcome: Outcome) -> Outcome:
    return replace(outcome, repaired={"w": onnx_ir.tensor(3 * outcome.repaired["w"].numpy(), name="w")})


def rounded(outcome: Outcome) -> Outcome:
    return replace(
        outcome, repaired={"w": onnx_ir.tensor(outcome.repaired["w"].numpy().astype(np.float16), name="w")}
    )


def unknown(outcome: Outcome) -> Outcome:
    return replace(outcome, repaired={**outcome.repaired, "v": outcome.repaired["w"]})


FAULTS: dict[str, tuple[Pass, str, str]] = {
    "another tensor changed": (
        doubled(edited("other", lambda w: w + 1)),
        "V016",
        "`doubled` changed tensor `other`, which it does not name",
    ),
    "a node changed": (doubled(swap_relu), "V013", "output `y` is off by"),
    "other old numbers": (doubled(claim=other_numbers), "V013", "output `y` is off by"),
    "a tensor that is none": (
        doubled(claim=unknown),
        "V021",
        "tensor `v` after `doubled`: it is no constant of the model",
    ),
    "not finite": (
        doubled(edited("w", lambda w: w * np.inf)),
        "V021",
        "tensor `w` after `doubled`: its new numbers are not finite",
    ),
    "another type": (
        doubled(claim=rounded),
        "V021",
        "float32[8, 8] took the place of float16[8, 8]",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_found(what: str) -> None:
    broken, code, message = FAULTS[what]
    with pytest.raises(VerificationError) as caught:
        prunec.run(graph(NET), broken)
    assert caught.value.code == code
    assert message in caught.value.message


def test_new_numbers_are_measured_against_the_model_before() -> None:
    [verdict] = prunec.run(graph(NET), doubled()).verdicts
    assert verdict.equivalence == "repaired"
    assert verdict.repairs is not None
    assert (verdict.repairs.tensors, verdict.repairs.error) == (1, 0.0)
    assert verdict.error == pytest.approx(1)
    assert "1 tensors have new numbers, and with the old ones outputs equal the model before it" in str(
        verdict
    )
