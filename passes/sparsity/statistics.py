"""Second moments of what sparse layers read, from calibration data, layer by layer in graph order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir

from prunec.ir.module import Module
from prunec.passes.base import Context
from prunec.passes.calibration.data import Feeds
from prunec.passes.calibration.moments import ROOM, Moments, bytes_of_products
from prunec.passes.calibration.stages import Stage
from prunec.passes.calibration.stream import Stream
from prunec.passes.sparsity.layer import SparseLayer
from prunec.passes.sparsity.rows import LayerInput, NoRows, layer_input

LARGEST = 1 << 30
"""Bytes of the products of one layer's columns; of wider layers only the squares are added up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMoments:
    """What is known of the inputs of one layer.

    Attributes:
        fit: of the samples that weights are fitted to.
        held_out: of the samples that the result is judged by; None where the layer is too wide for it, or where
            nothing is judged.
    """

    fit: Moments
    held_out: Moments | None


def layer_inputs(
    layers: Sequence[SparseLayer], context: Context, *, origin: str
) -> dict[onnx_ir.Node, LayerInput]:
    """What layers read, by node; a remark for every layer whose inputs cannot be used."""
    inputs, facts = {}, context.analyses.facts()
    for layer in layers:
        try:
            inputs[layer.node] = layer_input(layer, facts)
        except NoRows as why:
            context.remarks.missed(
                origin, f"`{layer.name}` is judged by magnitude", reason=str(why), node=layer.name
            )
    return inputs


class LayerStatistics:
    """The moments of layers, each taken when those of all layers before it have been used and applied.

    Args:
        module: the module, which changes meanwhile.
        layers: the layers, in graph order.
        inputs: what they read (see :func:`layer_inputs`); layers that are not among them have no moments.
        context: has the data and the analyses.
        diagonal: squares alone are wanted of the samples to fit to.
        judged: hold samples out.
    """

    def __init__(
        self,
        module: Module,
        layers: Sequence[SparseLayer],
        inputs: Mapping[onnx_ir.Node, LayerInput],
        context: Context,
        *,
        diagonal: bool = False,
        judged: bool = True,
    ) -> None:
        assert context.data is not None, "the manager sees to it"
        self.feeds: Feeds = context.data.bind(module)
        self._diagonal, self._judged = diagonal, judged
        self._shapes = {layer.node: layer.shape for layer in layers}
        self._inputs = {node: inputs[node] for node in self._shapes if node in inputs}
        watched = {node: [source.value] for node, source in self._inputs.items()}
        holding = {node: {source.key: self._size(node)} for node, source in self._inputs.items()}
        self._stream = Stream(
            module, watched, self.feeds, context.analyses.facts(), holding=holding, room=ROOM
        )
        self._stages: Iterator[Stage] = iter(self._stream.stages)
        self._moments: dict[onnx_ir.Node, LayerMoments] = {}

    def take(self, layer: SparseLayer) -> LayerMoments | None:
        """The moments of a layer, once; None where its inputs cannot be used."""
        while layer.node in self._inputs and layer.node not in self._moments:
            self._moments.clear()  # before there are others
            self._moments = self._run(next(self._stages))
        return self._moments.pop(layer.node, None)

    def _run(self, stage: Stage) -> dict[onnx_ir.Node, LayerMoments]:
        """The moments of a stage's layers; layers that read the same in the same way share them."""
        shared = {self._inputs[node].key: (self._inputs[node], self._new(node)) for node in stage.layers}
        for run, values in self._stream.runs(stage):
            for source, moments in shared.values():
                target = moments.held_out if self._judged and run >= self.feeds.fitting else moments.fit
                if target is not None:
                    for rows in source.pieces(values[source.name]):
                        target.add(rows)
        return {node: shared[self._inputs[node].key][1] for node in stage.layers}

    def _new(self, node: onnx_ir.Node) -> LayerMoments:
        groups, columns, wide = _extent(self._shapes[node])
        return LayerMoments(
            fit=Moments(groups, columns, diagonal=wide or self._diagonal),
            held_out=None if wide or not self._judged else Moments(groups, columns),
        )

    def _size(self, node: onnx_ir.Node) -> int:
        """Bytes of what :meth:`_new` makes."""
        groups, columns, wide = _extent(self._shapes[node])
        fit = bytes_of_products(groups, columns, diagonal=wide or self._diagonal, itemsize=4)
        judged = self._judged and not wide
        return fit + (bytes_of_products(groups, columns, diagonal=False, itemsize=4) if judged else 0)


def _extent(shape: tuple[int, int, int, int]) -> tuple[int, int, bool]:
    """Groups and columns of a layer, and whether these are too many for their products."""
    groups, _, positions, inputs = shape
    columns = positions * inputs
    return groups, columns, bytes_of_products(groups, columns, diagonal=False, itemsize=4) > LARGEST
