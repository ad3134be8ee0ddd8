"""Reshapes and transposes in closed form: every axis as a product of atoms.

A reshape regroups the row-major order of elements; where the boundaries of the two shapes have a common
refinement, it only regroups *atoms* (``768 -> 12 64`` splits one axis into two atoms, ``8 4 4 -> 128`` joins
three). A transpose permutes axes. Any chain of both is therefore described exactly by the atoms of the first
and of the last shape, as ``n (a b) h -> n (b a) h`` (a channel shuffle), without touching one element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunec.ir.rule import Rule


@dataclass(slots=True)
class Layout:
    """The atoms of a tensor followed through reshapes and transposes.

    Attributes:
        sizes: size of every atom, by number.
        source: per axis of the first shape its atoms, outermost first.
        current: the same for the shape reached so far.
    """

    sizes: list[int]
    source: list[list[int]]
    current: list[list[int]]

    @classmethod
    def of(cls, shape: Sequence[int]) -> Layout:
        """The layout of a tensor of ``shape`` before anything happened to it: one atom an axis (none for size
        1).
        """
        axes = [[] if size == 1 else [axis] for axis, size in enumerate(shape)]
        return cls(list(shape), [list(a) for a in axes], [list(a) for a in axes])

    def transpose(self, permutation: Sequence[int]) -> None:
        """Reorder the current axes."""
        self.current = [self.current[axis] for axis in permutation]

    def reshape(self, shape: Sequence[int]) -> bool:
        """Regroup the current axes into ``shape``; False (and unchanged) without a common refinement."""
        saved = list(self.sizes), [list(a) for a in self.source], [list(a) for a in self.current]
        flat = [atom for axis in self.current for atom in axis]
        result: list[list[int]] = []
        for size in shape:
            taken = self._take(flat, size)
            if taken is None:
                self.sizes, self.source, self.current = saved
                return False
            result.append(taken)
        if flat:
            self.sizes, self.source, self.current = saved
            return False
        self.current = result
        return True

    def _take(self, flat: list[int], size: int) -> list[int] | None:
        """Take atoms of product ``size`` from the front of ``flat``, splitting the last one where needed."""
        taken: list[int] = []
        while size > 1:
            if not flat:
                return None
            atom = flat[0]
            if size % self.sizes[atom] and self.sizes[atom] % size:
                return None
            if self.sizes[atom] > size:
                self._split(atom, size, flat)
            taken.append(flat.pop(0))
            size //= self.sizes[taken[-1]]
        return taken

    def _split(self, atom: int, outer: int, flat: list[int]) -> None:
        """Split ``atom`` into (outer, inner) wherever it stands."""
        inner = len(self.sizes)
        self.sizes.append(self.sizes[atom] // outer)
        self.sizes[atom] = outer
        flat.insert(1, inner)
        for axes in (self.source, self.current):
            for axis in axes:
                if atom in axis:
                    axis.insert(axis.index(atom) + 1, inner)

    def rule(self, extra_inputs: int = 0) -> Rule:
        """The coupling between the first and the current shape.

        Args:
            extra_inputs: how many further inputs the op has that carry no data (a reshape's shape operand).
        """
        used = [atom for axis in self.source for atom in axis]
        names = {atom: _name(i) for i, atom in enumerate(used)}
        source, current = (
            tuple(tuple(names[atom] for atom in axis) for axis in axes)
            for axes in (self.source, self.current)
        )
        return Rule(
            inputs=(source, *[None] * extra_inputs),
            outputs=(current,),
            sizes={names[atom]: self.sizes[atom] for atom in used},
        )

    def rejoined(self) -> bool:
        """Whether every axis stands where it stood with the atoms it had, at least one of them in another
        order.
        """
        same_place = len(self.source) == len(self.current) and all(
            sorted(a) == sorted(b) for a, b in zip(self.source, self.current, strict=True)
        )
        return same_place and self.source != self.current


def _name(position: int) -> str:
    return chr(ord("a") + position) if position < 26 else f"f{position}"
