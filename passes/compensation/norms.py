"""Batch norms of a model and what their statistics are on data, each with inputs from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.passes.calibration.data import Feeds
from prunec.passes.calibration.stream import Stream
from prunec.passes.folding.algebra import CannotFold
from prunec.passes.folding.constants import Constants

Array = NDArray[Any]
Floats = NDArray[np.float64]

MEAN, VARIANCE = 3, 4
"""Positions of the statistics among the inputs of BatchNormalization."""


@dataclass(slots=True)
class ChannelStatistics:
    """Mean and variance of every channel, run by run (Chan, Golub and LeVeque, 1983, eq. 2.1).

    Attributes:
        count: values of a channel so far.
        mean: [channel].
        squares: sum of the squared distances from the mean, [channel].
    """

    count: int
    mean: Floats
    squares: Floats

    @classmethod
    def empty(cls, channels: int) -> ChannelStatistics:
        """Of no values."""
        return cls(0, np.zeros(channels), np.zeros(channels))

    def add(self, values: Array) -> None:
        """Add values, [samples, channels, ...]."""
        columns = np.moveaxis(values.astype(np.float64), 1, 0).reshape(values.shape[1], -1)
        count, mean = columns.shape[1], columns.mean(axis=1)
        total, distance = self.count + count, mean - self.mean
        self.squares += columns.var(axis=1) * count + np.square(distance) * self.count * count / total
        self.mean += distance * count / total
        self.count = total

    @property
    def variance(self) -> Floats:
        """Of the population, [channel]."""
        return self.squares / max(self.count, 1)


class NotFixed(Exception):
    """Why a batch norm has no statistics that could be written; the message is for people."""


def check_norm(node: onnx_ir.Node, constants: Constants) -> None:
    """See that a norm has fixed statistics.

    Raises:
        NotFixed: it has not.
    """
    if node.attributes.get_int("training_mode", 0):
        raise NotFixed("it takes its statistics from every batch")
    try:
        for position in (MEAN, VARIANCE):
            constants.tensor(node.inputs[position])
    except CannotFold as why:
        raise NotFixed(why.reason) from why


@dataclass(slots=True, kw_only=True)
class Recalibration:
    """One run over the batch norms of a module.

    Attributes:
        module: the module, changed in place.
        norms: the norms, in graph order.
        feeds: the samples; all of them count.
        facts: of the module.
    """

    module: Module
    norms: Sequence[onnx_ir.Node]
    feeds: Feeds
    facts: Facts

    def run(self) -> tuple[dict[str, onnx_ir.TensorProtocol], dict[onnx_ir.Node, float]]:
        """Measure and write the statistics, norm by norm.

        Returns:
            Per tensor with new numbers the old ones; and per norm how far its means move at most, in old standard
            deviations.
        """
        data = {node: node.inputs[0] for node in self.norms}
        stream = Stream(
            self.module, {n: (v,) for n, v in data.items() if v is not None}, self.feeds, self.facts
        )
        constants = Constants(self.module.model)
        restored: dict[str, onnx_ir.TensorProtocol] = {}
        moved: dict[onnx_ir.Node, float] = {}
        for stage in stream.stages:
            found = {node: self._empty(node, constants) for node in stage.layers}
            for _, values in stream.runs(stage):
                for node, statistics in found.items():
                    statistics.add(values[getattr(data[node], "name", "")])
            for node, statistics in found.items():
                deviation = np.sqrt(constants.read(node.inputs[VARIANCE]) + 1e-12)
                distance = np.abs(statistics.mean - constants.read(node.inputs[MEAN])) / deviation
                moved[node] = float(distance.max(initial=0))
                restored |= self._write(node, MEAN, statistics.mean, constants)
                restored |= self._write(node, VARIANCE, statistics.variance, constants)
        return restored, moved

    def _empty(self, node: onnx_ir.Node, constants: Constants) -> ChannelStatistics:
        return ChannelStatistics.empty(constants.read(node.inputs[MEAN]).size)

    def _write(
        self, node: onnx_ir.Node, position: int, numbers: Floats, constants: Constants
    ) -> dict[str, onnx_ir.TensorProtocol]:
        """Put new numbers into an input; the tensor that has them, and the numbers that it stands for."""
        old = constants.tensor(node.inputs[position])
        constants.replace(node, position, numbers.astype(old.dtype.numpy()))
        value = node.inputs[position]
        assert value is not None
        return {value.name or "": onnx_ir.tensor(old.numpy(), name=value.name)}
