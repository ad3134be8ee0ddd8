"""What to do about a pass that was proven wrong, or could not be judged at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prunec.ir.diagnostics import UserError, VerificationError
from prunec.ir.dialect import dialect_of
from prunec.ir.module import Module
from prunec.passes.base import Pass

BUG = "this is a bug in prunec: please report it with the model and the pipeline"
UNVERIFIED = "a model that does not run cannot be verified; --no-verify, verify=False in Python, goes without"
MISFIT = (
    "it does not run on the example inputs that it was captured with either: capture it with inputs of the types, "
    "shapes and indices that it takes, so that module(*example_inputs) runs"
)
ONLY_EXAMPLES = "it runs on its example inputs, but not on random floats in place of theirs"


@contextmanager
def advised(pass_: Pass, before: Module) -> Iterator[None]:
    """Let errors of the verifier inside say what to do: a pass of another package is that package's to mend.

    Args:
        pass_: the pass that is verified.
        before: the module that it was given.
    """
    try:
        yield
    except VerificationError as error:
        package = type(pass_).__module__.partition(".")[0]
        if package != "prunec":
            theirs = f"most likely the mistake is in the pass itself, which comes from `{package}`"
            error.help = tuple(theirs if line == BUG else line for line in error.help)
        raise
    except UserError as error:
        error.help = (*error.help, *_help_to_run(before))
        raise


def _help_to_run(module: Module) -> tuple[str, ...]:
    runs = dialect_of(module.model).runs_on_examples(module)
    return (UNVERIFIED,) if runs is None else (ONLY_EXAMPLES, UNVERIFIED) if runs else (MISFIT,)
