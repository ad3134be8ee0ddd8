"""The parts of a model that one run does not show: branches that are not taken, bodies whose results an op digests."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx_ir

from prunec.ir.control import open_graphs
from prunec.ir.module import Module
from prunec.ir.open_bodies import as_model
from prunec.ir.scopes import bodies, walk

CONDITION = "prunec_forced"
MOST_WAYS = 16
"""Ways that are tried at most; every one costs two runs."""

Way = Mapping[str, bool]
"""Which branch the ``If`` nodes take, by what the first branch returns; the others decide for themselves."""


def ways(reference: Module, module: Module, cut: Collection[str]) -> Iterator[tuple[Module, Module]]:
    """Copies of two models in which a branch is taken whatever the conditions on the way to it say.

    Args:
        reference: the model before a pass.
        module: the model after it.
        cut: names of values that the pass shrank; branches that have none are left out, unless it is empty.
    """
    common = {name for name, _ in _undecided(reference)} & {name for name, _ in _undecided(module)}
    found = list(_paths(module.graph, {}, common, frozenset(cut)))
    step = max(1, -(-len(found) // MOST_WAYS))
    for way in found[::step]:
        yield _forced(reference, way), _forced(module, way)


def open_bodies(reference: Module, module: Module) -> Iterator[tuple[Module, Module]]:
    """The bodies that their op feeds as it sees fit, of both models, each as a model of its own."""
    graphs = [open_graphs(m.graph, m.opset(""))[1:] for m in (reference, module)]
    for before, after in zip(*graphs, strict=len(graphs[0]) == len(graphs[1])):
        alone, alone_module = as_model(reference.model, before), as_model(module.model, after)
        if alone is not None and alone_module is not None:
            yield Module(alone, reference.source), Module(alone_module, module.source)


def _paths(graph: onnx_ir.Graph, way: Way, common: set[str], cut: frozenset[str]) -> Iterator[Way]:
    """The way to every branch that holds no other, outer ones first."""
    for node in graph:
        for body in bodies(node):
            name = _name(node)
            forced = node.op_type == "If" and name in common
            here = {**way, name: body is node.attributes["then_branch"].as_graph()} if forced else way
            inner = list(_paths(body, here, common, cut))
            if here is not way and not inner and (not cut or _touches(body, cut)):
                inner = [here]
            yield from inner


def _touches(body: onnx_ir.Graph, cut: frozenset[str]) -> bool:
    return any(value is not None and value.name in cut for node in walk(body) for value in node.inputs)


def _forced(module: Module, way: Way) -> Module:
    forced = module.clone()
    conditions = {}
    for taken in (True, False):
        name = f"{CONDITION}_{str(taken).lower()}"
        conditions[taken] = onnx_ir.val(name, const_value=onnx_ir.tensor(np.array(taken), name=name))
        forced.graph.register_initializer(conditions[taken])
    for name, node in list(_undecided(forced)):
        if name in way:
            node.replace_input_with(0, conditions[way[name]])
    return forced


def _undecided(module: Module) -> Iterator[tuple[str, onnx_ir.Node]]:
    """The ``If`` nodes whose condition is no constant, by name."""
    for node in walk(module.graph):
        is_if = node.op_type == "If" and node.domain in ("", "ai.onnx")
        condition = node.inputs[0] if is_if else None
        if condition is not None and onnx_ir.convenience.get_const_tensor(condition) is None:
            yield _name(node), node


def _name(node: onnx_ir.Node) -> str:
    """What tells an ``If`` from all others, whatever passes do: the first result of its first branch."""
    results = bodies(node)[0].outputs
    return results[0].name or "" if results else ""
