"""Data movement, derived and not described: the op itself runs on index vectors, and the result says which
slot went where.

All ops here work axis by axis, so that a vector ``0 1 2 ... n-1`` along each axis tells everything: slicing
it, padding it, tiling it gives the :class:`~prunec.ir.rule.IndexMap` of that axis. Axes on which the vector
comes back unchanged are plain factors. Reshapes and transposes, which mix axes, have their closed form in
:mod:`prunec.ir.layout`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prunec.ir.layout import Layout
from prunec.ir.op import Cut, Op
from prunec.ir.ops.elementwise import factors, sizes
from prunec.ir.registry import register
from prunec.ir.rule import Index, IndexMap, Operand, Pin, Rule, RuleError
from prunec.ir.site import Site

ANYWHERE = -1
"""In an index map: the slot holds something that is not from this input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement(Op):
    """One data input (input 0); every output axis is an index vector into the input axis of the same
    position.
    """

    @abstractmethod
    def vectors(self, site: Site, output: int) -> Mapping[int, Index]:
        """Index vectors of the axes on which the op moves something; the other axes pass through."""

    def rule(self, site: Site) -> Rule:
        """Factors for the axes that pass through, index maps for the others."""
        shape = site.shape(0)
        data = factors(shape)
        outputs: list[Operand] = []
        maps: list[IndexMap] = []
        for j in range(len(site.node.outputs)):
            moved = self.vectors(site, j)
            outputs.append(tuple(() if axis in moved else term for axis, term in enumerate(data)))
            maps += [
                IndexMap(input=0, axis=a, output=j, output_axis=a, index=index)
                for a, index in moved.items()
                if shape[a] > 1 or len(index) > 1
            ]
        return Rule(
            inputs=(data, *[None] * (len(site.node.inputs) - 1)),
            outputs=tuple(outputs),
            sizes=sizes(shape, data),
            maps=tuple(maps),
        )

    def new_vector(self, site: Site, cut: Cut, output: int, axis: int) -> Index | None:
        """The index vector of an axis after the cut, in new positions; None where neither side of the axis is
        cut.
        """
        old, new = cut.kept(("in", 0), axis), cut.kept(("out", output), axis)
        if old is None and new is None:
            return None
        vector = np.asarray(self.vectors(site, output)[axis])
        position = np.full(site.shape(0)[axis], ANYWHERE)
        kept = np.arange(len(position)) if old is None else old
        position[kept] = np.arange(len(kept))
        return position[vector if new is None else vector[new]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Movement):
    """``y = x[start:end:step]`` per axis, from attributes (opset 1) or inputs."""

    def rule(self, site: Site) -> Rule:
        """As movement; an axis whose window is only known at run time keeps its slots."""
        if (axes := self._unknown(site)) is None:
            return Movement.rule(self, site)
        data = factors(site.shape(0))
        rest = tuple(() if axis in axes else term for axis, term in enumerate(data))
        why = f"{site.node.op_type} takes a part of it that is only known at run time"
        return Rule(
            inputs=(data, *[None] * (len(site.node.inputs) - 1)),
            outputs=(rest,),
            sizes=sizes(site.shape(0), data),
            pins=tuple(
                Pin(operand=(s, 0), axis=axis, reason=why) for axis in sorted(axes) for s in ("in", "out")
            ),
        )

    def _unknown(self, site: Site) -> set[int] | None:
        """The sliced axes, where they are known and their windows are not."""
        if not site.has(3) or all(site.number(i) is not None for i in (1, 2)):
            return None
        return {axis % len(site.shape(0)) for axis in site.integers(3) or ()}

    def vectors(self, site: Site, output: int) -> Mapping[int, Index]:
        """The sliced index vectors."""
        del output
        shape = site.shape(0)
        return {axis: np.arange(shape[axis])[window] for axis, window in self._windows(site).items()}

    def _windows(self, site: Site) -> dict[int, slice]:
        starts, ends = (site.integers(i, name) for i, name in ((1, "starts"), (2, "ends")))
        if starts is None or ends is None:
            raise RuleError("starts or ends are absent")
        axes = site.integers(3, "axes") or list(range(len(starts)))
        steps = site.integers(4) or [1] * len(starts)
        rank = len(site.shape(0))
        return {
            axis % rank: slice(start, None if step < 0 and end < -(2**31) + 1 else end, step)
            for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
        }

    def rewrite(self, site: Site, cut: Cut) -> None:
        """New starts, ends and steps; a slice whose remaining slots are not evenly spaced cannot be one any
        more.
        """
        if self._unknown(site) is not None:
            return
        windows = self._windows(site)
        vectors = {axis: self.new_vector(site, cut, 0, axis) for axis in windows}
        if all(vector is None for vector in vectors.values()):
            return
        new = {axis: windows[axis] if v is None else as_slice(v) for axis, v in vectors.items()}
        if None in new.values():
            gathered = {axis: vector for axis, vector in vectors.items() if vector is not None}
            cut.gather(gathered, instead=len(gathered) == len(windows))
            new = {axis: window for axis, window in windows.items() if axis not in gathered}
        if new:
            set_slice(site, cut, {axis: window for axis, window in new.items() if window is not None})


def as_slice(vector: Index) -> slice | None:
    """The slice that takes exactly these slots in this order, or None where there is none.

    >>> as_slice(np.array([2, 4, 6])), as_slice(np.array([2, 1, 0]))
    (slice(2, 8, 2), slice(2, None, -1))
    """
    if not len(vector):
        return None
    step = int(vector[1] - vector[0]) if len(vector) > 1 else 1
    if step == 0 or np.any(np.diff(vector) != step):
        return None
    end = int(vector[-1]) + step
    return slice(int(vector[0]), end if end >= 0 else None, step)


def set_slice(site: Site, cut: Cut, windows: Mapping[int, slice]) -> None:
    """Write starts, ends, axes and steps back in the form that the node has."""
    far = -(2**31)
    ends = [far if w.stop is None else w.stop for w in windows.values()]
    columns = {"starts": [w.start for w in windows.values()], "ends": ends, "axes": list(windows)}
    if "starts" in site.attributes:
        cut.set_attributes(columns)
        return
    for position, column in enumerate(columns.values(), start=1):
        cut.set_input(position, np.array(column, np.int64))
    cut.set_input(4, np.array([w.step for w in windows.values()], np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(Movement):
    """Consecutive pieces along one axis."""

    def vectors(self, site: Site, output: int) -> Mapping[int, Index]:
        """The piece's own range of indices."""
        axis = site.int_attribute("axis", 0) % len(site.shape(0))
        pieces = [site.output_shape(j)[axis] for j in range(len(site.node.outputs))]
        start = sum(pieces[:output])
        return {axis: np.arange(start, start + pieces[output])}

    def rewrite(self, site: Site, cut: Cut) -> None:
        """New piece sizes."""
        axis = site.int_attribute("axis", 0) % len(site.shape(0))
        if cut.kept(("in", 0), axis) is None:
            return
        pieces = [cut.size(("out", j), axis) for j in range(len(site.node.outputs))]
        if site.opset < 13:
            cut.set_attributes({"split": pieces})
            return
        cut.set_attributes({"num_outputs": None})
        cut.set_input(1, np.array(pieces, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile(Movement):
    """Whole repetitions along every axis."""

    def vectors(self, site: Site, output: int) -> Mapping[int, Index]:
        """The tiled index vectors."""
        del output
        shape = site.shape(0)
        repeats = site.integers(1) or [1] * len(shape)
        return {
            axis: np.tile(np.arange(size), repeat)
            for axis, (size, repeat) in enumerate(zip(shape, repeats, strict=True))
            if repeat != 1
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Op):
    """Operands one after another along one axis."""

    def operands(self, site: Site) -> range:
        """Positions of the inputs that are put together."""
        return range(len(site.node.inputs))

    def rule(self, site: Site) -> Rule:
        """Every operand's index vector stands at its own offset of the output."""
        shape = site.output_shape()
        axis = site.int_attribute("axis", 0) % max(1, len(shape))
        terms = tuple(() if a == axis else t for a, t in enumerate(factors(shape)))
        maps, pins, offset = [], [], 0
        for i in self.operands(site):
            size = site.shape(i)[axis]
            index = np.full(shape[axis], ANYWHERE)
            index[offset : offset + size] = np.arange(size)
            maps.append(IndexMap(input=i, axis=axis, output=0, output_axis=axis, index=index))
            if size == 1:
                pins.append(
                    Pin(operand=("in", i), axis=axis, reason="an axis of size 1, which has nothing to lose")
                )
            offset += size
        return Rule(
            inputs=tuple(terms if i in self.operands(site) else None for i in range(len(site.node.inputs))),
            outputs=(terms,),
            maps=tuple(maps),
            pins=tuple(pins),
            sizes=sizes(shape, terms),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Op):
    """Slices of one axis picked by index: constant indices move data, computed ones look up a table."""

    def rule(self, site: Site) -> Rule:
        """Constant indices are an index map (a vector) or a relayout (a strided view); otherwise the axis is
        pinned.
        """
        shape, axis = site.shape(0), self._axis(site)
        index = site.number(1)
        if index is not None and index.ndim == 1:
            return self._picked(site, axis, index % shape[axis])
        if (
            index is not None
            and index.size == shape[axis]
            and (order := strided_order(index % index.size)) is not None
        ):
            return self._strided(site, axis, index.shape, order)
        return self._looked_up(site, axis, constant=index is not None)

    def _axis(self, site: Site) -> int:
        return site.int_attribute("axis", 0) % len(site.shape(0))

    def _picked(self, site: Site, axis: int, index: Index) -> Rule:
        shape = site.shape(0)
        terms = tuple(() if a == axis else t for a, t in enumerate(factors(shape)))
        moved = IndexMap(input=0, axis=axis, output=0, output_axis=axis, index=index)
        return Rule(inputs=(terms, None), outputs=(terms,), sizes=sizes(shape, terms), maps=(moved,))

    def _strided(self, site: Site, axis: int, picked: tuple[int, ...], order: list[int]) -> Rule:
        shape = site.shape(0)
        layout = Layout.of(shape)
        layout.reshape([*shape[:axis], *(picked[a] for a in order), *shape[axis + 1 :]])
        inverse = [order.index(a) for a in range(len(order))]
        rest = range(axis + len(order), len(shape) + len(order) - 1)
        layout.transpose([*range(axis), *(axis + a for a in inverse), *rest])
        return layout.rule(extra_inputs=1)

    def _looked_up(self, site: Site, axis: int, *, constant: bool) -> Rule:
        shape, picked = site.shape(0), site.shape(1)
        data = factors(shape)
        inner = factors((1,) * len(shape) + picked)[len(shape) :]
        table = tuple(() if a == axis else t for a, t in enumerate(data))
        why = (
            f"{site.node.op_type} picks single slices of it by index"
            if constant
            else f"{site.node.op_type} looks it up by indices that are computed at run time"
        )
        return Rule(
            inputs=(table, None if constant else inner),
            outputs=((*data[:axis], *inner, *data[axis + 1 :]),),
            sizes=sizes((*shape, *picked), (*table, *inner)),
            pins=(Pin(operand=("in", 0), axis=axis, reason=why),),
        )

    def rewrite(self, site: Site, cut: Cut) -> None:
        """Renumber constant indices."""
        axis, index = self._axis(site), site.number(1)
        if index is None or not index.ndim:
            return
        size = site.shape(0)[axis]
        old = cut.kept(("in", 0), axis)
        new = [cut.kept(("out", 0), axis + a) for a in range(index.ndim)]
        if old is None and all(kept is None for kept in new):
            return
        position = np.full(size, ANYWHERE)
        kept_input = np.arange(size) if old is None else old
        position[kept_input] = np.arange(len(kept_input))
        grid = np.ix_(
            *(np.arange(n) if kept is None else kept for n, kept in zip(index.shape, new, strict=True))
        )
        cut.set_input(1, position[(index % size)[grid]].astype(np.int64))


def strided_order(index: Index) -> list[int] | None:
    """The order of axes in which a table of indices counts ``0 1 2 ...``, outermost first; None where it does
    not.

    Such a table is a reshape and a transpose in disguise (``as_strided``).

    >>> strided_order(np.array([[0, 3], [1, 4], [2, 5]]))
    [1, 0]
    """
    first = index.ravel()[0] if index.size else 0
    origin = [0] * index.ndim
    strides = []
    for axis, size in enumerate(index.shape):
        step = list(origin)
        step[axis] = min(1, size - 1)
        strides.append(int(index[tuple(step)] - first))
    order = sorted(range(index.ndim), key=lambda axis: -strides[axis])
    counts = np.array_equal(index.transpose(order).ravel(), np.arange(index.size))
    return order if counts else None


def register_ops() -> None:
    """Register the family's ops."""
    everywhere = frozenset({0})
    register("Slice", Slice(zeroed=everywhere))
    register("Split", Split(zeroed=everywhere))
    register("Tile", Tile(zeroed=everywhere))
    register("Gather", Gather(zeroed=everywhere, roles={0: "weight"}))
    register("Concat", Concat(zeroed=frozenset(range(256))))
