"""What makes a weight worth keeping: one class a criterion, by name.

A criterion is opened once for a run and asked layer by layer, in graph order. What it chose for one layer is
applied before it is asked about the next, so that a criterion that looks at activations sees those of the
sparsified prefix.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.patterns import Pattern

if TYPE_CHECKING:
    from prunec.ir.module import Module
    from prunec.passes.base import Context

Array = NDArray[Any]
Bools = NDArray[np.bool_]

CRITERIA: Mapping[str, str] = {
    "magnitude": "prunec.passes.sparsity.criteria:Magnitude",
    "sparsegpt": "prunec.passes.sparsity.data_aware:SparseGPT",
    "wanda": "prunec.passes.sparsity.data_aware:Wanda",
}
"""Name to ``module:Class``; nothing is imported before it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a criterion makes of one layer.

    Attributes:
        keep: which weights stay, ``[group, output, position, input]``.
        weights: new values of all weights, zero where they do not stay; None where those that stay keep
            theirs to the last bit.
    """

    keep: Bools
    weights: Array | None = None


class Criterion(ABC):
    """Chooses the weights of layers that stay."""

    @classmethod
    def open(cls, module: Module, layers: Sequence[SparseLayer], context: Context) -> Self:
        """A criterion for the layers of a module, before any of them is changed.

        Args:
            module: the module, which changes while the criterion is in use.
            layers: the layers that it will be asked about, in this order.
            context: what the pass may use.
        """
        del module, layers, context
        return cls()

    @abstractmethod
    def choose(
        self, layer: SparseLayer, pattern: Pattern, *, ratio: float | None = None, keep: Bools | None = None
    ) -> Choice:
        """Which weights of a layer stay, and their new values where those change.

        Args:
            layer: a layer whose shape fits the pattern.
            pattern: of the zeros.
            ratio: share of the weights that go, where the pattern leaves it open.
            keep: the mask of an earlier plan, to be taken as it is.
        """


class Scoring(Criterion):
    """A criterion that scores every weight, in a unit that is the same for all layers."""

    @abstractmethod
    def scores(self, layer: SparseLayer) -> Array:
        """Importance of every weight, at least 0, ``[group, output, position, input]``."""

    def choose(
        self, layer: SparseLayer, pattern: Pattern, *, ratio: float | None = None, keep: Bools | None = None
    ) -> Choice:
        """The weights of the highest scores that the pattern allows."""
        return Choice(keep=pattern.mask(self.scores(layer), ratio) if keep is None else keep)


class Magnitude(Scoring):
    """``|w|``, of quantised weights that of the numbers they stand for."""

    def scores(self, layer: SparseLayer) -> Array:
        """Absolute values."""
        return np.abs(layer.weights())


def load_criterion(name: str) -> type[Criterion]:
    """The class of a criterion in the table."""
    module, _, attribute = CRITERIA[name].partition(":")
    return cast(type[Criterion], getattr(importlib.import_module(module), attribute))
