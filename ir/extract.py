"""A part of a graph as a model of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir

from prunec.ir.facts import Facts
from prunec.ir.module import Module
from prunec.ir.scopes import graphs_in


def extract(module: Module, kept: Collection[int], facts: Facts) -> Module:
    """The model that some nodes of a main graph make up.

    What they read from nodes that go becomes a graph input, or an initializer where it is a number that is known
    before the model runs; what only nodes that go read becomes a graph output. Weights are shared with the
    original.

    Args:
        module: the model.
        kept: positions of the nodes in the main graph.
        facts: of the model.
    """
    part = module.clone()
    graph = part.graph
    pairs = list(zip(module.graph, graph, strict=True))
    going = [node for position, (_, node) in enumerate(pairs) if position not in kept]
    staying = {
        inner for position, (_, node) in enumerate(pairs) if position in kept for inner in _within(node)
    }
    results = set(graph.outputs)
    graph.outputs.clear()
    for position, (original, node) in enumerate(pairs):
        for old, value in zip(original.outputs, node.outputs, strict=True):
            is_read = any(use.node in staying for use in value.uses())
            if position not in kept and is_read:
                value.replace_all_uses_with(_stand_in(graph, old, facts))
            elif position in kept and value.name and (value in results or not is_read):
                _declare(value, old, facts)
                graph.outputs.append(value)
    for node in (inner for outer in going for inner in _within(outer)):
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    graph.remove(going, safe=True)
    drop_unread(graph)
    return part


def _within(node: onnx_ir.Node) -> Iterator[onnx_ir.Node]:
    """A node and all nodes in its bodies."""
    yield node
    for attribute in node.attributes.values():
        for body in graphs_in(attribute):
            for inner in body:
                yield from _within(inner)


def _stand_in(graph: onnx_ir.Graph, value: onnx_ir.Value, facts: Facts) -> onnx_ir.Value:
    """An initializer or a graph input in the place of a value whose node goes."""
    number = facts.number(value)
    fresh = onnx_ir.Value(name=value.name)
    if number is None:
        _declare(fresh, value, facts)
        graph.inputs.append(fresh)
        return fresh
    fresh.const_value = onnx_ir.tensor(number, name=value.name)
    fresh.shape, fresh.type = onnx_ir.Shape(number.shape), onnx_ir.TensorType(fresh.const_value.dtype)
    graph.register_initializer(fresh)
    return fresh


def _declare(fresh: onnx_ir.Value, value: onnx_ir.Value, facts: Facts) -> None:
    """Give a value the type and shape of another; sizes that follow the inputs stay symbolic."""
    dtype = facts.types.get(value)
    fresh.type = onnx_ir.TensorType(onnx_ir.DataType(dtype)) if dtype else value.type
    shape, dynamic = facts.shape(value), facts.dynamic.get(value, frozenset())
    if shape is None:
        fresh.shape = value.shape
        return
    sizes = [_symbol(value, axis) if axis in dynamic else size for axis, size in enumerate(shape)]
    fresh.shape = onnx_ir.Shape(sizes)


def _symbol(value: onnx_ir.Value, axis: int) -> str:
    """The name that the model has for a dynamic size, or one of our own."""
    declared = value.shape[axis] if value.shape is not None and axis < len(value.shape) else None
    named = declared.value if isinstance(declared, onnx_ir.SymbolicDim) else None
    return named or f"{value.name}_{axis}"


def drop_unread(graph: onnx_ir.Graph) -> None:
    """Remove initializers and inputs that nothing reads any more."""
    outputs = set(graph.outputs)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in outputs:
            del graph.initializers[name]
    read = [value for value in graph.inputs if value.uses() or value in outputs]
    graph.inputs.clear()
    graph.inputs.extend(read)


def freeze(module: Module, facts: Facts) -> Module:
    """The same model with a number in the place of every symbolic size, those at which its facts were found.

    Declared types of intermediate values go: they may speak of the symbols.
    """
    fixed = module.clone()
    for old, value in zip(module.graph.inputs, fixed.graph.inputs, strict=True):
        shape = facts.shape(old)
        value.shape = value.shape if shape is None else onnx_ir.Shape(shape)
    for node in fixed.graph:
        for value in node.outputs:
            value.shape = None
    for old, value in zip(module.graph.outputs, fixed.graph.outputs, strict=True):
        shape = facts.shape(old)
        value.shape = None if shape is None else onnx_ir.Shape(shape)
    return fixed
