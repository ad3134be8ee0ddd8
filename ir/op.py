"""The semantics of an op family: what passes may ask of an op without knowing which op it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from prunec.ir.rule import Index, Rule
from prunec.ir.site import Site

Role = Literal["weight", "bias", "scale", "statistic", "operand"]


class Cut(Protocol):
    """What a rewrite asks about a cut that is being made at one node."""

    def size(self, operand: tuple[str, int], axis: int) -> int:
        """New size of an axis of an operand."""

    def kept(self, operand: tuple[str, int], axis: int) -> Index | None:
        """Slots of an axis that stay, ascending; None where the axis is not cut."""

    def factor(self, name: str) -> int:
        """New size of a factor of the node's rule."""

    def set_input(self, position: int, array: NDArray[Any]) -> None:
        """Replace an input of the node by a new constant."""

    def patch_input(
        self, position: int, sizes: NDArray[np.int64], dynamic: NDArray[np.bool_], old: NDArray[np.int64]
    ) -> None:
        """Overwrite the entries of a computed shape operand that are not dynamic; dynamic ones shrink from
        ``old`` to ``sizes``.
        """

    def follows_cut(self, position: int) -> bool:
        """Whether an input is computed from the size of an axis that is being cut, here or elsewhere."""

    def set_attributes(self, values: Mapping[str, list[int] | None]) -> None:
        """Replace attributes by lists of integers; None takes an attribute away."""

    def set_numbers(self, values: Mapping[str, int]) -> None:
        """Replace integer attributes."""

    def gather(self, vectors: Mapping[int, Index], *, instead: bool) -> None:
        """Gather from the first input, ``instead`` of the node or in front of it: per axis the slots of the cut
        input to take, in order.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Op(ABC):
    """Base of all op families.

    Attributes:
        roles: what a constant at an input position is to the op (``operand`` where not listed).
        linear: the op sums products over its reduced factors, so that zeroed weight slices remove their
            contribution exactly.
        statistic: it also takes a statistic over them, such as the range of a dynamic quantisation, so that
            they do not.
        contested: the slots of its reduced factors share one sum, so that the others gain what one that goes had
            (softmax), and none may go.
        zeroed: input positions whose removed slices the masked reference sets to zero; other constants keep
            their values there (a zero divisor or a zero variance would make the reference infinite).
        uncounted: factors that do not multiply the work, such as the input positions of a convolution
            (``s``), which its output positions already count.
        parallel: factors that the op computes side by side, such as attention heads, separated by spaces.
        transparent: output 0 holds the elements of input 0 one for one, perhaps of another type or with axes
            in another order, and a zero stays a zero.
        attributes: integer attributes that hold the size of a factor, such as ``group``.
        uniform: an axis of the output that no input has holds the same in every slot.
        shape_input: position of an input that holds the shape of output 0, or None.
    """

    roles: Mapping[int, Role] = field(default_factory=dict)
    linear: bool = False
    statistic: bool = False
    contested: bool = False
    zeroed: frozenset[int] = frozenset()
    uncounted: str = ""
    parallel: str = ""
    transparent: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    uniform: bool = False
    shape_input: int | None = None

    @abstractmethod
    def rule(self, site: Site) -> Rule:
        """How the axes of the node's operands are coupled.

        Raises:
            RuleError: the node does not have the form that the family describes, or a shape is unknown.
        """

    def role(self, position: int) -> Role:
        """What a constant at an input position is to the op."""
        return self.roles.get(position, "operand")

    def exact(self, rule: Rule, factor: str, constants: Iterable[int]) -> bool:
        """Whether zeros in one of the node's constants (by position) take a removed slot of a reduced factor
        out of what the op sums.
        """
        weights = (rule.inputs[i] or () for i in constants if i in self.zeroed)
        return self.linear and not self.statistic and any(factor in term for w in weights for term in w)

    def zero(self, site: Site, position: int) -> NDArray[Any]:
        """What a removed slice of a constant holds in the masked reference (it broadcasts)."""
        del site, position
        return np.zeros(())

    def step(self, site: Site, position: int) -> NDArray[Any]:
        """What one step of a constant's numbers is worth, counted from its zero (it broadcasts)."""
        del site, position
        return np.ones(())

    def real(self, site: Site, position: int) -> NDArray[Any] | None:
        """The numbers that a constant stands for, where those are not the ones that it holds (quantised
        weights); None elsewhere. Axes that can be cut keep their places.
        """
        del site, position
        return None

    def macs(self, rule: Rule) -> int:
        """Multiply-accumulates of one execution: the product of all factors of a contraction, 0 for
        everything else.
        """
        if not self.linear or not rule.reduced:
            return 0
        return prod(n for f, n in rule.sizes.items() if f.rstrip("0123456789") != self.uncounted)

    def rewrite(self, site: Site, cut: Cut) -> None:
        """Adapt attributes and shape operands of a node whose axes are being cut."""
        numbers = {a: cut.factor(f) for a, f in self.attributes.items() if a in site.attributes}
        cut.set_numbers(numbers)
        if self.shape_input is not None and site.has(self.shape_input):
            self._rewrite_shape(site, cut, self.shape_input)

    def _rewrite_shape(self, site: Site, cut: Cut, position: int) -> None:
        """Bring a shape operand up to date: dynamic entries stay as they are written or computed, the others
        become numbers.
        """
        output = site.node.outputs[0]
        axes = range(len(site.output_shape()))
        if all(cut.kept(("out", 0), axis) is None for axis in axes) and not cut.follows_cut(position):
            return
        sizes = np.array([cut.size(("out", 0), axis) for axis in axes], np.int64)
        dynamic = np.isin(axes, list(site.facts.dynamic.get(output, ())))
        old = np.array(site.output_shape(), np.int64)
        at = self.shape_axes(site)
        written = site.number(position)
        if written is not None:
            cut.set_input(position, np.where(dynamic[at], written, sizes[at]))
        elif not dynamic.any():
            cut.set_input(position, sizes[at])
        else:
            cut.patch_input(position, sizes[at], dynamic[at], old[at])

    def shape_axes(self, site: Site) -> list[int]:
        """The axis of output 0 that every entry of the shape operand is about."""
        return list(range(len(site.output_shape())))
