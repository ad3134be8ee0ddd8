"""Runs of the reference and of the module under test on inputs that are made from nothing but the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from prunec.ir.diagnostics import PassFailure, PrunecError, VerificationError
from prunec.ir.dialect import Blame, dialect_of
from prunec.ir.module import Module
from prunec.ir.sizes import symbol_sizes
from prunec.passes.verifier.advice import BUG

Array = NDArray[Any]

PROBE_SIZES = ((2, 67, 7), (2, 64, 7), (2, 64, 1), (1, 64, 7), (1, 64, 1), (1, 64, 16), (1, 64, 512))
"""Batch, height and width, and length of sequences of the probe inputs, in the order in which they are tried."""


class Probe(NamedTuple):
    """A run of a reference.

    Attributes:
        outputs: by name.
        feeds: the inputs, by name.
        batch: their batch size; 1 where no axis is one.
    """

    outputs: dict[str, Array]
    feeds: dict[str, Array]
    batch: int


def first_run(reference: Module, seed: int, *, blame: Blame = "user") -> Probe:
    """A run at the first choice of sizes that a model accepts.

    Odd sizes come first: what was folded because it is the same at round ones (padding to a multiple of 32, say)
    differs there. A batch of 2 says more than 1, and a sequence of 7 more than 1; but some graphs have a batch
    of 1 built in whatever their inputs say, some fit only sizes that their strides divide, and some need long inputs.

    Args:
        reference: the model.
        seed: of the inputs.
        blame: whose mistake it is where the model runs at none of these sizes.

    Raises:
        UserError: it runs at none, with ``blame="user"``.
        PassFailure: it runs at none, with ``blame="pass"``.
    """
    dialect = dialect_of(reference.model)
    runner = dialect.executor(reference, blame=blame)
    refusal: PrunecError | None = None
    tried: list[dict[str, int]] = []
    for batch, spatial, other in PROBE_SIZES:
        sizes = symbol_sizes(reference.graph, batch=batch, spatial=spatial, other=other)
        if sizes in tried:
            continue
        tried.append(sizes)
        feeds = dialect.feeds(reference, seed=seed, sizes=sizes)
        try:
            return Probe(runner.run(feeds), feeds, batch if batch in sizes.values() else _fixed_batch(feeds))
        except PrunecError as error:
            refusal = error
    assert refusal is not None
    raise refusal


def _fixed_batch(feeds: Mapping[str, Array]) -> int:
    """The first axis of all inputs, where they agree on one."""
    found = {array.shape[0] for array in feeds.values() if array.ndim > 1}
    return found.pop() if len(found) == 1 else 1


def run_after(pass_name: str, module: Module, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of the module under test.

    Raises:
        VerificationError: it does not run (V015).
    """
    try:
        return dialect_of(module.model).executor(module).run(feeds)
    except PassFailure as error:
        raise VerificationError(
            f"the model does not run after `{pass_name}`",
            code="V015",
            place=error.place,
            notes=[error.message],
            help=[BUG],
        ) from error
