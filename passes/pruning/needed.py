"""Whether a pipeline has the gradients that it needs; imports neither numpy nor onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import UserError

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.base import Pass
    from prunec.passes.pipeline import Pipeline
    from prunec.passes.pruning.gradients import Gradients

_HOW = (
    "in Python: found = prunec.torch.gradients(net, loss, batches), then prunec.run(..., gradients=found)",
    "an ONNX file has no gradients: make the plan on the torch module, and replay it on its export",
)


def checked_gradients(
    module: Module, pipeline: Pipeline, given: Mapping[str, Any] | None, *, replayed: bool
) -> Gradients | None:
    """Gradients that fit a module, before anything runs; with ``replayed`` passes choose nothing and need none.

    Raises:
        UserError: there are none and a pass needs some, they do not fit, or a pass in front changes the weights
            that they are of.
    """
    if not replayed:
        _require(pipeline, given)
    if given is None:
        return None
    from prunec.passes.pruning.gradients import Gradients

    return Gradients.checked(module, given)


def _require(pipeline: Pipeline, given: Mapping[str, Any] | None) -> None:
    """See that every pass that needs gradients has some that are those of its weights."""
    rescaled: Pass | None = None
    for pass_ in pipeline.expand():
        if pass_.needs_gradients and given is None:
            raise UserError(f"`{pass_}` needs gradients, and none are given", help=_HOW)
        if pass_.needs_gradients and rescaled is not None:
            raise UserError(
                f"`{rescaled.name}` changes the weights that the gradients of `{pass_}` are of",
                help=[f"put `{rescaled.name}` behind it"],
            )
        rescaled = pass_ if pass_.rescales else rescaled
