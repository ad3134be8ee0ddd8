"""What is proven of a pass that gives some tensors new numbers: those tensors hold all of the change.

The pass says which tensors, and with which numbers in them the model computes what it did before (the old
ones; zeros in a bias that is new). These are put in their places, and the outputs are compared with those
of the model before: whatever else the pass did to the graph computes the same. All other tensors hold the
bits that they held, and the new numbers are finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from prunec.ir.diagnostics import VerificationError
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.passes.verifier.advice import BUG
from prunec.passes.verifier.compare import compare_outputs
from prunec.passes.verifier.sparse import constants_of, same_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairEvidence:
    """What was found about repaired tensors.

    Attributes:
        tensors: how many have new numbers.
        error: relative error of the outputs against the model before, with the old numbers put back.
    """

    tensors: int
    error: float


def check_repairs(
    pass_name: str,
    before: Module,
    after: Module,
    repaired: Mapping[str, onnx_ir.TensorProtocol],
    *,
    facts: Facts | None = None,
    seed: int = 0,
) -> RepairEvidence:
    """Compare a module with the one that a repairing pass found.

    Args:
        pass_name: the pass, for messages.
        before: the module before the pass.
        after: the module after it.
        repaired: per tensor that has new numbers those with which the model computes what it did.
        facts: of the module before, where they are at hand.
        seed: of the probe inputs.

    Raises:
        VerificationError: something else changed (V016, V013), or new numbers are missing, of another shape or
            type, or not finite (V021).
    """
    _check_others(pass_name, before, after, repaired)
    restored = after.clone()
    now, then = constants_of(after.graph), constants_of(restored.graph)
    for name, old in repaired.items():
        if name not in now:
            raise _failure(pass_name, name, "it is no constant of the model")
        array, was = now[name][1], f"{old.dtype.numpy()}{list(old.shape)}"
        if array.shape != tuple(old.shape) or array.dtype != old.dtype.numpy():
            raise _failure(pass_name, name, f"{array.dtype}{list(array.shape)} took the place of {was}")
        if not np.isfinite(array.astype(np.float32)).all():
            raise _failure(pass_name, name, "its new numbers are not finite")
        _put(then[name][0], old)
    comparison = compare_outputs(pass_name, before, restored, facts=facts, seed=seed)
    return RepairEvidence(tensors=len(repaired), error=comparison.error)


def _check_others(
    pass_name: str, before: Module, after: Module, repaired: Mapping[str, onnx_ir.TensorProtocol]
) -> None:
    """Every tensor that the pass does not name holds the same bits, wherever it still exists."""
    old, new = constants_of(before.graph), constants_of(after.graph)
    for name in (old.keys() & new.keys()) - repaired.keys():
        one, other = (onnx_ir.convenience.get_const_tensor(found[name][0]) for found in (old, new))
        if not same_bits(one, other):
            message = f"`{pass_name}` changed tensor `{name}`, which it does not name"
            raise VerificationError(message, code="V016", help=[BUG])


def _put(value: onnx_ir.Value, tensor: onnx_ir.TensorProtocol) -> None:
    """Give a constant of a copy its old numbers."""
    source = value.producer()
    if source is not None:
        source.attributes.clear()
        source.attributes.add(onnx_ir.AttrTensor("value", tensor))
    if source is None or value.const_value is not None:
        value.const_value = tensor


def _failure(pass_name: str, name: str, message: str) -> VerificationError:
    return VerificationError(f"tensor `{name}` after `{pass_name}`: {message}", code="V021", help=[BUG])
