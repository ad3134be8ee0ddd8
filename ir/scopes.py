"""A model as one program of nested graphs: which graphs a node holds, and a walk over the nodes of all of them.

Whatever looks at every node of a model goes through :func:`walk`, so that the bodies of ``If``, ``Loop``,
``Scan`` and of ops like ``BeamSearch`` are a part of the model like any other. Values are told apart by
name in plans, dumps and checks; ONNX lets a body use names again that stand elsewhere, so loading makes
them unique.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir


def graphs_in(attribute: onnx_ir.Attr) -> Iterator[onnx_ir.Graph]:
    """The graphs that an attribute holds; none for one that only refers to an attribute of a function."""
    if attribute.is_ref():
        return
    if attribute.type == onnx_ir.AttributeType.GRAPH:
        yield attribute.as_graph()
    elif attribute.type == onnx_ir.AttributeType.GRAPHS:
        yield from attribute.as_graphs()


def bodies(node: onnx_ir.Node) -> tuple[onnx_ir.Graph, ...]:
    """The graphs that a node holds, in the order of its attributes."""
    return tuple(graph for attribute in node.attributes.values() for graph in graphs_in(attribute))


def walk(nodes: Iterable[onnx_ir.Node], *, inside_first: bool = False) -> Iterator[onnx_ir.Node]:
    """Every node, each followed by those of its bodies, at any depth; or, with ``inside_first``, behind them.

    What a node reads is made before it in both orders, except for what comes round in a loop.
    """
    for node in nodes:
        if not inside_first:
            yield node
        for body in bodies(node):
            yield from walk(body, inside_first=inside_first)
        if inside_first:
            yield node


def graph_of(node: onnx_ir.Node) -> onnx_ir.Graph:
    """The graph or body that a node is in."""
    graph = node.graph
    assert isinstance(graph, onnx_ir.Graph), f"node `{node.name}` is in no graph"
    return graph


def nested_graphs(graph: onnx_ir.Graph) -> Iterator[onnx_ir.Graph]:
    """A graph and the bodies of its nodes, at any depth."""
    yield graph
    for node in graph:
        for body in bodies(node):
            yield from nested_graphs(body)


def values_in(graph: onnx_ir.Graph) -> Iterator[onnx_ir.Value]:
    """The values that a graph and its bodies define: inputs, initializers, outputs of nodes."""
    for part in nested_graphs(graph):
        yield from dict.fromkeys((*part.inputs, *part.initializers.values()))
        for node in part:
            yield from node.outputs


def make_names_unique(model: onnx_ir.Model) -> int:
    """Give every value of the main graph and its bodies a name of its own.

    The first value that has a name keeps it, those of outer graphs first; later ones become ``NAME_1``,
    ``NAME_2`` and so on.

    Returns:
        How many values have a new name.
    """
    outer: set[str] = set()
    later: list[onnx_ir.Value] = []
    for level in _levels(model.graph):
        for value in level:
            if value.name and value.name in outer:
                later.append(value)
            elif value.name:
                outer.add(value.name)
    for value in later:
        value.name = fresh_name(value.name or "", outer)
    return len(later)


def _levels(graph: onnx_ir.Graph) -> Iterator[list[onnx_ir.Value]]:
    """The values of the graphs of each depth, outermost first."""
    graphs = [graph]
    while graphs:
        yield [
            value
            for part in graphs
            for value in (
                *dict.fromkeys((*part.inputs, *part.initializers.values())),
                *(output for node in part for output in node.outputs),
            )
        ]
        graphs = [body for part in graphs for node in part for body in bodies(node)]


def fresh_name(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it where it is taken; it is taken from now on."""
    unique, number = name, 0
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique
