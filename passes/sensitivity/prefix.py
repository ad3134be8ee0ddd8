"""What a model computes in front of a place in its graph, kept for all samples while the rest is run again and again.

A *position* is a place between two nodes of the main graph, in graph order. What nodes behind it read of those in
front of it are its *live* values: from them and the graph inputs the rest of the model can be run. Moving from one
position to the next runs only the nodes in between, so that all positions together cost one run of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir
from numpy.typing import NDArray

from prunec.ir.execute import Runner
from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.passes.calibration.data import Feeds
from prunec.passes.calibration.stages import reads_of
from prunec.passes.calibration.stream import bytes_of, runner_between, types_by_name

Array = NDArray[Any]


class LiveValues:
    """The live values of every position of a main graph.

    Args:
        graph: the graph.
        facts: its facts.
    """

    def __init__(self, graph: onnx_ir.Graph, facts: Facts) -> None:
        self.types = types_by_name(facts)
        self._made: dict[onnx_ir.Value, int] = {}
        self._read: dict[onnx_ir.Value, int] = {}
        for position, node in enumerate(graph):
            self._made |= {value: position for value in node.outputs if value not in facts.constant}
            self._read |= {value: position for value in reads_of(node) if value in self._made}
        end = len(graph)
        self._read |= {value: end for value in graph.outputs if value in self._made}

    def at(self, position: int) -> tuple[str, ...] | None:
        """Names of the live values in front of a node, in graph order; None where one of them is no tensor of a
        known type.
        """
        names = [v.name or "" for v, last in self._read.items() if self._made[v] < position <= last]
        return tuple(names) if all(name in self.types for name in names) else None


class Prefix:
    """The live values of one position for as many runs of the samples as memory allows.

    Args:
        module: the model as it is.
        feeds: the samples.
        live: its live values.
        memory: bytes that the values of one position may take; runs that do not fit begin at the graph's inputs.
    """

    def __init__(self, module: Module, feeds: Feeds, live: LiveValues, *, memory: int) -> None:
        self._module = module
        self._feeds = feeds
        self._live = live
        self._memory = memory
        self._kept: dict[int, dict[str, Array]] = {}
        self.names: tuple[str, ...] = ()

    def move(self, position: int) -> None:
        """Go on to a position further behind; one whose live values cannot be kept is as good as the beginning."""
        names = self._live.at(position) or ()
        if names == self.names:
            return
        self.names = names
        before, self._kept = self._kept, {}
        runners: dict[tuple[str, ...], Runner] = {}
        capacity = len(self._feeds) if names else 0
        for number in range(len(self._feeds)):
            if number >= capacity:
                break
            self._kept[number] = self._values(number, before.pop(number, {}), runners)
            if number == 0:
                capacity = min(capacity, self._memory // max(bytes_of(self._kept[0]), 1))
        if not capacity:
            self._kept.clear()

    def of(self, run: int) -> Mapping[str, Array]:
        """The live values of a run; nothing for one that has to begin at the graph's inputs."""
        return self._kept.get(run, {})

    def _values(
        self, number: int, known: dict[str, Array], runners: dict[tuple[str, ...], Runner]
    ) -> dict[str, Array]:
        values = self._feeds[number] | known
        missing = [name for name in self.names if name not in values]
        cut = tuple(known)
        if missing and cut not in runners:
            runners[cut] = runner_between(self._module, cut, missing, self._live.types, threads=1)
        if missing:
            values |= runners[cut].run(values)
        return {name: values[name] for name in self.names}
