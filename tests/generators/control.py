"""Blocks that put other blocks into the bodies of If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from generators.builder import BATCH, Builder, Value
from generators.registry import BLOCKS, block
from generators.sources import convert, linear
from onnx import TensorProto, helper

MAX_DEPTH = 2
"""Bodies within bodies."""
_INSIDE = ("attention", "control", "convolution", "dense", "elementwise", "movement")
"""Modules of the blocks that go into bodies."""
_OUTSIDE = ("weight-qdq",)
"""Weight styles that ONNX Runtime's own optimisations cannot take where a body captures the weight."""


def info(b: Builder, value: Value, batch_axis: int | None = 0) -> onnx.ValueInfoProto:
    """The declaration of a body's input or output; sometimes without a shape."""
    shape: list[str | int] | None = list(value.shape)
    if b.chance(0.2):
        shape = None
    elif b.dynamic and batch_axis is not None and value.shape:
        shape[batch_axis] = "N"  # type: ignore[index]
    return helper.make_tensor_value_info(value.name, value.dtype, shape)


def fill(b: Builder, x: Value, channels: int) -> Value:
    """Some blocks on ``x``, and a layer that gives them ``x``'s extents and this many channels."""
    pool, b.pool = b.pool, [x]
    for _ in range(b.size(0, 2)):
        names = [n for n in BLOCKS if n in b.allowed and BLOCKS[n].__module__.rpartition(".")[2] in _INSIDE]
        BLOCKS[b.choose(names)](b)
    y = b.pool[-1]
    b.pool = pool
    target = Value("", (*x.shape[: x.axis], channels, *x.shape[x.axis + 1 :]), x.kind)
    if y.kind != x.kind or any(y.shape[a] != x.shape[a] for a in x.space):
        y = x
    return y if y.shape == target.shape and y is not x else linear(b, y, channels)


def body(
    b: Builder, inputs: Sequence[onnx.ValueInfoProto], make: Callable[[], Sequence[Value]]
) -> tuple[onnx.GraphProto, Sequence[Value]]:
    """What ``make`` adds to the graph as a graph of its own."""
    nodes, b.nodes = b.nodes, []
    styles, b.styles = b.styles, [name for name in b.styles if name not in _OUTSIDE]
    b.depth += 1
    results = make()
    b.depth -= 1
    graph = helper.make_graph(b.nodes, b.fresh("body"), inputs, [info(b, v) for v in results])
    b.nodes, b.styles = nodes, styles
    return graph, results


def enough(b: Builder) -> bool:
    """Whether bodies are nested as deeply as they may be; before opset 11 their ops have other forms."""
    return b.depth >= MAX_DEPTH or b.opset < 11


@block("branches")
def branches(b: Builder) -> None:
    """Two branches, each with its own layers; the condition is an input or follows from one."""
    x = b.pick("vector", "image", "tokens")
    if enough(b):
        b.keep(linear(b, x, x.channels))
        return
    condition = Value(b.fresh("flag"), (), dtype=TensorProto.BOOL)
    b.inputs.append(condition)
    channels = b.width()

    def branch() -> Sequence[Value]:
        return [fill(b, x, channels)]

    (first, results), (second, _) = body(b, [], branch), body(b, [], branch)
    b.consumed.add(x.name)
    b.keep(b.op("If", condition, shape=results[0].shape, kind=x.kind, then_branch=first, else_branch=second))


@block("loop")
def loop(b: Builder) -> None:
    """A residual or recurrent body on a state, and a result of every iteration, summed behind it."""
    x = b.pick("vector", "image", "tokens")
    if enough(b):
        b.keep(linear(b, x, x.channels))
        return
    state = Value(b.fresh("state"), x.shape, x.kind)
    channels = b.width()
    step, go = (
        Value(b.fresh("step"), (), dtype=TensorProto.INT64),
        Value(b.fresh("go"), (), dtype=TensorProto.BOOL),
    )
    stacked = b.chance(0.5)

    def make() -> Sequence[Value]:
        on = b.op("Identity", go)
        y = fill(b, state, x.channels)
        y = b.op("Tanh", b.op("Add", state, y)) if b.chance(0.6) else b.op("Tanh", y)
        return [on, y, *([fill(b, y, channels)] if stacked else [])]

    declared = [helper.make_tensor_value_info(v.name, v.dtype, []) for v in (step, go)]
    inner, results = body(b, [*declared, info(b, state)], make)
    trips = b.initializer(np.array(b.size(1, 3)), "trips")
    names = [b.fresh("loop") for _ in results[1:]]
    b.nodes.append(
        helper.make_node("Loop", [trips.name, b.initializer(np.array(True)).name, x.name], names, body=inner)
    )
    b.consumed.add(x.name)
    b.keep(Value(names[0], x.shape, x.kind))
    if stacked:
        every = Value(names[1], (3, *results[2].shape))
        summed = reduce_first(b, every)
        b.keep(Value(summed.name, results[2].shape, x.kind))


@block("scan")
def scan(b: Builder) -> None:
    """A recurrent cell over tokens, forwards or backwards; its state begins with zeros or a first layer."""
    x = b.pick("tokens")
    if enough(b):
        b.keep(linear(b, x, x.channels))
        return
    width = b.width()
    first = convert(b, linear(b, x, width), "vector")
    entry = Value(b.fresh("slice"), (BATCH, x.channels), "vector")
    state = Value(b.fresh("state"), (BATCH, width), "vector")

    def make() -> Sequence[Value]:
        mixed = b.op("Add", linear(b, entry, width), linear(b, state, width, bias=False))
        new = b.op("Tanh", mixed)
        return [new, fill(b, new, b.width())]

    inner, results = body(b, [info(b, state), info(b, entry)], make)
    names = [b.fresh("scan"), b.fresh("scan")]
    axes = {"scan_input_axes": [1], "scan_output_axes": [b.choose([1, -2])]}
    b.nodes.append(
        helper.make_node(
            "Scan", [first.name, x.name], names, body=inner, num_scan_inputs=1,
            scan_input_directions=[b.size(0, 1)], **axes,
        )
    )  # fmt: skip
    b.consumed.update((first.name, x.name))
    b.keep(Value(names[0], (BATCH, width), "vector"))
    b.keep(Value(names[1], (BATCH, x.shape[1], results[1].channels), "tokens"))


def reduce_first(b: Builder, x: Value) -> Value:
    """The sum over the first axis, in the form of the opset."""
    if b.opset >= 13:
        return b.op("ReduceSum", x, b.initializer(np.array([0])), shape=x.shape[1:], keepdims=0)
    return b.op("ReduceSum", x, shape=x.shape[1:], axes=[0], keepdims=0)
