"""Runs of the reference and of the module under test on inputs that are made from nothing but the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import PassFailure, PrunecError, VerificationError
from prunec.ir.dialect import Blame, Executor, dialect_of
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
        try:
            outputs, feeds = _most_finite(runner, feed_choices(reference, seed, sizes))
        except PrunecError as error:
            refusal = error
            continue
        return Probe(outputs, feeds, batch if batch in sizes.values() else _fixed_batch(feeds))
    assert refusal is not None
    raise refusal


def feed_choices(
    module: Module, seed: int, sizes: Mapping[str, int] | None = None
) -> Iterator[dict[str, Array]]:
    """Inputs to try a model on: random ones, those that it came with, and random ones without negative numbers, since
    what takes logarithms or roots of its input says nothing about others.
    """
    dialect = dialect_of(module.model)
    feeds = dialect.feeds(module, seed=seed, sizes=sizes)
    yield feeds
    own = dialect.own_feeds(module, sizes=sizes)
    if own is not None:
        yield own
    yield {name: np.abs(array) if _is_float(array) else array for name, array in feeds.items()}


def _most_finite(
    runner: Executor, choices: Iterator[dict[str, Array]]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Outputs and feeds of the first choice whose outputs are all finite, or else of that with the fewest that are not.

    Raises:
        PrunecError: the model does not run on the first of them.
    """
    feeds = next(choices)
    best = runner.run(feeds), feeds
    fewest = _not_finite(best[0])
    for other in choices:
        if not fewest:
            break
        try:
            outputs = runner.run(other)
        except PrunecError:
            continue
        found = _not_finite(outputs)
        if found < fewest:
            best, fewest = (outputs, other), found
    return best


def _not_finite(outputs: Mapping[str, Array]) -> int:
    """How many numbers are infinite or none at all."""
    return sum(int(np.sum(~np.isfinite(a))) for a in outputs.values() if _is_float(a))


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


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
