"""Criteria that look at what layers read: Wanda, and SparseGPT, which also updates the weights that stay.

With ``x_j`` what weight column ``j`` is multiplied with, over all calibration samples, Wanda keeps the largest
``|w_ij| * |x_j|_2`` of every output ``i`` (Sun et al., *A Simple and Effective Pruning Approach for Large Language
Models*, 2023, eq. 1). For SparseGPT see :mod:`prunec.passes.sparsity.sparsegpt`. Both say how far the outputs of
each layer move on samples that were held out, and how far magnitude would have moved them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from prunec.passes.calibration.moments import Moments, output_errors
from prunec.passes.sparsity.criteria import Choice, Criterion
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.patterns import NM, Block, Pattern, Unstructured
from prunec.passes.sparsity.sparsegpt import BLOCK, sparsegpt, update_kept
from prunec.passes.sparsity.statistics import LayerStatistics, layer_inputs

if TYPE_CHECKING:
    from prunec.ir.diagnostics import RemarkLog
    from prunec.ir.module import Module
    from prunec.passes.base import Context

Array = NDArray[Any]
Bools = NDArray[np.bool_]


class DataAware(Criterion):
    """A criterion that knows the second moments of what a layer reads.

    Class attributes:
        origin: what its remarks are from.
        diagonal: it needs the norms of the inputs alone.
    """

    origin: ClassVar[str] = "sparsify"
    diagonal: ClassVar[bool] = False

    def __init__(self, statistics: LayerStatistics, remarks: RemarkLog) -> None:
        self._statistics = statistics
        self._remarks = remarks

    @classmethod
    def open(cls, module: Module, layers: Sequence[SparseLayer], context: Context) -> Self:
        """A criterion that will be asked about layers in graph order, each applied before the next."""
        inputs = layer_inputs(layers, context, origin=cls.origin)
        statistics = LayerStatistics(module, layers, inputs, context, diagonal=cls.diagonal)
        return cls(statistics, context.remarks)

    def choose(
        self, layer: SparseLayer, pattern: Pattern, *, ratio: float | None = None, keep: Bools | None = None
    ) -> Choice:
        """Which weights stay.

        By magnitude where what the layer reads cannot be used, or where that is better on held-out samples.
        """
        moments, weights = self._statistics.take(layer), layer.weights()
        plain = Choice(keep=pattern.mask(np.abs(weights), ratio) if keep is None else keep)
        if moments is None or (unfit := _why_unfit(moments.fit)) is not None:
            if moments is not None:
                what = f"`{layer.name}` is judged by magnitude"
                self._remarks.missed(self.origin, what, reason=unfit or "", node=layer.name)
            return plain
        self._note_few_rows(layer, moments.fit)
        choice = self.fit(weights, moments.fit, pattern, ratio, keep)
        if moments.held_out is None:
            return choice
        error, other = output_errors(
            _matrix(weights), [_matrix(_new(layer, c) - weights) for c in (choice, plain)], moments.held_out
        )
        moved = f"outputs on held-out samples move by {error:.1%}, by magnitude {other:.1%}"
        if error > other:
            help = "give more samples" if moments.fit.rows < 10 * _matrix(weights).shape[2] else None
            what = f"`{layer.name}` is judged by magnitude"
            self._remarks.missed(self.origin, what, reason=moved, help=help, node=layer.name)
            return plain
        self._remarks.analysis(self.origin, f"`{layer.name}`: {moved}", node=layer.name)
        return choice

    @abstractmethod
    def fit(
        self, weights: Array, moments: Moments, pattern: Pattern, ratio: float | None, keep: Bools | None
    ) -> Choice:
        """What the criterion makes of the weights of a layer, ``[group, output, position, input]``."""

    def _note_few_rows(self, layer: SparseLayer, moments: Moments) -> None:
        columns = layer.shape[2] * layer.shape[3]
        if not moments.diagonal and moments.rows < columns:
            self._remarks.analysis(
                self.origin,
                f"`{layer.name}`: {moments.rows:,} rows of inputs do not determine {columns:,} columns of weights; "
                "more samples do",
                node=layer.name,
            )


def _why_unfit(moments: Moments) -> str | None:
    """Why the inputs of a layer say nothing about its weights; None where they do."""
    norms = moments.norms()
    if not np.isfinite(norms).all():
        return "its inputs on the samples are too large to be squared"
    return None if norms.any() else "its inputs on the samples are all zero"


class Wanda(DataAware):
    """``|w| * |x|``: a weight times the norm of what it is multiplied with, compared within each output."""

    diagonal: ClassVar[bool] = True

    def fit(
        self, weights: Array, moments: Moments, pattern: Pattern, ratio: float | None, keep: Bools | None
    ) -> Choice:
        """A mask; the weights that stay keep their values."""
        return Choice(keep=wanda_mask(weights, moments, pattern, ratio) if keep is None else keep)


class SparseGPT(DataAware):
    """The least damage to a layer's outputs, the weights that stay making up for those that go."""

    def fit(
        self, weights: Array, moments: Moments, pattern: Pattern, ratio: float | None, keep: Bools | None
    ) -> Choice:
        """A mask and new weights."""
        if moments.diagonal:
            return Choice(keep=wanda_mask(weights, moments, pattern, ratio) if keep is None else keep)
        products, matrix = moments.products(), _matrix(weights)
        if keep is not None:
            return Choice(
                keep=keep, weights=update_kept(matrix, products, _matrix(keep)).reshape(weights.shape)
            )

        def cheapest(costs: Array) -> Bools:
            return pattern.mask(costs[:, :, None], ratio)[:, :, 0]

        new, mask = sparsegpt(matrix, products, cheapest, step=_step(pattern))
        return Choice(keep=mask.reshape(weights.shape), weights=new.reshape(weights.shape))


def wanda_scores(weights: Array, moments: Moments) -> Array:
    """``|w| * |x|`` for weights ``[group, output, position, input]``."""
    groups, _, positions, inputs = weights.shape
    scores: Array = np.abs(weights) * moments.norms().reshape(groups, 1, positions, inputs)
    return scores


def wanda_mask(weights: Array, moments: Moments, pattern: Pattern, ratio: float | None) -> Bools:
    """Which weights stay; an unstructured pattern takes its share from every output."""
    scores = wanda_scores(weights, moments)
    if isinstance(pattern, Unstructured):
        order = np.argsort(_matrix(scores), axis=2, kind="stable")
        scores = np.argsort(order, axis=2, kind="stable").reshape(weights.shape)
    return pattern.mask(scores, ratio)


def _new(layer: SparseLayer, choice: Choice) -> Array:
    """What the weights of a layer become, rounding included."""
    return (
        np.where(choice.keep, layer.weights(), 0) if choice.weights is None else layer.rounded(choice.weights)
    )


def _matrix(weights: Array) -> Array:
    """``[group, output, position * input]``."""
    return weights.reshape(*weights.shape[:2], -1)


def _step(pattern: Pattern) -> int:
    """How many columns a mask is chosen for at a time."""
    match pattern:
        case NM(_, m):
            return m
        case Block(_, columns):
            return max(BLOCK // columns, 1) * columns
    return BLOCK
