"""Blocks that work on every element: activations, residual branches, normalisation, gates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from generators.builder import Builder, Value
from generators.forms import clip, layer_norm, reduce, reshape, transpose
from generators.registry import block
from generators.sources import linear, with_multiple
from onnx import TensorProto, helper

_PLAIN = ["Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Elu", "Selu", "Abs", "Neg", "LeakyRelu", "Erf"]
_PLAIN += ["HardSigmoid", "Identity", "Celu"]
_SINCE = {"Celu": 12, "Erf": 9}


def _per_channel(b: Builder, x: Value, array: np.ndarray, *, leading: bool = True) -> Value:
    """A constant [C] in one of the shapes that broadcast along the channel axis of ``x``."""
    tail = [1] * (len(x.shape) - 1 - x.axis)
    head = [1] * b.size(0, x.axis if leading else 0)
    return b.const(array.reshape(*head, -1, *tail))


def _gelu(b: Builder, x: Value) -> Value:
    if b.opset >= 20 and b.chance(0.5):
        return b.op("Gelu", x)
    erf = b.op("Erf" if b.opset >= 9 else "Tanh", b.op("Div", x, b.const(2**0.5)))
    return b.op("Mul", b.op("Mul", x, b.op("Add", erf, b.const(1.0))), b.const(0.5))


def _hard_swish(b: Builder, x: Value) -> Value:
    if b.opset >= 14 and b.chance(0.6):
        return b.op("HardSwish", x)
    return b.op("Mul", x, b.op("HardSigmoid", x, alpha=1 / 6))


def _silu(b: Builder, x: Value) -> Value:
    return b.op("Mul", x, b.op("Sigmoid", x))


@block("activation")
def activation(b: Builder) -> None:
    x = b.pick()
    written: list[Callable[[Builder, Value], Value]] = [_gelu, _hard_swish, _silu]
    op_type = b.choose([name for name in _PLAIN if b.opset >= _SINCE.get(name, 7)])
    b.keep(b.choose(written)(b, x) if b.chance(0.4) else b.op(op_type, x))


@block("clip")
def clip_block(b: Builder) -> None:
    x = b.pick()
    b.keep(clip(b, x, b.choose([-1.0, 0.0]), 6.0 if b.chance(0.7) else None))


@block("clip-per-channel")
def clip_per_channel(b: Builder) -> None:
    """Bounds that differ by channel."""
    x = b.pick()
    if b.opset < 8:
        return b.keep(b.op("PRelu", x, _per_channel(b, x, b.normal(x.channels))))
    low = b.op("Max", x, _per_channel(b, x, b.normal(x.channels) - 1))
    return b.keep(b.op("Min", low, _per_channel(b, x, b.normal(x.channels) + 1)))


@block("prelu")
def prelu(b: Builder) -> None:
    x = b.pick()
    slope = b.normal(x.channels, std=0.3)
    b.keep(b.op("PRelu", x, _per_channel(b, x, slope) if b.chance(0.8) else b.const(slope[:1])))


@block("batch-norm")
def batch_norm(b: Builder) -> None:
    x = b.pick("image", "signal", "vector")
    x = linear(b, x, b.width(), bias=b.chance(0.5)) if b.chance(0.5) else x
    c = x.channels
    scale, shift, mean = 1 + b.normal(c, std=0.2), b.normal(c, std=0.2), b.normal(c, std=0.2)
    variance = (0.5 + b.rng.random(c)).astype(np.float32)
    b.keep(
        b.op(
            "BatchNormalization",
            x,
            *(b.initializer(a, "bn") for a in (scale, shift, mean, variance)),
            epsilon=1e-3,
        )
    )


@block("layer-norm")
def layer_norm_block(b: Builder) -> None:
    """Over the channels: of tokens as they are, of an image by way of NHWC."""
    x = b.pick("tokens", "image")
    if x.kind == "tokens":
        return b.keep(layer_norm(b, x))
    return b.keep(transpose(b, layer_norm(b, transpose(b, x, (0, 2, 3, 1))), (0, 3, 1, 2)))


@block("group-norm")
def group_norm(b: Builder) -> None:
    """Reshape, InstanceNormalization, Reshape, scale and shift, as torch exports it."""
    groups = b.choose([1, 2, 3])
    x = with_multiple(b, b.pick("image", "signal", where=lambda v: min(v.shape[2:]) > 1), groups)
    grouped = reshape(b, x, (x.shape[0], groups, int(np.prod(x.shape[1:])) // groups))
    ones, zeros = b.const(np.ones(groups, np.float32)), b.const(np.zeros(groups, np.float32))
    y = reshape(b, b.op("InstanceNormalization", grouped, ones, zeros, epsilon=1e-2), x.shape, x.kind)
    y = b.op("Mul", y, _per_channel(b, y, 1 + b.normal(x.channels, std=0.2), leading=False))
    b.keep(b.op("Add", y, _per_channel(b, y, b.normal(x.channels, std=0.2), leading=False)))


@block("softmax")
def softmax(b: Builder) -> None:
    """Over the channels, as a gate."""
    x = b.pick("tokens", "vector")
    b.keep(b.op("Mul", x, b.op("Softmax", x, axis=-1)))


@block("residual")
def residual(b: Builder) -> None:
    """A branch of one or two layers that meets its own input; the other side may have a layer too."""
    x = b.pick()
    middle = b.op("Relu", linear(b, x, b.width())) if b.chance(0.5) else x
    branch = linear(b, middle, x.channels)
    op_type = b.choose(["Add", "Add", "Mul", "Sub", "Max", "Sum"])
    branch = b.op("Tanh", branch) if op_type == "Mul" else branch
    b.keep(b.op(op_type, *((x, branch) if b.chance(0.5) else (branch, x)), kind=x.kind))


@block("long-residual")
def long_residual(b: Builder) -> None:
    """Two values from anywhere in the graph, projected where their channels differ."""
    x = b.pick()
    same = [
        v
        for v in b.pool
        if v.kind == x.kind and [v.shape[a] for a in v.space] == [x.shape[a] for a in x.space]
    ]
    y = b.choose([v for v in same if v.small] or [x])
    y = y if y.channels == x.channels else linear(b, y, x.channels)
    b.keep(b.op("Add", x, y))


@block("channel-constant")
def channel_constant(b: Builder) -> None:
    """An elementwise op with a constant of one of several ranks: scalar, per channel, or of the full size."""
    x = b.pick()
    op_type = b.choose(["Add", "Mul", "Sub", "Div", *(["Max", "Min"] if b.opset >= 8 else [])])
    array = b.normal(x.channels, std=0.3) + (1 if op_type in ("Mul", "Div") else 0)
    array = np.where(np.abs(array) < 0.3, np.float32(0.5), array).astype(np.float32)
    shapes = [
        _per_channel(b, x, array),
        b.const(array[:1]),
        b.const(np.broadcast_to(array[0], (1, *x.shape[1:])).copy()),
    ]
    operands = [x, b.choose(shapes)]
    b.keep(b.op(op_type, *(operands if op_type == "Div" or b.chance(0.7) else operands[::-1]), kind=x.kind))


@block("squeeze-excite")
def squeeze_excite(b: Builder) -> None:
    """A gate [N, C, 1, 1] computed from the mean over positions."""
    x = b.pick("image", "signal")
    mean = (
        reduce(b, "ReduceMean", x, x.space, keepdims=True) if b.chance(0.5) else b.op("GlobalAveragePool", x)
    )
    hidden = b.op("Relu", linear(b, mean, b.width()))
    b.keep(b.op("Mul", x, b.op(b.choose(["Sigmoid", "HardSigmoid"]), linear(b, hidden, x.channels))))


@block("where")
def where(b: Builder) -> None:
    """Chosen by the sign of a third value."""
    x = b.pick()
    condition = b.op("Greater", linear(b, x, x.channels), b.const(0.0))
    other = linear(b, x, x.channels)
    if b.opset < 9:
        return b.keep(b.op("Mul", b.op("Cast", condition, to=TensorProto.FLOAT), other, kind=x.kind))
    return b.keep(b.op("Where", condition, x, other, kind=x.kind))


@block("if")
def if_block(b: Builder) -> None:
    """A conditional whose branches read values of the outer graph."""
    x = b.pick()
    flag = next((v for v in b.inputs if v.dtype == TensorProto.BOOL), None) or b.input(
        "", (), TensorProto.BOOL
    )
    scale = b.initializer(1 + b.normal(x.channels, std=0.2).reshape([-1, *[1] * (len(x.shape) - 1 - x.axis)]))
    bodies = {}
    for branch, op_type, operands in (
        ("then_branch", "Mul", [x.name, scale.name]),
        ("else_branch", "Relu", [x.name]),
    ):
        output = b.fresh(branch)
        info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        node = helper.make_node(op_type, operands, [output], name=b.fresh("n"))
        bodies[branch] = helper.make_graph([node], branch, [], [info])
    b.consumed.add(x.name)
    b.keep(b.op("If", flag, shape=x.shape, kind=x.kind, **bodies))
