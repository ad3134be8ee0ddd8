"""The axes of a stored weight, and the one form in which algorithms see it: ``[group, output, position, input]``.

- *group*: what the op computes side by side with weights of their own (the groups of a convolution, the batch
  axes of a matrix product);
- *output*: output channels (of one group);
- *position*: positions of the kernel;
- *input*: input channels (of one group), the axis that the op sums over and along which N:M patterns run.

A kind that a weight does not have is an axis of size 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from prunec.ir.rule import Operand

Array = NDArray[Any]
Kind = Literal["group", "output", "position", "input"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLayout:
    """What the axes of a stored weight are.

    Attributes:
        terms: per axis the factors that it is the product of, outermost first; none for an axis of size 1.
        sizes: of the factors.
        kinds: of the factors.
    """

    terms: Operand
    sizes: Mapping[str, int]
    kinds: Mapping[str, Kind]

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the weight as it is stored."""
        return tuple(prod(self.sizes[f] for f in term) for term in self.terms)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Numbers of groups, of output channels of a group, of kernel positions, of input channels of a group."""
        groups, outputs, positions, inputs = (
            prod(self.sizes[f] for f in self._factors if self.kinds[f] == kind) for kind in KINDS
        )
        return groups, outputs, positions, inputs

    @property
    def signature(self) -> tuple[tuple[tuple[Kind, int], ...], ...]:
        """The same for weights whose axes mean the same, whatever the factors are called."""
        return tuple(tuple((self.kinds[f], self.sizes[f]) for f in term) for term in self.terms)

    def axes(self, kind: Kind) -> tuple[int, ...]:
        """The stored axes that hold a kind, alone or in a product with another one."""
        return tuple(a for a, term in enumerate(self.terms) if any(self.kinds[f] == kind for f in term))

    def unfold(self, stored: Array) -> Array:
        """A stored array as ``[group, output, position, input]``; a view wherever numpy can make one."""
        split = stored.reshape([self.sizes[f] for f in self._factors])
        return split.transpose(self._order).reshape(self.shape)

    def fold(self, array: Array) -> Array:
        """The reverse of :meth:`unfold`."""
        factors = self._factors
        split = array.reshape([self.sizes[factors[i]] for i in self._order])
        return split.transpose(np.argsort(self._order)).reshape(self.stored_shape)

    @property
    def _factors(self) -> list[str]:
        return [f for term in self.terms for f in term]

    @property
    def _order(self) -> list[int]:
        """Places of the factors, sorted by kind, each kind in the order in which it is stored."""
        factors = self._factors
        return [i for kind in KINDS for i, f in enumerate(factors) if self.kinds[f] == kind]
