"""What it means that two models compute the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError, VerificationError
from prunec.ir.dialect import Executor, dialect_of
from prunec.ir.equality import FLOOR, TOLERANCE, coarsest_type, magnitude, relative_error
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.open_bodies import size_choices
from prunec.ir.rule import Index
from prunec.ir.sizes import symbol_sizes
from prunec.passes.verifier.advice import BUG
from prunec.passes.verifier.branches import open_bodies, ways
from prunec.passes.verifier.probing import PROBE_SIZES, first_run, run_after
from prunec.passes.verifier.rounding import rounds, without_rounding
from prunec.passes.verifier.tolerance import MOST_NOISE, NEAR, has_numbers, noise, rounded, worst_error
from prunec.passes.verifier.witnesses import Kept, witnesses

Array = NDArray[Any]

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
        drawn: the models draw random numbers, which were made the same in both.
    """

    error: float
    batch: int
    witnesses: int
    rounded: bool = True
    borderline: bool = False
    ways: Share = (0, 0)
    bodies: Share = (0, 0)
    finite: bool = True
    drawn: bool = False


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
    pair = _Pair(
        pass_name=pass_name, reference=reference, module=module, kept=kept or {}, moved=moved, facts=facts
    )
    try:
        return pair.compare(seed)
    except VerificationError as error:
        if error.code != "V013":
            raise
        return pair.look_again(error, seed)


class _Inputs(NamedTuple):
    """The same inputs for both models.

    Attributes:
        reference: by name.
        module: without the slots that a cut took from inputs.
    """

    reference: Mapping[str, Array]
    module: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two models that have to compute the same; for the attributes see :func:`compare_outputs`."""

    pass_name: str
    reference: Module
    module: Module
    kept: Kept
    moved: Moved | None
    facts: Facts | None

    def compare(self, seed: int) -> Comparison:
        """Compare outputs, and whatever else there is where they say too little."""
        expected, feeds, batch = first_run(self.reference, seed)
        smaller = {name: _take(array, self.kept.get(name, {})) for name, array in feeds.items()}
        inputs = _Inputs(feeds, smaller)
        actual = run_after(self.pass_name, self.module, inputs.module)
        restricted = _restrict(expected, actual, self.kept)
        tolerance = TOLERANCE[coarsest_type(self.module)]
        if self.moved is not None and not worst_error(restricted, actual) <= tolerance:
            tolerance = max(tolerance, min(MOST_NOISE, NEAR * noise(self.reference, expected, feeds)))
        error = check_values(self.pass_name, restricted, actual, "output", tolerance)
        names = self._witnesses() if self._says_little(expected, error) else []
        inner, seen = self._witness_error(names, inputs, tolerance) if names else (0.0, 0)
        forced = list(self._way_errors(inputs, tolerance))
        alone = list(self._body_errors(seed, tolerance))
        return Comparison(
            error=max([error, inner, *(e for e in (*forced, *alone) if e is not None)]),
            batch=batch,
            witnesses=seen,
            ways=_share(forced),
            bodies=_share(alone),
            finite=not expected or any(has_numbers(array) for array in expected.values()),
            drawn=dialect_of(self.reference.model).draws(self.reference),
        )

    def look_again(self, error: VerificationError, seed: int) -> Comparison:
        """Compare models that differ, but may do so because a value lies on the border of two integers: with the
        rounding left out, or on two other inputs. A border is met by few inputs, a mistake by all.
        """
        plain, plain_module = without_rounding(self.reference), without_rounding(self.module)
        if plain is not None and plain_module is not None:
            try:
                unrounded = replace(self, reference=plain, module=plain_module, facts=None)
                return replace(unrounded.compare(seed), rounded=False)
            except VerificationError:
                if not rounds(plain):
                    raise
        if not rounds(self.reference):
            raise error
        others = [self.compare(seed + more) for more in (1, 2)]
        return replace(max(others, key=lambda comparison: comparison.error), borderline=True)

    def _says_little(self, expected: Mapping[str, Array], error: float) -> bool:
        """Whether equal outputs prove little; such are also those that agree bit for bit after a cut: did anything of
        it reach them?
        """
        return (bool(self.kept) and error == 0) or any(_is_weak(array) for array in expected.values())

    def _witnesses(self) -> list[str]:
        """Intermediate values whose slots are known in both models."""
        found = witnesses(self.reference, self.module, self.kept, self.facts)
        return [name for name in found if self.moved is None or name in self.moved]

    def _witness_error(self, names: Sequence[str], inputs: _Inputs, tolerance: float) -> tuple[float, int]:
        """The error of those of some intermediate values that rounding alone does not decide, and how many they are."""
        dialect = dialect_of(self.module.model)
        runner = dialect.executor(self.reference, outputs=names)
        expected = _well_conditioned(runner, inputs.reference, tolerance)
        placed = {name: _take(array, (self.moved or {}).get(name, {})) for name, array in expected.items()}
        actual = dialect.executor(self.module, outputs=names).run(inputs.module)
        restricted = _restrict(placed, actual, self.kept)
        error = check_values(self.pass_name, restricted, actual, "intermediate value", tolerance)
        return error, len(restricted)

    def _way_errors(self, inputs: _Inputs, tolerance: float) -> Iterator[float | None]:
        """The error on every way through the branches; None where the reference does not run."""
        for forced, forced_module in ways(self.reference, self.module, self.kept):
            try:
                expected = dialect_of(forced.model).executor(forced, blame="user").run(inputs.reference)
            except UserError:  # a branch for other inputs, say
                yield None
                continue
            actual = run_after(self.pass_name, forced_module, inputs.module)
            restricted = _restrict(expected, actual, self.kept)
            yield check_values(self.pass_name, restricted, actual, "output", tolerance)

    def _body_errors(self, seed: int, tolerance: float) -> Iterator[float | None]:
        """The error of every body that its op feeds as it sees fit (a decoder), run by itself; None where it does
        not run.
        """
        dialect = dialect_of(self.reference.model)
        for alone, alone_module in open_bodies(self.reference, self.module):
            sizes = symbol_sizes(alone.graph, batch=2, other=PROBE_SIZES[0][2])
            for chosen in size_choices(sizes, 2):
                feeds = dialect.feeds(alone, seed=seed, sizes=chosen)
                try:
                    expected = dialect.executor(alone, blame="user").run(feeds)
                except UserError:  # other sizes may fit
                    continue
                actual = run_after(self.pass_name, alone_module, feeds)
                yield check_values(self.pass_name, expected, actual, "output", tolerance)
                break
            else:
                yield None


def _share(errors: Sequence[float | None]) -> Share:
    """How many ran, of how many."""
    return sum(error is not None for error in errors), len(errors)


def check_values(
    pass_name: str, expected: Mapping[str, Array], actual: Mapping[str, Array], what: str, tolerance: float
) -> float:
    """The largest relative error of values by name.

    Raises:
        VerificationError: one is larger than the tolerance (V013); ``what`` is what the message calls the value.
    """
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
