"""What a model costs after a cut, as a function of how many units of each group stay.

Units of a group are alike: each takes the same number of slots from every axis that it touches. So the size of an
axis is ``fixed + sum_g width_g * kept_g``, a parameter's the product of those of its axes, and the
multiply-accumulates of a node those of its rule with factors of these sizes. Nothing has to be cut to know that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.op import Op
from prunec.ir.rule import Packing, Rule
from prunec.ir.scopes import walk
from prunec.passes.cost import weight_size, weights_of
from prunec.passes.coupling.axes import Operand
from prunec.passes.coupling.groups import Coupling, Group

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Size:
    """The size of an axis.

    Attributes:
        fixed: slots that stay in any case.
        parts: groups (by position) with the slots that each of their units covers.
    """

    fixed: int
    parts: tuple[tuple[int, int], ...] = ()

    def at(self, kept: Counts) -> int:
        return self.fixed + sum(width * int(kept[group]) for group, width in self.parts)


@dataclass(frozen=True, slots=True)
class _Work:
    """A node that multiplies: its rule, and the sizes of what the rule is over."""

    op: Op
    rule: Rule
    sizes: dict[str, _Size]
    packed: tuple[_Size, ...]

    def macs(self, kept: Counts) -> int:
        sizes = {factor: size.at(kept) for factor, size in self.sizes.items()}
        packed = tuple(
            _shortened(p, size.at(kept)) for p, size in zip(self.rule.packed, self.packed, strict=True)
        )
        return self.op.macs(replace(self.rule, sizes=sizes, packed=packed))


@dataclass(frozen=True, slots=True)
class _Weight:
    """A parameter, with the ways in which its readers may see it cut; each way makes a tensor of its own.

    Attributes:
        whole: its shape as it is.
        shapes: the sizes of its axes, for each way.
        uniform: all its elements are equal, so that ways that leave one shape share one tensor.
    """

    whole: tuple[int, ...]
    shapes: tuple[tuple[_Size, ...], ...]
    uniform: bool

    def elements(self, kept: Counts) -> int:
        shapes = [tuple(size.at(kept) for size in shape) for shape in self.shapes]
        cut = [shape for shape in shapes if shape != self.whole]
        different = [*(set(cut) if self.uniform else cut), *([self.whole] if len(cut) < len(shapes) else [])]
        return sum(size for size in map(prod, different) if size > 1)  # as in `weight_size`


class CutCost:
    """Cost of one model as a function of the units that its groups keep.

    Args:
        model: the model before the cut.
        coupling: its analysis.
        groups: the groups that may lose units; counts are in their order.
    """

    def __init__(self, model: onnx_ir.Model, coupling: Coupling, groups: Sequence[Group]) -> None:
        self._coupling = coupling
        self._groups = groups
        self._owner = np.full(len(coupling.components.free), -1)
        for number, group in enumerate(groups):
            self._owner[group.components] = number
        self.full: Counts = np.array([group.units for group in groups], np.int64)
        self._work = list(self._find_work())
        self._weights = list(self._find_weights(model))
        self._touching = self._find_touching()

    def macs(self, kept: Counts) -> int:
        """Multiply-accumulates of one inference, as :func:`prunec.passes.cost.measure` counts them."""
        return sum(work.macs(kept) for work in self._work)

    def parameters(self, kept: Counts) -> int:
        """Elements of the weights, likewise."""
        return sum(weight.elements(kept) for weight in self._weights)

    def macs_touching(self, groups: Collection[int], kept: Counts) -> int:
        """The part of the multiply-accumulates that depends on some groups (by position)."""
        numbers = {n for group in groups for n in self._touching[0].get(group, ())}
        return sum(self._work[number].macs(kept) for number in numbers)

    def parameters_touching(self, groups: Collection[int], kept: Counts) -> int:
        """The part of the parameters that depends on some groups (by position)."""
        numbers = {n for group in groups for n in self._touching[1].get(group, ())}
        return sum(self._weights[number].elements(kept) for number in numbers)

    def weights_by_group(self, worth: Mapping[int, float]) -> NDArray[np.float64]:
        """Per node that multiplies the mean of what its groups say that one multiply-accumulate is worth."""
        weights = np.zeros(len(self._work))
        counts = np.zeros(len(self._work))
        for group, numbers in self._touching[0].items():
            weights[numbers] += worth.get(group, 0.0)
            counts[numbers] += 1
        result: NDArray[np.float64] = weights / np.maximum(counts, 1)
        return result

    def weighted(self, groups: Collection[int] | None, kept: Counts, weights: NDArray[np.float64]) -> float:
        """Multiply-accumulates times what they are worth; of all nodes, or of those that depend on some groups."""
        chosen = groups if groups is not None else self._touching[0]
        numbers = {n for group in chosen for n in self._touching[0].get(group, ())}
        return float(sum(self._work[number].macs(kept) * weights[number] for number in numbers))

    # -- sizes ------------------------------------------------------------

    def _size(self, axis: int | None, otherwise: int) -> _Size:
        """The size of an axis (by number)."""
        labels = None if axis is None else self._coupling.labels(axis)
        if labels is None:
            return _Size(otherwise)
        owners = self._owner[labels]
        slots = np.bincount(owners[owners >= 0], minlength=len(self._groups))
        parts = tuple((g, int(slots[g] // self._groups[g].units)) for g in np.flatnonzero(slots).tolist())
        return _Size(int(np.count_nonzero(owners < 0)), parts)

    def _find_work(self) -> Iterator[_Work]:
        relations = self._coupling.relations
        for node, rule in relations.rules.items():
            op = relations.ops[node]
            if op.macs(rule):
                sizes = {
                    f: self._size(relations.factors.get((node, f)), size) for f, size in rule.sizes.items()
                }
                packed = tuple(
                    self._size(relations.numbers[node, *p.operand] + p.axis, len(p.index))
                    for p in rule.packed
                )
                yield _Work(op, rule, sizes, packed)

    def _find_weights(self, model: onnx_ir.Model) -> Iterator[_Weight]:
        facts = self._coupling.facts
        operands: dict[onnx_ir.Value, list[Operand]] = {}
        for operand in self._coupling.relations.table.operands:
            operands.setdefault(operand.value, []).append(operand)
        read = dict.fromkeys(value for node in walk(model.graph) for value in weights_of(node, facts))
        for value in read:
            if weight_size(value, facts):
                shapes = self._shapes(value, operands.get(value, []))
                yield _Weight(facts.shapes[value], shapes, len(shapes) > 1 and _is_uniform(value))

    def _shapes(self, value: onnx_ir.Value, operands: Sequence[Operand]) -> tuple[tuple[_Size, ...], ...]:
        """The sizes of a parameter's axes for every different way in which it is cut."""
        whole = tuple(_Size(n) for n in self._coupling.facts.shapes[value])
        table = self._coupling.relations.table
        ways = {}
        for operand in operands:
            numbers = table.operands[operand]
            sizes = tuple(self._size(axis, table.sizes[axis]) for axis in numbers)
            cut = [table.find(axis) if size.parts else -1 for axis, size in zip(numbers, sizes, strict=True)]
            ways[tuple(cut)] = sizes
        uses = sum(1 for operand in operands if operand.use is not None)
        if not ways or (uses and uses < len(value.uses())):
            ways.setdefault((-1,) * len(whole), whole)  # some reader sees it as it is
        return tuple(ways.values())

    def _find_touching(self) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
        """Per group the numbers of the nodes that multiply and of the weights that depend on it."""
        work: dict[int, list[int]] = {}
        for number, node in enumerate(self._work):
            sizes = (*node.sizes.values(), *node.packed)
            for group in {group for size in sizes for group, _ in size.parts}:
                work.setdefault(group, []).append(number)
        weights: dict[int, list[int]] = {}
        for number, weight in enumerate(self._weights):
            for group in {group for shape in weight.shapes for size in shape for group, _ in size.parts}:
                weights.setdefault(group, []).append(number)
        return work, weights


def _shortened(packing: Packing, size: int) -> Packing:
    """A packed axis that is as long as it will be; which of its slots stay does not matter for the cost."""
    return replace(packing, index=packing.index[:size])


def _is_uniform(value: onnx_ir.Value) -> bool:
    tensor = onnx_ir.convenience.get_const_tensor(value)
    if tensor is None:
        return False
    array = tensor.numpy()
    return bool((array == array.flat[0]).all())
