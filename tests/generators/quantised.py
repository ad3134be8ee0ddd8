"""Integers inside float networks: quantised activations, layers and sums, static and dynamic."""

from __future__ import annotations

import numpy as np
from generators.builder import ABSENT, Builder, Value
from generators.registry import block
from generators.sources import linear, with_multiple
from onnx import TensorProto


def _grid(b: Builder, dtype: type = np.uint8, step: float = 0.04) -> tuple[Value, Value]:
    """Scale and zero point of a whole tensor that holds values from about -5 to 5."""
    zero = 128 if dtype is np.uint8 else b.choose([0, 0, 3])
    return b.initializer(np.float32(step * b.rng.uniform(0.8, 1.2)), "scale"), b.initializer(
        dtype(zero), "zero"
    )


def _quantise(b: Builder, x: Value, grid: tuple[Value, Value]) -> Value:
    return b.op("QuantizeLinear", x, *grid, kind=x.kind)


def _weight(b: Builder, *shape: int, fan_in: int, axis: int) -> tuple[Value, Value, Value]:
    """An int8 weight with scale and zero point, of the whole or of every output channel."""
    array = b.normal(*shape, std=fan_in**-0.5)
    per_channel = b.chance(0.6)
    others = tuple(a for a in range(len(shape)) if a != axis or not per_channel)
    step = np.asarray(np.abs(array).max(axis=others, keepdims=True) / 127 + 1e-4, np.float32)
    stored = b.initializer(np.round(array / step).astype(np.int8), "weight")
    step = step.reshape(-1) if per_channel else step.reshape(())
    return stored, b.initializer(step, "scale"), b.initializer(np.zeros(step.shape, np.int8), "zero")


@block("qdq")
def qdq(b: Builder) -> None:
    """An activation rounded to integers and back; then a layer."""
    x = b.pick()
    if b.opset < 10:
        return b.keep(linear(b, x, b.width()))
    grid = _grid(b, b.choose([np.uint8, np.int8]))
    y = b.op("DequantizeLinear", _quantise(b, x, grid), *grid, kind=x.kind)
    return b.keep(linear(b, y, b.width()) if b.chance(0.8) else y)


@block("qdq-residual")
def qdq_residual(b: Builder) -> None:
    """A residual sum of two activations that are both rounded, and the sum again."""
    x = b.pick()
    branch = linear(b, b.op("Relu", linear(b, x, b.width())), x.channels)
    if b.opset >= 10:
        grid = _grid(b)
        x, branch = (b.op("DequantizeLinear", _quantise(b, v, grid), *grid, kind=v.kind) for v in (x, branch))
    y = b.op("Add", x, branch)
    if b.opset >= 10 and b.chance(0.5):
        grid = _grid(b)
        y = b.op("DequantizeLinear", _quantise(b, y, grid), *grid, kind=y.kind)
    b.keep(y)


@block("qlinear-conv")
def qlinear_conv(b: Builder) -> None:
    """Quantised convolutions in a row, with what may stand between them, all on integers."""
    group = b.choose([1, 1, 2])
    x = with_multiple(b, b.pick("image", "signal"), group)
    if b.opset < 10:
        return b.keep(linear(b, x, b.width()))
    grid, rank = _grid(b), len(x.space)
    y = _quantise(b, x, grid)
    for _ in range(b.size(1, 2)):
        channels, inner = b.width(group), y.channels // group
        weight = _weight(b, channels, inner, *[1] * rank, fan_in=inner, axis=0)
        bias = (
            b.initializer(b.rng.integers(-200, 200, channels).astype(np.int32), "bias")
            if b.chance(0.5)
            else ABSENT
        )
        after = _grid(b)
        y = b.op("QLinearConv", y, *grid, *weight, *after, *([bias] if bias.name else []), group=group)
        grid = after
        if b.opset >= 12 and b.chance(0.3):
            y = b.op("MaxPool", y, kernel_shape=[1] * rank)
    return b.keep(b.op("DequantizeLinear", y, *grid, kind=x.kind))


@block("qlinear-sum")
def qlinear_sum(b: Builder) -> None:
    """A sum, product or concatenation on integers: ops of com.microsoft around QLinearConv."""
    x = b.pick("image", "signal")
    if b.opset < 10:
        return b.keep(linear(b, x, b.width()))
    left, right, after = _grid(b), _grid(b), _grid(b, step=0.08)
    p, q = _quantise(b, x, left), _quantise(b, linear(b, x, x.channels), right)
    way = b.choose(["QLinearAdd", "QLinearMul", "QLinearConcat"])
    if way == "QLinearConcat":
        y = b.op(f"com.microsoft.{way}", *after, p, *left, q, *right, axis=1, kind=x.kind)
    else:
        y = b.op(f"com.microsoft.{way}", p, *left, q, *right, *after, kind=x.kind)
    return b.keep(b.op("DequantizeLinear", y, *after, kind=x.kind))


@block("qlinear-matmul")
def qlinear_matmul(b: Builder) -> None:
    """A quantised matrix product over tokens."""
    x = b.pick("tokens")
    if b.opset < 10:
        return b.keep(linear(b, x, b.width()))
    before, after, n = _grid(b), _grid(b), b.width()
    weight = _weight(b, x.channels, n, fan_in=x.channels, axis=1)
    y = b.op("QLinearMatMul", _quantise(b, x, before), *before, *weight, *after, kind="tokens")
    return b.keep(b.op("DequantizeLinear", y, *after, kind="tokens"))


@block("dynamic-quantised")
def dynamic_quantised(b: Builder) -> None:
    """Scale and zero point of the activation come from the activation itself."""
    x = b.pick("tokens", "vector")
    if b.opset < 11:
        return b.keep(linear(b, x, b.width()))
    n, c = b.width(), x.channels
    weight, scale, zero = _weight(b, c, n, fan_in=c, axis=1)
    if b.chance(0.4):
        bias = b.const(b.normal(n, std=0.3))
        return b.keep(b.op("com.microsoft.DynamicQuantizeMatMul", x, weight, scale, zero, bias, kind=x.kind))
    q, step, point = b.split_op("DynamicQuantizeLinear", x, count=3)
    product = b.op("MatMulInteger", q, weight, point, *([zero] if scale.shape else []), kind=x.kind)
    numbers = b.op("Cast", product, to=TensorProto.FLOAT, kind=x.kind)
    return b.keep(b.op("Mul", numbers, b.op("Mul", step, scale), kind=x.kind))


@block("blockwise")
def blockwise(b: Builder) -> None:
    """A matrix of four or eight bits with a scale for every block of its rows."""
    x = b.pick("tokens", "vector")
    k, n, bits, size = x.channels, b.width(), b.choose([4, 8]), 16
    blocks = -(-k // size)
    packed = b.initializer(b.rng.integers(0, 256, (n, blocks, size * bits // 8)).astype(np.uint8), "packed")
    scale = b.initializer(b.rng.uniform(0.05, 0.1, (n, blocks)).astype(np.float32) * 16 / 2**bits, "scale")
    b.keep(
        b.op("com.microsoft.MatMulNBits", x, packed, scale, K=k, N=n, bits=bits, block_size=size, kind=x.kind)
    )
