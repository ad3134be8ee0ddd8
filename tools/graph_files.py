"""Writes the graph of channel groups to a file: Graphviz or GraphML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.ir.files import write_text

if TYPE_CHECKING:
    import networkx as nx

_SHAPES = {"parameter": "box", "value": "ellipse", "factor": "diamond"}


def write_dot(graph: nx.Graph[str], path: Path) -> None:
    """Write a group graph for Graphviz: parameters are boxes, frozen axes are grey, edges bear their op."""
    write_text(path, "\n".join(_dot_lines(graph)) + "\n")


def _dot_lines(graph: nx.Graph[str]) -> Iterator[str]:
    yield "graph channel_groups {"
    yield "  node [fontsize=10]; edge [fontsize=8];"
    for name, facts in graph.nodes(data=True):
        label = json.dumps(f"{name}\n{facts['groups']}", ensure_ascii=False)
        colour = ", color=gray, fontcolor=gray" if facts["frozen"] else ""
        yield f"  {_quoted(name)} [label={label}, shape={_SHAPES[facts['kind']]}{colour}];"
    for a, b, facts in graph.edges(data=True):
        op, node = _quoted(facts["op_type"]), _quoted(facts["node"])
        yield f"  {_quoted(a)} -- {_quoted(b)} [label={op}, tooltip={node}];"
    yield "}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def write_graphml(graph: nx.Graph[str], path: Path) -> None:
    """Write a group graph as GraphML, which yEd, Gephi and networkx read."""
    import networkx as nx

    content = "\n".join(nx.generate_graphml(graph))
    write_text(path, f"<?xml version='1.0' encoding='utf-8'?>\n{content}\n")
