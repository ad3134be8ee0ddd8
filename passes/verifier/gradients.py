"""A model that could be trained still can be: one forward and one backward pass go through."""

from __future__ import annotations

from prunec.ir.diagnostics import VerificationError
from prunec.ir.dialect import dialect_of
from prunec.ir.module import Module
from prunec.passes.verifier.advice import BUG
from prunec.passes.verifier.probing import feed_choices


def check_trainable(pass_name: str, dense: Module, module: Module, seed: int = 0) -> None:
    """Check that every parameter gets a finite gradient of its own shape, if it does so in the model before.

    Random inputs may be none that the model takes (negative numbers, behind a logarithm): where its gradients are not
    finite on them, others are tried.

    Args:
        pass_name: the pass, for messages.
        dense: the model before it.
        module: the model after it, in a dialect that trains.
        seed: of the inputs.

    Raises:
        VerificationError: one does not, or the backward pass fails, on inputs on which all is well before the cut.
    """
    dialect = dialect_of(module.model)
    for inputs, before in zip(feed_choices(module, seed), feed_choices(dense, seed), strict=True):
        error = dialect.train_error(module, inputs)
        if error is None:
            return
        if dialect.train_error(dense, before) is None:
            raise VerificationError(f"after `{pass_name}` {error}", code="V019", help=[BUG])
