"""What it means that two models compute the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import PassFailure, PrunecError, UserError, VerificationError
from prunec.ir.dialect import Blame, Executor, dialect_of
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.open_bodies import size_choices
from prunec.ir.rule import Index
from prunec.ir.sizes import symbol_sizes
from prunec.passes.verifier.advice import BUG
from prunec.passes.verifier.branches import open_bodies, ways
from prunec.passes.verifier.rounding import rounds, without_rounding
from prunec.passes.verifier.tolerance import (
    FLOOR,
    MOST_NOISE,
    NEAR,
    TOLERANCE,
    coarsest_type,
    magnitude,
    noise,
    relative_error,
    rounded,
    worst_error,
)
from prunec.passes.verifier.witnesses import Kept, witnesses

Array = NDArray[Any]

#: Batch, height and width, and length of sequences of the probe inputs, in the order in which they are tried.
PROBE_SIZES = ((2, 67, 7), (2, 64, 7), (2, 64, 1), (1, 64, 7), (1, 64, 1), (1, 64, 16), (1, 64, 512))

Share = tuple[int, int]
"""How many, of how many."""

Moved = Mapping[str, Mapping[int, Index]]
"""Per value of which it is known where its slots are now, by axis the slot that came to every place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The outcome of running two models on the same inputs.

    Attributes:
        error: the largest relative error.
        batch: batch size of the inputs.
        witnesses: intermediate values that were compared because the outputs say too little.
        rounded: the models are as they are; False where rounding to integers had to be left out.
        borderline: they differ by a rounding on the first inputs, and agree on two others.
        ways: branches of ``If`` nodes on which outputs were compared too, whatever the conditions say, as (compared,
            tried): on the others the reference does not run.
        bodies: likewise bodies that their op feeds as it sees fit, run by themselves.
        finite: some output of the reference is a number.
    """

    error: float
    batch: int
    witnesses: int
    rounded: bool = True
    borderline: bool = False
    ways: Share = (0, 0)
    bodies: Share = (0, 0)
    finite: bool = True


def compare_outputs(
    pass_name: str,
    reference: Module,
    module: Module,
    *,
    kept: Kept | None = None,
    moved: Moved | None = None,
    facts: Facts | None = None,
    seed: int = 0,
) -> Comparison:
    """Run both models on the same random inputs and compare all outputs.

    Where an output of the reference is nearly constant (a dead ReLU, a saturated sigmoid), equality of
    outputs proves little, and intermediate values are compared as well. Where values are rounded to integers
    on the way, one last digit can make a difference of a whole step: models that differ are then compared
    with the rounding left out, or where that cannot be, on other inputs.

    Args:
        pass_name: the pass, for messages.
        reference: what the module must equal.
        module: the module.
        kept: the slots of the reference's intermediate values that the module still has.
        moved: where the slots of the reference's intermediate values are in the module; None where they are as
            they were, or else a value that is not listed is no witness.
        facts: of the reference, or of the module that it was made from, where they are at hand.
        seed: of the inputs.

    Raises:
        UserError: the reference does not run.
        VerificationError: the module does not run, or outputs differ.
    """
    try:
        return _compare(pass_name, reference, module, kept or {}, moved, seed, facts)
    except VerificationError as error:
        if error.code != "V013":
            raise
        return _look_again(error, pass_name, reference, module, kept or {}, moved, seed, facts)


def _look_again(
    error: VerificationError,
    pass_name: str,
    reference: Module,
    module: Module,
    kept: Kept,
    moved: Moved | None,
    seed: int,
    facts: Facts | None,
) -> Comparison:
    """Compare models that differ, but may do so because a value lies on the border of two integers: with the rounding
    left out, or on two other inputs. A border is met by few inputs, a mistake by all.
    """
    plain, plain_module = without_rounding(reference), without_rounding(module)
    if plain is not None and plain_module is not None:
        try:
            return replace(_compare(pass_name, plain, plain_module, kept, moved, seed, None), rounded=False)
        except VerificationError:
            if not rounds(plain):
                raise
    if not rounds(reference):
        raise error
    others = [_compare(pass_name, reference, module, kept, moved, seed + more, facts) for more in (1, 2)]
    return replace(max(others, key=lambda comparison: comparison.error), borderline=True)


def _compare(
    pass_name: str,
    reference: Module,
    module: Module,
    kept: Kept,
    moved: Moved | None,
    seed: int,
    facts: Facts | None = None,
) -> Comparison:
    expected, feeds, batch = first_run(reference, seed)
    smaller = {name: _take(array, kept.get(name, {})) for name, array in feeds.items()}
    actual = run_after(pass_name, module, smaller)
    tolerance = TOLERANCE[coarsest_type(module)]
    restricted = _restrict(expected, actual, kept)
    if moved is not None and not worst_error(restricted, actual) <= tolerance:
        tolerance = max(tolerance, min(MOST_NOISE, NEAR * noise(reference, expected, feeds)))
    error = _check(pass_name, restricted, actual, "output", tolerance)
    terms = _Terms(kept, moved, tolerance)
    run = _Run(feeds, smaller, expected, error)
    plain = _compare_witnesses(pass_name, reference, module, terms, run, facts)
    errors = list(_compare_ways(pass_name, reference, module, terms, feeds, smaller))
    ran = [e for e in errors if e is not None]
    inside = list(_compare_bodies(pass_name, reference, module, tolerance, seed))
    worst = max([error, plain[0], *ran, *(e for e in inside if e is not None)])
    return Comparison(
        error=worst,
        batch=batch,
        witnesses=plain[1],
        ways=(len(ran), len(errors)),
        bodies=(sum(e is not None for e in inside), len(inside)),
    )


class _Terms(NamedTuple):
    """Which slots of the reference's values are compared, and how large an error may be."""

    kept: Kept
    moved: Moved | None
    tolerance: float


class _Run(NamedTuple):
    """Inputs of the reference and of the module, outputs of the reference, and their largest error."""

    feeds: Mapping[str, Array]
    smaller: Mapping[str, Array]
    expected: Mapping[str, Array]
    error: float


def _compare_ways(
    pass_name: str,
    reference: Module,
    module: Module,
    terms: _Terms,
    feeds: Mapping[str, Array],
    smaller: Mapping[str, Array],
) -> Iterator[float | None]:
    """The error on every way through the branches; None where the reference does not run."""
    for forced, forced_module in ways(reference, module, terms.kept):
        try:
            expected = dialect_of(forced.model).executor(forced, blame="user").run(feeds)
        except UserError:  # a branch for other inputs, say
            yield None
            continue
        actual = run_after(pass_name, forced_module, smaller)
        restricted = _restrict(expected, actual, terms.kept)
        yield _check(pass_name, restricted, actual, "output", terms.tolerance)


def _compare_bodies(
    pass_name: str, reference: Module, module: Module, tolerance: float, seed: int
) -> Iterator[float | None]:
    """The error of every body that its op feeds as it sees fit (a decoder), run by itself; None where it does not
    run.
    """
    dialect = dialect_of(reference.model)
    for alone, alone_module in open_bodies(reference, module):
        sizes = symbol_sizes(alone.graph, batch=2, other=PROBE_SIZES[0][2])
        for chosen in size_choices(sizes, 2):
            feeds = dialect.feeds(alone, seed=seed, sizes=chosen)
            try:
                expected = dialect.executor(alone, blame="user").run(feeds)
            except UserError:  # other sizes may fit
                continue
            actual = run_after(pass_name, alone_module, feeds)
            yield _check(pass_name, expected, actual, "output", tolerance)
            break
        else:
            yield None


def _compare_witnesses(
    pass_name: str, reference: Module, module: Module, terms: _Terms, run: _Run, facts: Facts | None
) -> tuple[float, int]:
    """The error of intermediate values, and how many were compared, where the outputs say too little."""
    feeds, smaller, expected, error = run
    kept, moved, tolerance = terms
    suspicious = bool(kept) and error == 0  # bit for bit equal after a cut: did anything reach the output?
    if not suspicious and not any(_is_weak(array) for array in expected.values()):
        return error, 0
    names = [name for name in witnesses(reference, module, kept, facts) if moved is None or name in moved]
    if not names:
        return error, 0
    dialect = dialect_of(module.model)
    inner = _well_conditioned(dialect.executor(reference, outputs=names), feeds, tolerance)
    inner = {name: _take(array, (moved or {}).get(name, {})) for name, array in inner.items()}
    actual = dialect.executor(module, outputs=names).run(smaller)
    worst = _check(pass_name, _restrict(inner, actual, kept), actual, "intermediate value", tolerance)
    return max(error, worst), len(inner)


def run_after(pass_name: str, module: Module, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of the module under test.

    Raises:
        VerificationError: it does not run.
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


def first_run(
    reference: Module, seed: int, *, blame: Blame = "user"
) -> tuple[dict[str, Array], dict[str, Array], int]:
    """Outputs, inputs and batch size at the first choice of sizes that the model accepts.

    Odd sizes come first: what was folded because it is the same at round ones (padding to a multiple of 32, say)
    differs there. A batch of 2 says more than 1, and a sequence of 7 more than 1; but some graphs have a batch
    of 1 built in whatever their inputs say, some fit only sizes that their strides divide, and some need long inputs.
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
            return runner.run(feeds), feeds, batch if batch in sizes.values() else 1
        except PrunecError as error:
            refusal = error
    assert refusal is not None
    raise refusal


def _check(
    pass_name: str, expected: Mapping[str, Array], actual: Mapping[str, Array], what: str, tolerance: float
) -> float:
    """The largest relative error; a VerificationError where it is too large."""
    worst = 0.0
    for name, array in expected.items():
        error = relative_error(actual[name], array)
        worst = max(worst, error)
        if not error <= tolerance:
            shapes = f"shape {list(actual[name].shape)}, expected {list(array.shape)}"
            raise VerificationError(
                f"{what} `{name}` is off by {error:.1e} (relative) after `{pass_name}`, "
                f"allowed is {tolerance:.0e}",
                code="V013",
                notes=[f"{shapes}, largest magnitude {magnitude(array):.3g}"],
                help=[_whose_fault(error, tolerance)],
            )
    return worst


def _whose_fault(error: float, tolerance: float) -> str:
    if error <= NEAR * tolerance:
        return "so near to the tolerance it can be rounding: see V013 in docs/errors.md"
    return BUG


def _well_conditioned(runner: Executor, feeds: Mapping[str, Array], tolerance: float) -> dict[str, Array]:
    """Data values (no shapes) that inputs changed by rounding hardly change.

    Where values cancel, as in a norm over channels that are all alike, rounding alone decides, and no two orders of
    summation agree: such a value is no witness.
    """
    values, noisy = runner.run(feeds), runner.run(rounded(feeds))
    return {
        name: array
        for name, array in values.items()
        if array.dtype.kind == "f" and array.ndim > 1 and relative_error(noisy[name], array) < tolerance / 4
    }


def _restrict(expected: Mapping[str, Array], actual: Mapping[str, Array], kept: Kept) -> dict[str, Array]:
    """The slots that the module still has; an axis of its new size already was computed on them alone."""
    return {
        name: _take(
            array, {a: s for a, s in kept.get(name, {}).items() if array.shape[a] != actual[name].shape[a]}
        )
        for name, array in expected.items()
    }


def _take(array: Array, slots: Mapping[int, Index]) -> Array:
    for axis, index in slots.items():
        array = np.take(array, index, axis)
    return array


def _is_weak(array: Array) -> bool:
    """Whether an output says so little that equality is no evidence: it is empty, has nothing finite, hardly
    varies, or holds decisions (an ArgMax) and no numbers.
    """
    if array.dtype.kind in "iub" or not array.size:
        return True
    if array.dtype.kind != "f":
        return False
    numbers = array.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return not numbers.size or (array.size > 1 and float(np.ptp(numbers)) < FLOOR)
