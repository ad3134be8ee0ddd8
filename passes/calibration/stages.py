"""In what order layers can be changed so that each one is fitted to what the changed layers before it compute.

Neighbours in graph order that do not depend on each other form a *stage* (the projections of query, key and value of a
block, say). The stages of layers never fall in graph order, so that whoever changes layers in that order has changed
all of the earlier stages. The *depth* of a value is the first stage at which it can be computed for good.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir

from prunec.ir.scopes import walk
from prunec.passes.calibration.packing import Holding, packed

Watched = Mapping[onnx_ir.Node, Sequence[onnx_ir.Value]]
"""Layers, each with the values that it is fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Layers that read what earlier stages compute, and nothing of each other.

    Attributes:
        number: from 0; parts of one stage that does not fit into memory have the same.
        layers: nodes, in graph order.
        reads: names of the values that the layers are fitted to, each once.
        keeps: names of the values that are known by now and that later stages need; graph inputs are no part
            of it.
    """

    number: int
    layers: tuple[onnx_ir.Node, ...]
    reads: tuple[str, ...]
    keeps: tuple[str, ...]


def find_stages(
    graph: onnx_ir.Graph, layers: Watched, constant: Collection[onnx_ir.Value]
) -> tuple[Stage, ...]:
    """The stages of a graph, in order.

    Args:
        graph: the main graph.
        layers: the layers that change, each with the values that it is fitted to: what it reads, or what can be
            computed from what it writes before later layers have changed.
        constant: values that depend on no graph input; they are computed anew wherever they are read.
    """
    depths = find_depths(graph, layers, constant)
    last = _last_use(depths, _needed(depths, layers, constant))
    stages = []
    for number in sorted({depths.before[node] for node in layers}):
        mine = [node for node in graph if node in layers and depths.before[node] == number]
        keeps = (value.name or "" for value, end in last.items() if depths.values[value] <= number < end)
        stages.append(
            Stage(number=number, layers=tuple(mine), reads=_names(mine, layers), keeps=tuple(keeps))
        )
    return tuple(stages)


@dataclass(frozen=True, slots=True)
class Depths:
    """At which stage values and nodes can be computed for good.

    Attributes:
        values: of every value that depends on an input.
        before: of every node, what it reads; of a layer, its stage.
        reads: of every node in graph order the values that it, or a graph inside it, reads.
        layers: the nodes that change.
    """

    values: dict[onnx_ir.Value, int]
    before: dict[onnx_ir.Node, int]
    reads: dict[onnx_ir.Node, tuple[onnx_ir.Value, ...]]
    layers: Collection[onnx_ir.Node]

    def after(self, node: onnx_ir.Node) -> int:
        """The depth of what a node computes."""
        return self.before[node] + (node in self.layers)


def find_depths(
    graph: onnx_ir.Graph, layers: Collection[onnx_ir.Node], constant: Collection[onnx_ir.Value]
) -> Depths:
    """The depths of a graph's values, given the layers that change."""
    values = {value: 0 for value in graph.inputs if value.name not in graph.initializers}
    depths, stage = Depths(values, {}, {}, layers), 0
    for node in graph:
        depths.reads[node] = tuple(reads_of(node))
        depth = max((values.get(value, 0) for value in depths.reads[node]), default=0)
        if node in layers:
            depth = stage = max(depth, stage)
        depths.before[node] = depth
        values |= {value: depths.after(node) for value in node.outputs if value not in constant}
    return depths


def divided(
    stage: Stage, layers: Watched, holding: Mapping[onnx_ir.Node, Holding], room: int
) -> Iterator[Stage]:
    """A stage in parts for whose layers no more than ``room`` bytes are held, or in which one layer is alone.

    Args:
        stage: the stage.
        layers: as for :func:`find_stages`.
        holding: what is held for each of its layers.
        room: bytes.
    """
    parts = packed(((node, holding[node]) for node in stage.layers), room)
    for number, part in enumerate(parts, 1):
        later = (
            v for rest in parts[number:] for node in rest for v in layers[node] if v.producer() is not None
        )
        keeps = dict.fromkeys((*stage.keeps, *(value.name or "" for value in later)))
        yield replace(stage, layers=tuple(part), reads=_names(part, layers), keeps=tuple(keeps))


def _names(nodes: Sequence[onnx_ir.Node], layers: Watched) -> tuple[str, ...]:
    """What some layers are fitted to, each value once."""
    return tuple(dict.fromkeys(value.name or "" for node in nodes for value in layers[node]))


def _needed(depths: Depths, layers: Watched, constant: Collection[onnx_ir.Value]) -> set[onnx_ir.Node]:
    """The nodes of the graph that what the layers are fitted to depends on, and that depend on an input."""
    pending = [value for watched in layers.values() for value in watched]
    needed: set[onnx_ir.Node] = set()
    while pending:
        value = pending.pop()
        node = value.producer() if value not in constant else None
        # What a body computes for itself is no node of the graph.
        if node in depths.before and node not in needed:
            needed.add(node)
            pending += reads_of(node)
    return needed


def _last_use(depths: Depths, needed: Collection[onnx_ir.Node]) -> dict[onnx_ir.Value, int]:
    """The depth up to which each value that some node computes is read; values in graph order."""
    last: dict[onnx_ir.Value, int] = {}
    for value in depths.values:
        if value.producer() is not None:
            last[value] = 0
    for node in needed:
        for value in reads_of(node):
            if value in last:
                last[value] = max(last[value], depths.after(node))
    return last


def reads_of(node: onnx_ir.Node) -> Iterator[onnx_ir.Value]:
    """Values that a node, or a graph inside it, reads."""
    return (value for reader in walk([node]) for value in reader.inputs if value is not None)
