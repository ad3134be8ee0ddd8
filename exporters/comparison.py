"""Whether an artefact computes what the module computes that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunec.ir.diagnostics import VerificationError
from prunec.ir.equality import TOLERANCE, coarsest_type, relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunec.ir.module import Module


def tolerance_of(module: Module, computed_in: str | None = None) -> float:
    """The largest accepted relative error of an artefact.

    Args:
        module: what it was made from.
        computed_in: the type that it computes in, such as ``float16``; None: the module's own.
    """
    return max(TOLERANCE[coarsest_type(module)], TOLERANCE[computed_in or "float32"])


def check_outputs(
    what: str, actual: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], tolerance: float
) -> float:
    """Compare the outputs of an artefact with those of the module.

    Args:
        what: the artefact, for messages.
        actual: its outputs, by name.
        expected: the module's.
        tolerance: largest accepted relative error.

    Returns:
        The largest relative error.

    Raises:
        VerificationError: an output is missing, or differs by more.
    """
    if missing := expected.keys() - actual.keys():
        raise VerificationError(
            f"{what} has no output `{min(missing)}`", notes=[f"it has: {', '.join(actual)}"]
        )
    errors = {name: relative_error(actual[name], expected[name]) for name in expected}
    name = max(errors, key=lambda key: errors[key], default="")
    if errors and not errors[name] <= tolerance:
        raise VerificationError(
            f"{what} computes something else: relative error {errors[name]:.1e} of output `{name}`, "
            f"{tolerance:.0e} is allowed",
            help=["try a precision with more digits, or skip the comparison with --no-verify"],
        )
    return errors.get(name, 0.0)
