"""A model as one program of nested graphs: which graphs a node holds, and a walk over the nodes of all of them.

Whatever looks at every node of a model goes through :func:`walk`, so that the bodies of ``If``, ``Loop``,
``Scan`` and of ops like ``BeamSearch`` are a part of the model like any other. Values are told apart by
name in plans, dumps and checks; ONNX lets a body use names again that stand elsewhere, so a pipeline starts
with making them unique (:func:`prunec.ir.control.make_names_unique`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import onnx_ir

T = TypeVar("T")
_GRAPHS = (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS)


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
    attributes = (
        node.attributes.data.values()
    )  # the dictionary itself: this is asked of every node many times
    for attribute in attributes:
        if attribute.type in _GRAPHS:
            break
    else:
        return ()
    return tuple(graph for attribute in attributes for graph in graphs_in(attribute))


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


def detach(node: onnx_ir.Node) -> None:
    """Let a node that is in no graph any more, and all in its bodies, read nothing."""
    for reader in walk([node]):
        for position in range(len(reader.inputs)):
            reader.replace_input_with(position, None)


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


def levels(graph: onnx_ir.Graph) -> Iterator[list[onnx_ir.Value]]:
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


def named(values: Iterable[tuple[onnx_ir.Value, T]]) -> dict[str, T]:
    """What is known about values, by name; names that several values have are left out.

    Only inputs and outputs of bodies that are their op's own business can have the names of others.
    """
    found: dict[str, T] = {}
    owner: dict[str, onnx_ir.Value] = {}
    for value, known in values:
        if value.name and owner.setdefault(value.name, value) is value:
            found[value.name] = known
        elif value.name:
            found.pop(value.name, None)
    return found


def fresh_name(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it where it is taken; it is taken from now on."""
    unique, number = name, 0
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique
