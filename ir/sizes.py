"""Concrete sizes for the symbolic dimensions of graph inputs.

Analyses and probe runs need numbers where a model says ``batch`` or nothing at all. The same symbol gets the
same size everywhere; a symbol that is the first axis of any input is a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir

SymbolSizes = Mapping[str, int]
"""A size for every symbolic dimension; one without a name is called after its place, as in ``image:2``."""

SPATIAL = 64
"""Size of an unknown height or width: divisible by the strides of common backbones."""


def open_inputs(graph: onnx_ir.Graph) -> list[onnx_ir.Value]:
    """The inputs that a caller must feed: those that are no initializers."""
    return [value for value in graph.inputs if value.name not in graph.initializers]


def symbol_sizes(
    graph: onnx_ir.Graph, *, batch: int = 1, spatial: int = SPATIAL, other: int = 1
) -> dict[str, int]:
    """Choose a size for every symbolic dimension of a graph's inputs.

    Args:
        graph: the graph; inputs of unknown rank are left out.
        batch: size of a symbolic first axis.
        spatial: size of height and width of image-like float inputs (``[N, C, H, W]``).
        other: size of everything else, such as a sequence.
    """
    sizes: dict[str, int] = {}
    axes = [(axis, value) for value in open_inputs(graph) for axis in range(len(value.shape or ()))]
    for axis, value in sorted(axes, key=lambda pair: pair[0] != 0):
        if (symbol := symbol_of(value, axis)) is not None:
            image = len(value.shape or ()) == 4 and axis >= 2 and _is_float(value)
            sizes.setdefault(symbol, batch if axis == 0 else spatial if image else other)
    return sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeChoice:
    """One choice of sizes, for any graph; what the numbers mean says :func:`symbol_sizes`."""

    batch: int = 1
    spatial: int = SPATIAL
    other: int = 1

    def of(self, graph: onnx_ir.Graph) -> dict[str, int]:
        """A size for every symbolic dimension of a graph's inputs."""
        return symbol_sizes(graph, batch=self.batch, spatial=self.spatial, other=self.other)


def input_shapes(graph: onnx_ir.Graph, sizes: SymbolSizes) -> dict[str, tuple[int, ...]]:
    """Concrete shape of every input of known rank that a caller must feed, by name."""
    return {
        value.name: tuple(_size(value, axis, sizes) for axis in range(len(value.shape)))
        for value in open_inputs(graph)
        if value.name is not None and value.shape is not None
    }


def symbol_of(value: onnx_ir.Value, axis: int) -> str | None:
    """The name of a symbolic dimension, None for a number; one without a name is named after its place."""
    assert value.shape is not None
    dim = value.shape[axis]
    if isinstance(dim, int):
        return None if dim > 0 else f"{value.name}:{axis}"
    return dim.value or f"{value.name}:{axis}"


def _size(value: onnx_ir.Value, axis: int, sizes: SymbolSizes) -> int:
    symbol = symbol_of(value, axis)
    assert value.shape is not None
    dim = value.shape[axis]
    if symbol is not None:
        return sizes[symbol]
    assert isinstance(dim, int)
    return dim


def _is_float(value: onnx_ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
