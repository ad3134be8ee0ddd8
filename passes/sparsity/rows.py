"""What a sparse layer reads, as the rows of its matrix product.

The columns are those of the layer's weights, ``[group, output, position * input]``. For a convolution a row is the
patch
under the kernel (:mod:`prunec.passes.calibration.unfold`); for every other contraction the op's rule says which
axis of the data is which, so that a constant on the left, a transposed operand and batched weights need nothing
of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Literal

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.facts import Facts
from prunec.ir.registry import find_op, site_of
from prunec.ir.rule import Operand, Rule
from prunec.passes.calibration.unfold import Window, unfold
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.layout import WeightLayout

Array = NDArray[Any]

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})
PIECE = 64 << 20
"""Bytes of patches that are made at a time."""


class NoRows(Exception):
    """Why the inputs of a layer cannot be laid out as rows; the message is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInput:
    """Where a layer's data come from, and how they become rows.

    Attributes:
        node: the contraction.
        position: of the data among its inputs.
        key: the same for inputs that give the same rows.
        pieces: one run's data -> rows ``[group, row, position * input]``, some at a time.
    """

    node: onnx_ir.Node
    position: int
    key: Hashable
    pieces: Callable[[Array], Iterator[Array]]

    @property
    def value(self) -> onnx_ir.Value:
        """The data."""
        value = self.node.inputs[self.position]
        assert value is not None
        return value

    @property
    def name(self) -> str:
        """The name of the data."""
        return self.value.name or ""


def layer_input(layer: SparseLayer, facts: Facts) -> LayerInput:
    """How a layer (its first use, if several share the weight) reads its data.

    Raises:
        NoRows: the data are not floating-point numbers, or the op is no convolution and slides over them.
    """
    node, at = layer.uses[0]
    assert node.graph is not None
    pieces: Callable[[Array], Iterator[Array]]
    key: Hashable
    op = find_op(node)
    assert op is not None
    rule = op.rule(site_of(node, facts, node.graph))
    position = _data_position(node, rule, at, facts)
    if node.op_type in CONVOLUTIONS:
        weight = facts.shape(node.inputs[at])
        assert weight is not None
        window, order = Window.of(node, weight[2:]), _kernel_order(rule, at, layer.layout)
        pieces, key = partial(_patches, window=window, order=order), (window, order)
    elif layer.shape[2] > 1:
        raise NoRows(f"how `{node.op_type}` slides over its inputs is not known")
    else:
        terms = rule.inputs[position] or ()
        if any(0 < len(layer.layout.sizes.keys() & term) < len(term) - 1 for term in terms):
            raise NoRows(f"an axis of what `{node.op_type}` reads is a product of unknown sizes")
        axes = RowAxes.of(terms, layer.layout)
        pieces, key = axes.rows, axes
    return LayerInput(node=node, position=position, key=(node.inputs[position], key), pieces=pieces)


def _data_position(node: onnx_ir.Node, rule: Rule, at: int, facts: Facts) -> int:
    """Which input of a contraction holds the data: the computed one that shares summed factors with the weight."""
    summed = {f for term in rule.inputs[at] or () for f in term} & set(rule.reduced)
    shares = [bool(summed & {f for term in operand or () for f in term}) for operand in rule.inputs]
    found = [i for i, v in enumerate(node.inputs) if i != at and v not in facts.constant and shares[i]]
    if node.op_type in CONVOLUTIONS:  # one input channel is no factor that could be shared
        found = [0]
    if len(found) != 1:
        raise NoRows(f"`{node.op_type}` multiplies its weight with {len(found)} computed operands")
    value = node.inputs[found[0]]
    kind = onnx_ir.DataType(facts.types[value]) if value in facts.types else None
    if kind is None or not kind.is_floating_point():
        shown = "of unknown type" if kind is None else kind.short_name()
        raise NoRows(f"its inputs are {shown}, not floating point")
    return found[0]


def _kernel_order(rule: Rule, at: int, layout: WeightLayout) -> tuple[int, ...]:
    """Per kernel axis in stored order its place in the contraction's order."""
    positions = [f for term in rule.inputs[at] or () for f in term if layout.kinds.get(f) == "position"]
    stored = [f for term in layout.terms for f in term if layout.kinds[f] == "position"]
    return tuple(positions.index(f) for f in stored)


def _patches(values: Array, window: Window, order: tuple[int, ...]) -> Iterator[Array]:
    """The patches of some samples at a time."""
    sizes = [size for size in window.kernel if size > 1]
    bytes_each = prod(window.kernel) * values[:1].size * max(4, values.itemsize)
    step = max(1, PIECE // max(bytes_each, 1))
    for start in range(0, len(values), step):
        rows = unfold(values[start : start + step].astype(np.float32, copy=False), window)
        if list(order) != sorted(order):
            split = rows.reshape(*rows.shape[:2], *sizes, -1)
            rows = split.transpose(0, 1, *(2 + i for i in order), split.ndim - 1).reshape(rows.shape)
        yield rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAxes:
    """What the axes of a contraction's data, or of its output, are to its weight.

    Attributes:
        split: per axis the sizes that it is the product of; -1 for what may vary.
        order: the split axes: those of groups, those that the weight does not have, those of the columns.
        shape: of the rows.
    """

    split: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    shape: tuple[int, int, int]

    @classmethod
    def of(
        cls, terms: Operand, layout: WeightLayout, columns: Literal["input", "output"] = "input"
    ) -> RowAxes:
        """The axes of an operand whose rule has these terms; ``columns`` are the weight's inputs or outputs."""
        factors: list[str | None] = []
        for term in terms:
            factors += term if layout.sizes.keys() & term else (None,)
        groups, last = (
            [factors.index(f) for term in layout.terms for f in term if layout.kinds[f] == kind]
            for kind in ("group", columns)
        )
        free = [axis for axis in range(len(factors)) if axis not in (*groups, *last)]
        return cls(
            split=tuple(
                tuple(layout.sizes.get(f, -1) for f in term) if layout.sizes.keys() & term else (-1,)
                for term in terms
            ),
            order=(*groups, *free, *last),
            shape=(layout.shape[0], -1, layout.shape[3 if columns == "input" else 1]),
        )

    def rows(self, values: Array) -> Iterator[Array]:
        """The rows: one for every index of the axes that the weight does not have."""
        sizes = (
            (size,) if len(parts) == 1 else parts
            for parts, size in zip(self.split, values.shape, strict=True)
        )
        parts = values.reshape([n for product in sizes for n in product])
        yield parts.transpose(self.order).reshape(self.shape)

    def spread(self, columns: Array) -> Array:
        """One number a column, ``[group, column]``, as an array that broadcasts against the operand."""
        sizes = [max(size, 1) for parts in self.split for size in parts]
        split = columns.reshape([sizes[axis] for axis in self.order]).transpose(np.argsort(self.order))
        return split.reshape([prod(max(size, 1) for size in parts) for parts in self.split])
