"""What exporters leave behind in a whole graph, and how the graph ends."""

from __future__ import annotations

from generators.builder import BATCH, Builder, Value
from generators.registry import touch
from generators.sources import linear, source
from onnx import TensorProto


@touch("inner-output")
def inner_output(b: Builder) -> bool:
    """A value in the middle of the graph is an output too."""
    inner = [v for v in dict.fromkeys(b.pool) if v.name in b.consumed and v not in b.inputs]
    b.outputs += [b.choose(inner)] if inner else []
    return bool(inner)


@touch("unused-initializer")
def unused_initializer(b: Builder) -> bool:
    """An initializer that no node reads."""
    b.initializer(b.normal(b.width(), 3), "unused")
    return True


@touch("unused-node")
def unused_node(b: Builder) -> bool:
    """A layer whose result nobody reads."""
    linear(b, b.pick(), b.width())
    return True


@touch("unnamed-nodes")
def unnamed_nodes(b: Builder) -> bool:
    """Nodes have no names."""
    for node in b.nodes:
        node.ClearField("name")
    return True


@touch("unused-input")
def unused_input(b: Builder) -> bool:
    """A graph input that no node reads."""
    b.input("vector", (BATCH, 3))
    return True


@touch("decisions")
def decisions(b: Builder) -> bool:
    """The outputs are positions of largest channels, and no numbers."""
    floats = all(value.dtype == TensorProto.FLOAT and value.kind for value in b.outputs)
    if floats:
        b.outputs = [b.op("ArgMax", value, axis=value.axis, kind=value.kind) for value in b.outputs]
    return floats


def finish(b: Builder) -> None:
    """Make every loose end an output, most of them behind a last layer: channels before it can be pruned."""
    for leaf in b.leaves() or [source(b, "vector")]:
        value: Value = linear(b, leaf, b.size(2, 5)) if b.chance(0.7) else leaf
        b.outputs.append(b.op("Identity", value) if value in b.inputs else value)
