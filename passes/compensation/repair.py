"""Fits layer after layer of a pruned model to the model before the cut, and writes what is found into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.dialect import dialect_of
from prunec.ir.module import Module
from prunec.passes.base import Context
from prunec.passes.calibration.data import Feeds
from prunec.passes.calibration.moments import ROOM, Moments, bytes_of_products
from prunec.passes.calibration.packing import Holding
from prunec.passes.calibration.stages import Watched
from prunec.passes.calibration.stream import Stream, Values
from prunec.passes.compensation.fit import (
    RIDGES,
    Change,
    ResidualMoments,
    absorb,
    error,
    reconstruct,
)
from prunec.passes.compensation.targets import Target, anchors
from prunec.passes.compensation.writing import LayerWriter
from prunec.passes.uncut import Uncut

Array = NDArray[Any]

LARGEST = 1 << 30
"""Bytes of the products of one layer's columns; of wider layers only the bias is fitted."""
NOISE = 1e-12
"""A squared error below this share of the squared outputs is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Moments of the samples that are fitted to, and of those that judge."""

    fit: ResidualMoments
    held_out: ResidualMoments


@dataclass(slots=True, kw_only=True)
class Repair:
    """One run over the targets, in graph order.

    Attributes:
        module: the pruned module, changed in place.
        uncut: the model before the cut.
        targets: the layers to fit.
        context: has the data, and takes the remarks.
        origin: who makes the remarks.
        method: ``bias`` or ``lstsq``.
        ridge: share of the mean variance of the inputs; None: of several the one that held-out samples like best.
        fitted: how many layers were changed.
    """

    module: Module
    uncut: Uncut
    targets: Sequence[Target]
    context: Context
    origin: str
    method: Literal["bias", "lstsq"]
    ridge: float | None
    fitted: int = 0

    def run(self) -> Mapping[str, onnx_ir.TensorProtocol]:
        """Fit and write every layer, each before the next stage is run.

        Returns:
            Per tensor with new numbers, by name, those with which the model computes what it did.
        """
        assert self.context.data is not None, "the manager sees to it"
        feeds = self.context.data.bind(self.module)
        facts = self.context.analyses.facts()
        before = dialect_of(self.uncut.module.model).facts(self.uncut.module.model)
        sources = list(anchors(self.uncut, list(self.targets)))
        watched: Watched = {t.node: (t.source.value, t.value) for t in self.targets}
        holding = {target.node: self._holding(target) for target in self.targets}
        now = Stream(self.module, watched, feeds, facts, holding=holding, room=ROOM)
        holding = {node: holding[t.node] for (node, _), t in zip(sources, self.targets, strict=True)}
        watched = {node: (value,) for node, value in sources}
        then = Stream(self.uncut.module, watched, feeds, before, holding=holding, room=ROOM)
        by_node = {target.node: target for target in self.targets}
        writer = LayerWriter(self.module.model)
        for stage, other in zip(now.stages, then.stages, strict=True):
            mine = [by_node[node] for node in stage.layers]
            runs = zip(now.runs(stage), then.runs(other), strict=True)
            self._fit(mine, ((number, new, old) for (number, new), (_, old) in runs), feeds, writer)
        return writer.restored

    def _fit(
        self,
        targets: Sequence[Target],
        runs: Iterator[tuple[int, Values, Values]],
        feeds: Feeds,
        writer: LayerWriter,
    ) -> None:
        """Fit and write layers that need nothing of each other."""
        pairs = self._observe(targets, runs, feeds)
        for target, pair in zip(targets, pairs, strict=True):
            if (change := self._chosen(target, pair)) is None:
                continue
            if writer.write(target, change):
                self.fitted += 1
            else:
                self._leave(target, f"what it needs is too large for {target.layer.dtype.short_name()}")

    def _holding(self, target: Target) -> Holding:
        """Bytes that are held for a layer, of the samples that are fitted to and of those that judge."""
        groups, columns, diagonal = self._extent(target)
        shared = bytes_of_products(groups, columns, diagonal=diagonal, itemsize=8)
        cross = 0 if diagonal else 8 * groups * columns * target.layer.shape[1]
        return {target.source.key: 2 * shared, target.node: 2 * cross}

    def _observe(
        self, targets: Sequence[Target], runs: Iterator[tuple[int, Values, Values]], feeds: Feeds
    ) -> list[_Pair]:
        """The moments of a stage's layers; layers that read the same in the same way share those of inputs."""
        inputs = {target.source.key: (self._inputs(target), self._inputs(target)) for target in targets}
        pairs = [self._pair(target, *inputs[target.source.key]) for target in targets]
        for number, new, old in runs:
            fitting = number < feeds.fitting
            for key, sides in inputs.items():
                readers = [(t, p) for t, p in zip(targets, pairs, strict=True) if t.source.key == key]
                self._add(readers, sides[not fitting], new, old, fitting=fitting)
        return pairs

    def _add(
        self,
        readers: Sequence[tuple[Target, _Pair]],
        inputs: Moments,
        new: Values,
        old: Values,
        *,
        fitting: bool,
    ) -> None:
        """Add one run to the moments of layers that read the same."""
        residuals = []
        for target, pair in readers:
            expected = target.expected(old[target.value.name or ""])
            residuals.append(target.rows(expected - new[target.value.name or ""].astype(np.float32)))
            (pair.fit if fitting else pair.held_out).size += float(
                np.square(expected, dtype=np.float64).sum()
            )
        source, start = readers[0][0].source, 0
        for rows in source.pieces(new[source.name]):
            inputs.add(rows)
            part = slice(start, start := start + rows.shape[1])
            for (_, pair), residual in zip(readers, residuals, strict=True):
                (pair.fit if fitting else pair.held_out).add(rows, residual[:, part])

    def _inputs(self, target: Target) -> Moments:
        groups, columns, diagonal = self._extent(target)
        return Moments(groups, columns, diagonal=diagonal, dtype=np.float64)

    def _extent(self, target: Target) -> tuple[int, int, bool]:
        """Groups and columns of a layer, and whether only its bias is fitted."""
        groups, _, positions, inputs = target.layer.shape
        columns = positions * inputs
        wide = bytes_of_products(groups, columns, diagonal=False, itemsize=8) > LARGEST
        return groups, columns, wide or self.method == "bias"

    def _pair(self, target: Target, fit: Moments, held_out: Moments) -> _Pair:
        outputs = target.layer.shape[1]
        return _Pair(fit=ResidualMoments(fit, outputs), held_out=ResidualMoments(held_out, outputs))

    def _chosen(self, target: Target, pair: _Pair) -> Change | None:
        """The change that held-out samples like best; None where they like none, or where nothing is missing."""
        size = max(pair.held_out.size, np.finfo(float).tiny)
        if not np.isfinite([pair.fit.squares, pair.held_out.squares, size]).all():
            self._leave(target, "its inputs or outputs on the samples are not all finite")
            return None
        if pair.fit.squares <= NOISE * pair.fit.size and pair.held_out.squares <= NOISE * size:
            return None
        best = absorb(pair.fit)
        new, old = error(best, pair.held_out), error(None, pair.held_out)
        if not pair.fit.inputs.diagonal:
            for change in reconstruct(pair.fit, RIDGES if self.ridge is None else [self.ridge]):
                if (left := error(change, pair.held_out)) < new:
                    best, new = change, left
        off = f"off by {np.sqrt(old / size):.1%} on held-out samples"
        if new >= old:
            self._leave(
                target, f"{off}, and {np.sqrt(new / size):.1%} with the best fit", help="give more samples"
            )
            return None
        how = "bias" if best.weights is None else f"weights and bias, ridge {best.ridge:g}"
        self.context.remarks.analysis(
            self.origin,
            f"`{target.layer.name}`: outputs were {off}, and are by {np.sqrt(new / size):.1%} ({how})",
            node=target.layer.name,
        )
        return best

    def _leave(self, target: Target, reason: str, help: str | None = None) -> None:
        what = f"`{target.layer.name}` keeps its weights"
        self.context.remarks.missed(self.origin, what, reason=reason, help=help, node=target.layer.name)
