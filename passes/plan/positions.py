"""Positions in the tensors of the input file, kept while tensors shrink and slots move from pass to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError
from prunec.passes.plan.schema import GroupCut, GroupOrder, Step, TensorCut, TensorOrder

Index = NDArray[np.int64]
Key = tuple[str, int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Axis:
    """The slots of one axis as they stand now.

    Attributes:
        standing: original position of every slot up to some place; behind it they follow each other as before.
        seen: the original positions below this number stand in ``standing`` or are gone.
    """

    standing: Index
    seen: int

    def with_places(self, places: Index) -> _Axis:
        """The same, with all of these places in ``standing``."""
        return self._longer(int(places.max(initial=-1)) + 1 - len(self.standing))

    def with_originals(self, originals: Index) -> _Axis:
        """The same, with all of these original positions seen."""
        return self._longer(int(originals.max(initial=-1)) + 1 - self.seen)

    def _longer(self, count: int) -> _Axis:
        if count <= 0:
            return self
        return _Axis(
            np.concatenate([self.standing, np.arange(self.seen, self.seen + count)]), self.seen + count
        )


_NEW = _Axis(np.zeros(0, np.int64), 0)


@dataclass(slots=True)
class Positions:
    """Translates between positions in tensors as they are now and as they were in the input file.

    Attributes:
        axes: per tensor axis that a step changed what stands where.
        pending: steps that are not in ``axes`` yet: behind the last one nobody asks.
    """

    axes: dict[Key, _Axis] = field(default_factory=dict)
    pending: list[Step] = field(default_factory=list)

    def to_original(self, step: Step) -> Step:
        """A step in terms of the tensors as they are now, rewritten in terms of the input file."""
        self._catch_up()
        return _map_slots(step, self._original) if self.axes else step

    def to_current(self, step: Step) -> Step:
        """The reverse of :meth:`to_original`.

        Raises:
            UserError: the step names a position that an earlier step removed.
        """
        self._catch_up()
        return _map_slots(step, self._current)

    def record(self, step: Step) -> None:
        """Note that a step (in terms of the input file) has been made."""
        self.pending.append(step)

    def _catch_up(self) -> None:
        while self.pending:
            self._apply(self.pending.pop(0))

    def _apply(self, step: Step) -> None:
        removed: dict[Key, list[int]] = {}
        for cut in (cut for group in step.groups for cut in group.tensors):
            removed.setdefault(_key(cut), []).extend(cut.removed)
        for key, positions in removed.items():
            gone = np.array(positions, np.int64)
            axis = self.axes.get(key, _NEW).with_originals(gone)
            self.axes[key] = replace(axis, standing=axis.standing[~np.isin(axis.standing, gone)])
        for order in (order for group in step.orders for order in group.tensors):
            slots = np.array(order.order, np.int64)
            axis = self._axis(order).with_originals(slots)
            standing = axis.standing.copy()
            standing[np.isin(standing, slots)] = slots
            self.axes[_key(order)] = replace(axis, standing=standing)

    def standing(self, name: str, shape: tuple[int, ...]) -> Iterator[tuple[int, Index]]:
        """Per axis of a tensor that a step changed everywhere: the original positions that stand there now.

        Args:
            name: of the tensor in the input file.
            shape: that it had there.
        """
        self._catch_up()
        for axis, size in enumerate(shape):
            known = self.axes.get((name, axis, ()))
            if known is not None:
                longer = known.with_originals(np.array([size - 1]))
                yield axis, longer.standing

    def _axis(self, tensor: TensorCut | TensorOrder) -> _Axis:
        return self.axes.get(_key(tensor), _NEW)

    def _original(self, tensor: TensorCut | TensorOrder) -> Index:
        places = _slots(tensor)
        return self._axis(tensor).with_places(places).standing[places]

    def _current(self, tensor: TensorCut | TensorOrder) -> Index:
        originals = _slots(tensor)
        standing = self._axis(tensor).with_originals(originals).standing
        order = np.argsort(standing)
        found = np.searchsorted(standing[order], originals)
        known = np.append(standing[order], -1)[found] == originals
        if not known.all():
            what = "removes" if isinstance(tensor, TensorCut) else "moves"
            twice = "twice" if isinstance(tensor, TensorCut) else "after it is removed"
            gone = originals[~known][0]
            raise UserError(f"the plan {what} index {gone} of axis {tensor.axis} of '{tensor.name}' {twice}")
        return order[found]


def _key(tensor: TensorCut | TensorOrder) -> Key:
    return tensor.name, tensor.axis, tensor.uses


def _slots(tensor: TensorCut | TensorOrder) -> Index:
    return np.array(tensor.removed if isinstance(tensor, TensorCut) else tensor.order, np.int64)


def _map_slots(step: Step, convert: Callable[[TensorCut | TensorOrder], Index]) -> Step:
    def cut(group: GroupCut) -> GroupCut:
        tensors = tuple(replace(t, removed=tuple(np.sort(convert(t)).tolist())) for t in group.tensors)
        return replace(group, tensors=tensors)

    def order(group: GroupOrder) -> GroupOrder:
        return replace(
            group, tensors=tuple(replace(t, order=tuple(convert(t).tolist())) for t in group.tensors)
        )

    return replace(step, groups=tuple(map(cut, step.groups)), orders=tuple(map(order, step.orders)))
