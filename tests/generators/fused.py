"""Attention, norms and activations as single ops, as ONNX Runtime's optimizer and newer exporters write them."""

from __future__ import annotations

import numpy as np
from generators.builder import BATCH, Builder, Value
from generators.forms import layer_norm, shape_of
from generators.registry import block
from generators.sources import linear

MS = "com.microsoft"


def _skip_norm(b: Builder, x: Value, y: Value) -> Value:
    """The residual sum and the norm behind it; the sum itself may go on too."""
    c = x.channels
    scale, shift, bias = (b.const(a) for a in (1 + b.normal(c, std=0.2), b.normal(c, std=0.2), b.normal(c)))
    if b.chance(0.3):
        return b.op(f"{MS}.SkipSimplifiedLayerNormalization", x, y, scale, kind="tokens")
    operands = [x, y, scale, shift, *([bias] if b.chance(0.4) else [])]
    return b.op(f"{MS}.SkipLayerNormalization", *operands, kind="tokens")


def _finish(b: Builder, x: Value, mixed: Value) -> None:
    y = linear(b, mixed, x.channels)
    way = b.size(0, 2)
    b.keep([lambda: y, lambda: b.op("Add", x, y), lambda: _skip_norm(b, x, y)][way]())


@block("fused-attention")
def fused_attention(b: Builder) -> None:
    """com.microsoft.Attention: one weight and bias for queries, keys and values."""
    x = b.pick("tokens")
    heads, d = b.size(1, 4), b.size(2, 4)
    n = 3 * heads * d
    weight, bias = b.initializer(b.normal(x.channels, n, std=x.channels**-0.5)), b.const(b.normal(n, std=0.2))
    _finish(b, x, b.op(f"{MS}.Attention", x, weight, bias, num_heads=heads, kind="tokens"))


@block("fused-heads")
def fused_heads(b: Builder) -> None:
    """com.microsoft.MultiHeadAttention, at times with a bias or behind rotary embeddings; keys may be tied."""
    x = b.pick("tokens")
    heads, d, t = b.size(1, 4), b.choose([2, 4]), x.shape[1]
    q, k, v = (linear(b, x, heads * d) for _ in range(3))
    if b.chance(0.3):
        half = b.normal(t + 2, d // 2)
        tables = b.const(np.cos(half)), b.const(np.sin(half))
        positions = b.const(np.zeros(1, np.int64))
        q, k = (
            b.op(f"{MS}.RotaryEmbedding", part, positions, *tables, num_heads=heads, kind="tokens")
            for part in (q, k)
        )
    k = q if b.chance(0.2) else k
    bias = [b.const(b.normal(3 * heads * d, std=0.2))] if b.chance(0.4) else []
    _finish(b, x, b.op(f"{MS}.MultiHeadAttention", q, k, v, *bias, num_heads=heads, kind="tokens"))


@block("fused-groups")
def fused_groups(b: Builder) -> None:
    """com.microsoft.GroupQueryAttention without a past: lengths follow the batch."""
    x = b.pick("tokens")
    if b.opset < 9:
        return b.keep(linear(b, x, b.width()))
    kv, repeat, d, t = b.size(1, 3), b.size(1, 2), 8, x.shape[1]
    q, k, v = (linear(b, x, n * d) for n in (kv * repeat, kv, kv))
    last, total = (b.initializer(np.asarray(n, np.int32)) for n in ([t - 1], t))
    lengths = b.op("Expand", last, shape_of(b, x, (BATCH,)), shape=(BATCH,))
    lengths = Value(lengths.name, lengths.shape, dtype=last.dtype)
    absent = [Value("", ())] * 2
    mixed = b.split_op(
        f"{MS}.GroupQueryAttention", q, k, v, *absent, lengths, total, count=3,
        num_heads=kv * repeat, kv_num_heads=kv, kind="tokens",
    )[0]  # fmt: skip
    return _finish(b, x, Value(mixed.name, mixed.shape, "tokens"))


@block("attention-op")
def attention_op(b: Builder) -> None:
    """Attention of the standard (opset 23 on), with grouped queries and a mask for every head."""
    x = b.pick("tokens")
    if b.opset < 23:
        return b.keep(linear(b, layer_norm(b, x), b.width()))
    kv, repeat, d, dv, t = b.size(1, 3), b.size(1, 2), b.size(2, 3), b.size(2, 3), x.shape[1]
    q, k, v = (linear(b, x, n) for n in (kv * repeat * d, kv * d, kv * dv))
    mask = [b.const(b.normal(*b.choose([(t, t), (1, kv * repeat, t, t)])))] if b.chance(0.4) else []
    out = b.op("Attention", q, k, v, *mask, q_num_heads=kv * repeat, kv_num_heads=kv, kind="tokens")
    return _finish(b, x, out)


@block("fused-layer")
def fused_layer(b: Builder) -> None:
    """A dense layer with its activation or bias in the op."""
    x, n = b.pick("tokens"), b.width()
    weight = b.weight(n, x.channels, fan_in=x.channels)
    y = b.op(f"{MS}.FusedMatMul", x, weight, transB=1, alpha=b.choose([0.5, 1.0]), kind="tokens")
    way = b.choose(["BiasGelu", "FastGelu", "QuickGelu"])
    b.keep(b.op(f"{MS}.{way}", y, *([b.const(b.normal(n))] if way != "QuickGelu" else []), kind="tokens"))


@block("fused-conv")
def fused_conv(b: Builder) -> None:
    """A convolution with its activation in the op, at times with a sum."""
    x = b.pick("image")
    n = b.width()
    weight = b.weight(n, x.channels, 1, 1, fan_in=x.channels)
    more = [linear(b, x, n)] if b.chance(0.4) else []
    bias = b.const(b.normal(n, std=0.3))
    b.keep(
        b.op(f"{MS}.FusedConv", x, weight, bias, *more, activation=b.choose(["Relu", "Tanh"]), kind="image")
    )
