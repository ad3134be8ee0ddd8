"""Where along the graph two models begin to compute different numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diff.align import Alignment
from prunec.ir.execute import Runner
from prunec.ir.module import Module

Array = NDArray[Any]

FLOOR = 1e-12
"""A value whose largest magnitude is below this is compared as if it were this large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """How far apart one value of the two models is.

    Attributes:
        name: of the value in model A.
        node: what makes it in A, None for a graph input.
        error: largest absolute difference over the largest magnitude in A; infinite where one of the two is not
            finite.
        shapes: of both, which only compare if they are equal.
        is_output: it is a graph output of A.
        begins: the values that its node reads agree, so that the difference begins here.
    """

    name: str
    node: onnx_ir.Node | None
    error: float | None
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    is_output: bool
    begins: bool = False


def diverge(
    a: Module, b: Module, alignment: Alignment, feeds: Mapping[str, Array], *, tolerance: float = 1e-4
) -> list[Divergence]:
    """Run both models on the same inputs and compare all values that stand for each other.

    Args:
        a: model A.
        b: model B.
        alignment: of their main graphs.
        feeds: an array for each graph input of A; those of B are fed through the alignment.
        tolerance: relative error up to which values agree.

    Returns:
        Every value that both compute, in the order of A.

    Raises:
        UserError: a model does not run on these inputs.
    """
    pairs = {
        value: other
        for node in a.graph
        for value in node.outputs
        if value.name and (other := alignment.values.get(value)) is not None and other.name
    }
    renamed = {
        other.name: feeds[value.name]
        for value, other in alignment.values.items()
        if value.name in feeds and value.name and other.name
    }
    first = Runner(a, outputs=[v.name for v in pairs if v.name], blame="user").run(feeds)
    second = Runner(b, outputs=[v.name for v in pairs.values() if v.name], blame="user").run(renamed)
    outputs = set(a.graph.outputs)
    found: dict[onnx_ir.Value, Divergence] = {}
    for value, other in pairs.items():
        x, y = first[value.name or ""], second[other.name or ""]
        error = relative_error(x, y) if x.shape == y.shape else None
        wrong = error is None or error > tolerance
        found[value] = Divergence(
            name=value.name or "",
            node=value.producer(),
            error=error,
            shapes=(x.shape, y.shape),
            is_output=value in outputs,
            begins=wrong and not _reads_wrong(value, found, tolerance),
        )
    return list(found.values())


def relative_error(a: Array, b: Array) -> float:
    """Largest absolute difference of two arrays of one shape over the largest magnitude of the first."""
    if a.dtype.kind in "OSU" or b.dtype.kind in "OSU":
        return 0.0 if np.array_equal(a, b) else float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    if np.array_equal(x, y, equal_nan=True):
        return 0.0
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("inf")
    return float(np.abs(x - y).max() / max(float(np.abs(x).max()), FLOOR))


def _reads_wrong(value: onnx_ir.Value, found: Mapping[onnx_ir.Value, Divergence], tolerance: float) -> bool:
    """Whether a value that its node reads differs already, also behind nodes that B does not have."""
    node = value.producer()
    queue = list(node.inputs) if node is not None else []
    seen: set[onnx_ir.Value] = set()
    while queue:
        read = queue.pop()
        if read is None or read in seen:
            continue
        seen.add(read)
        if (known := found.get(read)) is not None:
            if known.error is None or known.error > tolerance:
                return True
        elif (producer := read.producer()) is not None:
            queue.extend(producer.inputs)
    return False
