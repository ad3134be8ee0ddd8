"""Inputs whose length, height or width is open as well: encoders that end in a vector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from generators.builder import BATCH, Builder, Value
from generators.forms import layer_norm, reduce, transpose, unsqueeze
from generators.registry import block
from generators.sources import linear

LENGTH = 5


def _part(b: Builder, x: Value, axis: int) -> Value:
    """One number of the shape of ``x``, as a tensor of rank 1."""
    size = b.op("Gather", b.op("Shape", x), b.const(np.int64(axis)), axis=0)
    return unsqueeze(b, size, [0])


def _number(b: Builder, value: int) -> Value:
    return b.const(np.array([value], np.int64))


def _attend(b: Builder, x: Value) -> Value:
    """Self-attention whose shapes are computed from batch and length."""
    heads, d = b.size(1, 3), b.size(2, 3)
    _, t, c = x.shape
    batch, length = _part(b, x, 0), _part(b, x, 1)
    q, k, v = (_split(b, linear(b, x, heads * d), (batch, length, heads, d)) for _ in range(3))
    scores = b.op("Softmax", b.op("MatMul", q, transpose(b, k, (0, 1, 3, 2))), axis=-1)
    merged = transpose(b, b.op("MatMul", scores, v), (0, 2, 1, 3))
    shape = b.op("Concat", batch, length, _number(b, b.choose([-1, heads * d])), axis=0)
    joined = b.op("Reshape", merged, shape, shape=(BATCH, t, heads * d), kind="tokens")
    return b.op("Add", x, linear(b, joined, c))


def _split(b: Builder, x: Value, parts: tuple[Value, Value, int, int]) -> Value:
    batch, length, heads, d = parts
    shape = b.op("Concat", batch, length, _number(b, heads), _number(b, d), axis=0)
    return transpose(b, b.op("Reshape", x, shape, shape=(*x.shape[:2], heads, d)), (0, 2, 1, 3))


def _mlp(b: Builder, x: Value) -> Value:
    return b.op("Add", x, linear(b, b.op("Relu", linear(b, x, b.width())), x.channels))


def _convolve(b: Builder, x: Value) -> Value:
    return transpose(b, linear(b, transpose(b, x, (0, 2, 1), "signal"), b.width()), (0, 2, 1), "tokens")


def _spread(b: Builder, x: Value) -> Value:
    """A vector at every position, of a shape that is computed."""
    if b.opset < 9:
        return _mlp(b, x)
    shape = b.op("Concat", _part(b, x, 0), _part(b, x, 1), _number(b, 1), axis=0)
    ones = b.op("Add", b.op("ConstantOfShape", shape, shape=(*x.shape[:2], 1)), b.const(1.0))
    return b.op("Add", x, b.op("Mul", ones, b.const(b.normal(x.channels)), kind="tokens"))


@block("open-length")
def open_length(b: Builder) -> None:
    """Tokens of any number through layers that do not know it, then a mean or a maximum over them."""
    x = b.input("tokens", (BATCH, LENGTH, b.size(2, 5)), symbols=(1,))
    x = linear(b, x, b.width())
    ways: list[Callable[[Builder, Value], Value]] = [_attend, _mlp, layer_norm, _convolve, _spread, _recur]
    for _ in range(b.size(1, 3)):
        x = b.choose(ways)(b, x)
    b.keep(reduce(b, b.choose(["ReduceMean", "ReduceMax"]), x, [1], keepdims=False, kind="vector"))


def _recur(b: Builder, x: Value) -> Value:
    """A recurrent layer: its own reshape would hold the length, so that only the last state is taken."""
    h = b.size(2, 4)
    weights = [b.weight(1, 3 * h, k, fan_in=k, out_axis=1) for k in (x.channels, h)]
    last = b.split_op("GRU", transpose(b, x, (1, 0, 2)), *weights, count=2, hidden_size=h)[1]
    gate = linear(b, Value(transpose(b, last, (1, 0, 2)).name, (BATCH, 1, h), "tokens"), x.channels)
    return b.op("Mul", x, b.op("Sigmoid", gate), kind="tokens")


@block("open-image")
def open_image(b: Builder) -> None:
    """An image of any height and width, down and up again to the size that it had."""
    x = b.input("image", (BATCH, b.size(2, 4), LENGTH + 1, LENGTH + 1), symbols=(2, 3))
    x = linear(b, x, b.width())
    if b.opset >= 13 and b.chance(0.7):
        low = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        size = b.op("Slice", b.op("Shape", x), _number(b, 2), _number(b, 4))
        channels = linear(b, low, x.channels)
        sizes = b.op("Concat", b.op("Slice", b.op("Shape", low), _number(b, 0), _number(b, 2)), size, axis=0)
        empty = Value("", ())
        up = b.op("Resize", channels, empty, empty, sizes, shape=x.shape, mode="nearest")
        x = b.op("Add", x, up) if b.chance(0.5) else b.op("Concat", x, up, axis=1)
    pooled = b.op("GlobalAveragePool", linear(b, b.op("Relu", x), b.width()))
    b.keep(b.op("Flatten", pooled, kind="vector"))
