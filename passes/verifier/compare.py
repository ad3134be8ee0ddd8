"""What it means that two models compute the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import PassFailure, UserError, VerificationError
from prunec.ir.execute import Runner
from prunec.ir.facts import infer_facts
from prunec.ir.module import Module
from prunec.ir.probes import probe_feeds
from prunec.ir.rule import Index
from prunec.ir.sizes import symbol_sizes

Array = NDArray[Any]

#: Largest accepted relative error of an output, by the coarsest floating-point type in the model.
TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 1e-1}

#: Outputs smaller than this are compared as if they were this large: a saturated sigmoid rounds in steps.
FLOOR = 1e-3

#: How many intermediate values are compared where the outputs say too little.
WITNESSES = 24

Kept = Mapping[str, Mapping[int, Index]]
"""Per value that a cut shrank the slots of its axes that stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The outcome of running two models on the same inputs.

    Attributes:
        error: the largest relative error.
        batch: batch size of the inputs.
        witnesses: intermediate values that were compared because the outputs say too little.
    """

    error: float
    batch: int
    witnesses: int


def compare_outputs(
    pass_name: str, reference: Module, module: Module, *, kept: Kept | None = None, seed: int = 0
) -> Comparison:
    """Run both models on the same random inputs and compare all outputs.

    Where an output of the reference is nearly constant (a dead ReLU, a saturated sigmoid), equality of
    outputs proves little, and intermediate values are compared as well.

    Args:
        pass_name: the pass, for messages.
        reference: what the module must equal.
        module: the module.
        kept: the slots of the reference's intermediate values that the module still has.
        seed: of the inputs.

    Raises:
        UserError: the reference does not run.
        VerificationError: the module does not run, or outputs differ.
    """
    expected, feeds, batch = _run_reference(reference, seed)
    error = _check(pass_name, expected, _run(pass_name, module, feeds), module, "output")
    suspicious = (
        kept is not None and error == 0
    )  # bit for bit equal after a cut: did anything reach the output?
    if not suspicious and not any(_is_weak(array) for array in expected.values()):
        return Comparison(error=error, batch=batch, witnesses=0)
    names = list(_witnesses(reference, module, kept or {}))
    if not names:
        return Comparison(error=error, batch=batch, witnesses=0)
    expected = Runner(reference, outputs=names).run(feeds)
    actual = Runner(module, outputs=names).run(feeds)
    expected = {
        n: _restrict(a, (kept or {}).get(n, {}), actual[n].shape)
        for n, a in expected.items()
        if a.dtype.kind == "f" and a.ndim > 1  # data, not shape arithmetic
    }
    error = max(error, _check(pass_name, expected, actual, module, "intermediate value"))
    return Comparison(error=error, batch=batch, witnesses=len(expected))


def _run(pass_name: str, module: Module, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of the module under test."""
    try:
        return Runner(module).run(feeds)
    except PassFailure as error:
        raise VerificationError(
            f"the model does not run after `{pass_name}`",
            code="V015",
            place=error.place,
            notes=[error.message],
            help=["this is a bug in prunec: please report it with the model and the pipeline"],
        ) from error


def _run_reference(reference: Module, seed: int) -> tuple[dict[str, Array], dict[str, Array], int]:
    """Outputs, inputs and batch size at the first choice of sizes that the model accepts.

    A batch of 2 says more than 1, but some graphs have 1 built in whatever their inputs say; and some need
    longer sequences than the shortest.
    """
    runner = Runner(reference, blame="user")
    refusal: UserError | None = None
    tried: list[dict[str, int]] = []
    for batch, other in ((2, 1), (1, 1), (1, 16), (1, 512)):
        sizes = symbol_sizes(reference.graph, batch=batch, other=other)
        if sizes in tried:
            continue
        tried.append(sizes)
        feeds = probe_feeds(reference, seed=seed, sizes=sizes)
        try:
            return runner.run(feeds), feeds, batch if batch in sizes.values() else 1
        except UserError as error:
            refusal = error
    assert refusal is not None
    raise refusal


def _check(
    pass_name: str, expected: Mapping[str, Array], actual: Mapping[str, Array], module: Module, what: str
) -> float:
    """The largest relative error; a VerificationError where it is too large."""
    tolerance = TOLERANCE[coarsest_type(module)]
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
                notes=[f"{shapes}, largest magnitude {_magnitude(array):.3g}"],
                help=["this is a bug in prunec: please report it with the model and the pipeline"],
            )
    return worst


def _witnesses(reference: Module, module: Module, kept: Kept) -> Iterator[str]:
    """Intermediate values that both graphs compute by the same op, spread evenly over the graph.

    Shape arithmetic does not count: it tells the sizes of axes, which a cut changes on purpose. Nor does an
    axis that is cut and follows the batch as well: which of its slots stay depends on the inputs.
    """
    facts = infer_facts(reference.model)
    made = {
        o.name: n.op_type
        for n in reference.graph
        if not facts.is_folded(n)
        for o in n.outputs
        if o.name and facts.dynamic.get(o, frozenset()).isdisjoint(kept.get(o.name, {}))
    }
    common = [
        o.name
        for node in module.graph
        for o in node.outputs
        if o.name and made.get(o.name) == node.op_type and not o.is_graph_output()
    ]
    step = max(1, -(-len(common) // WITNESSES))
    yield from reversed(common[::-1][::step])


def _restrict(array: Array, kept: Mapping[int, Index], shape: tuple[int, ...]) -> Array:
    """The slots that stay; an axis that has its new size already was computed on them alone."""
    for axis, slots in kept.items():
        if array.shape[axis] != shape[axis]:
            array = np.take(array, slots, axis)
    return array


def _is_weak(array: Array) -> bool:
    """Whether an output varies so little that equality is no evidence."""
    if array.dtype.kind not in "f" or array.size < 2:
        return False
    numbers = array.astype(np.float64)
    return bool(np.isfinite(numbers).all() and np.ptp(numbers) < FLOOR)


def relative_error(actual: Array, expected: Array) -> float:
    """Largest difference over the largest finite magnitude of ``expected`` (``FLOOR`` where that is smaller).

    Infinite where shapes or non-finite values differ. Integers and booleans count as equal or not: the share
    of differing elements.
    """
    if actual.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind not in "fcV" and expected.dtype.name != "bfloat16":
        return float(np.mean(actual != expected)) if expected.size else 0.0
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    same_holes = np.array_equal(a[~finite], b[~finite], equal_nan=True)
    if not same_holes or not np.array_equal(finite, np.isfinite(a)):
        return float("inf")
    if not finite.any():
        return 0.0
    return float(np.abs(a[finite] - b[finite]).max()) / max(_magnitude(b), FLOOR)


def _magnitude(array: Array) -> float:
    numbers = array.astype(np.float64, copy=False)
    finite = numbers[np.isfinite(numbers)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def coarsest_type(module: Module) -> str:
    """The floating-point type with the fewest digits among weights and inputs: it bounds the comparison."""
    values = [*module.graph.initializers.values(), *module.graph.inputs]
    names = {str(v.dtype.name).lower() for v in values if v.dtype is not None}
    return next((name for name in ("bfloat16", "float16") if name in names), "float32")
