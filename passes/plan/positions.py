"""Positions in the tensors of the input file, kept while tensors shrink from pass to pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError
from prunec.passes.plan.schema import GroupCut, Step, TensorCut

Index = NDArray[np.int64]
Key = tuple[str, int, tuple[str, ...]]


@dataclass(slots=True)
class Positions:
    """Translates between positions in tensors as they are now and as they were in the input file.

    Attributes:
        gone: per tensor axis the original positions that have been removed so far, ascending.
    """

    gone: dict[Key, Index] = field(default_factory=dict)

    def to_original(self, step: Step) -> Step:
        """A step in terms of the tensors as they are now, rewritten in terms of the input file."""
        return _map_cuts(step, self._original)

    def to_current(self, step: Step) -> Step:
        """The reverse of :meth:`to_original`.

        Raises:
            UserError: the step removes a position that an earlier step removed.
        """
        return _map_cuts(step, self._current)

    def record(self, step: Step) -> None:
        """Note that a step (in terms of the input file) has been made."""
        for cut in (cut for group in step.groups for cut in group.tensors):
            known = self.gone.get(_key(cut), np.zeros(0, np.int64))
            self.gone[_key(cut)] = np.union1d(known, np.array(cut.removed, np.int64))

    def _original(self, cut: TensorCut) -> tuple[int, ...]:
        gone = self.gone.get(_key(cut))
        if gone is None:
            return cut.removed
        current = np.array(cut.removed, np.int64)
        # An original position is the current one plus the removed positions before it.
        return tuple((current + np.searchsorted(gone - np.arange(len(gone)), current, side="right")).tolist())

    def _current(self, cut: TensorCut) -> tuple[int, ...]:
        gone = self.gone.get(_key(cut))
        if gone is None:
            return cut.removed
        original = np.array(cut.removed, np.int64)
        if (twice := np.intersect1d(original, gone)).size:
            raise UserError(f"the plan removes index {twice[0]} of axis {cut.axis} of '{cut.name}' twice")
        return tuple((original - np.searchsorted(gone, original)).tolist())


def _key(cut: TensorCut) -> Key:
    return cut.name, cut.axis, cut.uses


def _map_cuts(step: Step, convert: Callable[[TensorCut], tuple[int, ...]]) -> Step:
    def group(cut: GroupCut) -> GroupCut:
        return replace(cut, tensors=tuple(replace(t, removed=convert(t)) for t in cut.tensors))

    return replace(step, groups=tuple(group(g) for g in step.groups))
