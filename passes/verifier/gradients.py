"""A model that is to be trained can be: one forward and one backward pass go through."""

from __future__ import annotations

from prunec.ir.diagnostics import VerificationError
from prunec.ir.dialect import dialect_of
from prunec.ir.module import Module
from prunec.passes.verifier.advice import BUG


def check_trainable(pass_name: str, module: Module, seed: int = 0) -> None:
    """Check that every parameter gets a finite gradient of its own shape, in dialects that train.

    Raises:
        VerificationError: one does not, or the backward pass fails.
    """
    dialect = dialect_of(module.model)
    error = dialect.train_error(module, dialect.feeds(module, seed=seed))
    if error is not None:
        raise VerificationError(
            f"after `{pass_name}` {error}",
            code="V019",
            help=[BUG],
        )
