"""Concrete sizes for the symbolic dimensions of graph inputs.

Analyses and probe runs need numbers where a model says ``batch`` or nothing at all. Two choices are made, so that what follows
the inputs' sizes can be told from what does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir

InputSizes = Mapping[str, tuple[int, ...]]
"""Concrete shape of every graph input, by name."""


@dataclass(frozen=True, slots=True)
class ProbeSizes:
    """Two choices of concrete input shapes.

    Attributes:
        first: the shapes that analyses use.
        second: shapes that differ from ``first`` in every symbolic dimension.
        symbolic: whether there is any symbolic dimension at all.
    """

    first: InputSizes
    second: InputSizes
    symbolic: bool


def input_sizes(graph: onnx_ir.Graph) -> ProbeSizes:
    """Choose concrete input shapes for a graph.

    The same symbol gets the same size everywhere. The first axis is taken for a batch (1, then 2), axes from the third on of inputs
    with four or more axes for image sides (64, then 96), others for sequences (8, then 12).
    """
    chosen: dict[str, tuple[int, int]] = {}
    first: dict[str, tuple[int, ...]] = {}
    second: dict[str, tuple[int, ...]] = {}
    for value in graph.inputs:
        if value.name is None or value.name in graph.initializers or value.shape is None:
            continue
        pairs = [_choose(value, axis, chosen) for axis in range(len(value.shape))]
        first[value.name] = tuple(a for a, _ in pairs)
        second[value.name] = tuple(b for _, b in pairs)
    return ProbeSizes(first, second, symbolic=first != second)


def _choose(value: onnx_ir.Value, axis: int, chosen: dict[str, tuple[int, int]]) -> tuple[int, int]:
    assert value.shape is not None
    dim = value.shape[axis]
    if isinstance(dim, int) and dim > 0:
        return dim, dim
    symbol = getattr(dim, "value", None) or f"{value.name}:{axis}"
    if axis == 0:
        default = (1, 2)
    else:
        default = (64, 96) if len(value.shape) >= 4 and axis >= 2 else (8, 12)
    return chosen.setdefault(str(symbol), default)
