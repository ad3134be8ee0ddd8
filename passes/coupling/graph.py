"""The groups as a graph: which op ties which axes, and by which ops two layers are tied.

Nodes are axes (``conv1.weight:0`` of a parameter, ``%relu_out:1`` of a computed value), edges are relations.
The edges are derived again from the rules of the ops when they are asked for, so that the analysis itself
need not keep them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx_ir

from prunec.ir.rule import Index, Rule
from prunec.passes.coupling.axes import Operand, node_label
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.coupling.lookup import Axes, Key

if TYPE_CHECKING:
    import networkx as nx


class Edge(NamedTuple):
    """Two axes (by number) that one node ties; ``slots`` are those of ``a`` that it ties, None for all."""

    a: int
    b: int
    node: onnx_ir.Node
    slots: Index | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the way from one layer to another.

    Attributes:
        axis: the axis that is reached, such as ``%relu_out:1``.
        node: name of the node that ties it to the axis before; None for the first axis.
        op_type: op of that node.
    """

    axis: str
    node: str | None = None
    op_type: str | None = None

    def __str__(self) -> str:
        return self.axis if self.node is None else f"{self.axis}  by {self.op_type} `{self.node}`"


def group_graph(coupling: Coupling) -> nx.Graph[str]:
    """The axes that belong to channel groups, and what ties them.

    Returns:
        An undirected graph. Nodes have ``kind`` (``parameter``, ``value``, or ``factor`` for a factor that
        carries the cut of product axes), ``size``, ``groups`` (ids, separated by commas) and ``frozen``
        (whether none of the groups may lose units); edges have ``node`` and ``op_type`` of the op that caused
        them, and ``groups``. All attributes are text, numbers or truth values, so that the graph can be
        written in any format.
    """
    import networkx as nx

    axes = Axes(coupling)
    graph: nx.Graph[str] = nx.Graph(name="channel groups")
    for number in range(len(coupling.relations.table.sizes)):
        if (groups := axes.groups(number)) and number in axes.labels:
            graph.add_node(
                axes.labels[number],
                kind=axes.kind(number),
                size=coupling.relations.table.sizes[number],
                groups=",".join(g.id for g in groups),
                frozen=all(g.frozen is not None for g in groups),
            )
    for edge in edges(coupling):
        groups = axes.view.groups(edge.a, edge.slots)
        if groups and edge.a in axes.labels and edge.b in axes.labels:
            graph.add_edge(
                axes.labels[edge.a],
                axes.labels[edge.b],
                node=node_label(edge.node),
                op_type=edge.node.op_type,
                groups=",".join(g.id for g in groups),
            )
    loose = [
        name for name, facts in graph.nodes(data=True) if facts["kind"] == "factor" and graph.degree(name) < 2
    ]
    graph.remove_nodes_from(loose)
    return graph


def why(coupling: Coupling, a: str, b: str) -> list[Step]:
    """The shortest way of ops that ties two layers or tensors.

    Args:
        coupling: the analysis.
        a: name of a node (its parameters and outputs are meant) or of a tensor, or ``TENSOR:AXIS``.
        b: likewise.

    Returns:
        The axes on the way, each with the op that ties it to the one before; empty where the two are not
        coupled, that is, where no unit of any group removes slots from both.

    Raises:
        UserError: there is no node or tensor of that name.
    """
    axes = Axes(coupling)
    starts, ends = axes.named(a), axes.named(b)
    shared = axes.keys(starts) & axes.keys(ends)
    ways = [_shortest(axes, starts, ends, key) for key in axes.one_of_each_group(shared)]
    return min(ways, key=len, default=[])


def groups_of(coupling: Coupling, name: str) -> list[Group]:
    """The groups that a node or tensor takes part in.

    Args:
        coupling: the analysis.
        name: as for :func:`why`.

    Raises:
        UserError: there is no node or tensor of that name.
    """
    axes = Axes(coupling)
    found = {group.id: group for number in axes.named(name) for group in axes.groups(number)}
    return [group for group in coupling.groups if group.id in found]


def edges(coupling: Coupling) -> Iterator[Edge]:
    """All relations of a coupling, as every node's rule implies them."""
    relations = coupling.relations
    for node, rule in relations.rules.items():
        starts = {(s, i): relations.numbers[node, s, i] for s, i, _ in rule.operands()}
        yield from _plain_ties(node, rule, starts)
    for last, chain in relations.chains.items():
        operands = ("in", 0, chain.nodes[0].inputs[0]), ("out", 0, last.outputs[0])
        numbers = {
            (s, i): relations.table.operands[Operand(v)].start for s, i, v in operands if v is not None
        }
        yield from _plain_ties(last, chain.rule, numbers)
    for tie in relations.ties:
        yield Edge(tie.a, tie.b, tie.cause, tie.a_index)
    for holder, outer, inner in relations.crossings:
        yield Edge(outer, inner, holder)


def _plain_ties(node: onnx_ir.Node, rule: Rule, starts: dict[tuple[str, int], int]) -> Iterator[Edge]:
    """Axes that one factor ties, as a star around the last of them, usually that of the output."""
    centre: dict[str, int] = {}
    for side, position, operand in reversed(list(rule.operands())):
        for axis, term in enumerate(operand):
            number = starts[side, position] + axis
            if len(term) == 1 and centre.setdefault(term[0], number) != number:
                yield Edge(number, centre[term[0]], node)


def _shortest(axes: Axes, starts: list[int], ends: list[int], key: Key) -> list[Step]:
    """The way of fewest ops between two sets of axes, over the relations that tie slots of one component.

    Every op stands between the axes that it ties, so that all of them are one op away from each other.
    """
    import networkx as nx

    graph: nx.Graph[object] = nx.Graph()
    for edge in edges(axes.coupling):
        if axes.carries(edge.a, edge.slots, key):
            graph.add_edges_from((axis, (edge.node, edge.b)) for axis in (edge.a, edge.b))
    for outside, numbers in (("start", starts), ("end", ends)):
        graph.add_edges_from((outside, n) for n in numbers if key in axes.keys([n]))
    return list(_steps(axes, nx.shortest_path(graph, "start", "end")[1:-1]))


def _steps(axes: Axes, way: Sequence[Any]) -> Iterator[Step]:
    """A way of axes with ops between them; what one op ties in a row is one step."""
    yield Step(axis=axes.labels[way[0]])
    ties = zip(way[2::2], (op for op, _ in way[1::2]), strict=True)
    for node, run in groupby(ties, key=lambda tie: tie[1]):
        *_, (last, _) = run
        yield Step(axis=axes.labels[last], node=node_label(node), op_type=node.op_type)
