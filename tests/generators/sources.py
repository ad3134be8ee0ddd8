"""Where values come from when the pool has none: inputs, plain layers, changes of layout."""

from __future__ import annotations

from generators.builder import ABSENT, BATCH, Builder, Value
from generators.forms import gemm, reduce, reshape, squeeze, transpose, unsqueeze

MAX_INPUTS = 3


def source(b: Builder, kind: str) -> Value:
    """A new value of this kind: an input (often behind a first layer) or a converted one."""
    others = [value for value in b.pool if value.kind != kind and value.small]
    if others and "convert" in b.allowed and (len(b.inputs) >= MAX_INPUTS or b.chance(0.6)):
        b.used.add("convert")
        value = convert(b, others[-1], kind)
    else:
        value = new_input(b, kind)
    b.keep(value)
    return value


def new_input(b: Builder, kind: str) -> Value:
    """A graph input; behind a plain layer mostly, because the channels of an input cannot be pruned."""
    c = b.size(2, 6)
    extents = [b.size(3, 6) for _ in range({"vector": 0, "image": 2}.get(kind, 1))]
    value = b.input(kind, (BATCH, *extents, c) if kind == "tokens" else (BATCH, c, *extents))
    return linear(b, value, b.width()) if b.chance(0.7) else value


def linear(b: Builder, x: Value, channels: int, *, bias: bool = True) -> Value:
    """The plainest layer that gives ``x`` this many channels: conv 1 (or 3, padded), gemm or matmul."""
    offset = b.bias(channels) if bias else ABSENT
    if x.kind in ("image", "signal"):
        kernel = b.choose([1, 3])
        spatial = [kernel] * len(x.space)
        weight = b.weight(channels, x.channels, *spatial, fan_in=x.channels * kernel ** len(x.space))
        operands = [weight, offset] if offset.name else [weight]
        return b.op("Conv", x, *operands, kernel_shape=spatial, pads=[kernel // 2] * 2 * len(x.space))
    weight = b.weight(x.channels, channels, fan_in=x.channels, out_axis=1)
    if x.kind == "vector" and b.chance(0.5):
        return gemm(b, x, weight, offset, channels)
    product = b.op("MatMul", x, weight)
    return (
        b.op("Add", *((product, offset) if b.chance(0.7) else (offset, product)), kind=x.kind)
        if offset.name
        else product
    )


def with_multiple(b: Builder, x: Value, factor: int) -> Value:
    """``x`` itself where its channels are a multiple of ``factor``, else a layer on it that makes them so."""
    return x if x.channels % factor == 0 and b.chance(0.5) else linear(b, x, b.width(factor))


def convert(b: Builder, x: Value, kind: str) -> Value:
    """``x`` in another layout."""
    if x.kind == kind:
        return x
    return {"vector": _to_vector, "signal": _to_signal, "image": _to_image, "tokens": _to_tokens}[kind](b, x)


def _to_vector(b: Builder, x: Value) -> Value:
    return reduce(b, "ReduceMean", x, x.space, keepdims=False, kind="vector")


def _to_signal(b: Builder, x: Value) -> Value:
    if x.kind == "vector":
        c, length = b.width(), b.size(2, 4)
        return reshape(b, linear(b, x, c * length), (BATCH, c, length), "signal")
    if x.kind == "tokens":
        return transpose(b, x, (0, 2, 1), "signal")
    if x.shape[3] == 1:
        return squeeze(b, x, [3], "signal")
    return reshape(b, x, (BATCH, x.channels, x.shape[2] * x.shape[3]), "signal")


def _to_image(b: Builder, x: Value) -> Value:
    signal = _to_signal(b, x) if x.kind != "signal" else x
    length = signal.shape[2]
    divisor = b.choose([d for d in range(1, length + 1) if length % d == 0])
    if divisor == 1 and b.chance(0.5):
        return unsqueeze(b, signal, [2], "image")
    return reshape(b, signal, (BATCH, signal.channels, divisor, length // divisor), "image")


def _to_tokens(b: Builder, x: Value) -> Value:
    if x.kind == "vector" and b.chance(0.5):
        return unsqueeze(b, x, [1], "tokens")
    signal = _to_signal(b, x) if x.kind != "signal" else x
    return transpose(b, signal, (0, 2, 1), "tokens")
