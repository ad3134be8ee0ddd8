"""What to do about a pass that was proven wrong depends on whose pass it is."""

from __future__ import annotations

from prunec.ir.diagnostics import PrunecError
from prunec.passes.base import Pass

BUG = "this is a bug in prunec: please report it with the model and the pipeline"


def address(error: PrunecError, pass_: Pass) -> None:
    """Let the help of an error name the package of a pass that is none of prunec's own.

    Args:
        error: from the verifier; changed in place.
        pass_: the pass that it is about.
    """
    package = type(pass_).__module__.partition(".")[0]
    if package != "prunec":
        theirs = f"most likely the mistake is in the pass itself, which comes from `{package}`"
        error.help = tuple(theirs if line == BUG else line for line in error.help)
