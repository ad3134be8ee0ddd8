"""Blocks of transformers: attention in its spellings, class token, embedding, windows: [N, T, C]."""

from __future__ import annotations

import numpy as np
from generators.builder import BATCH, VOCABULARY, Builder, Value
from generators.forms import (
    layer_norm,
    reduce,
    reshape,
    shape_of,
    slice_axis,
    split,
    squeeze,
    transpose,
    unsqueeze,
)
from generators.registry import block
from generators.sources import linear
from onnx import TensorProto


def _heads(b: Builder, x: Value, heads: int) -> Value:
    """[N, T, heads * d] -> [N, heads, T, d]."""
    t, c = x.shape[1:]
    return transpose(b, reshape(b, x, (BATCH, t, heads, c // heads)), (0, 2, 1, 3))


def _attend(b: Builder, q: Value, k: Value, v: Value) -> Value:
    """Scaled dot product and merge: three [N, heads, T, d] -> [N, T, heads * d]."""
    _, heads, t, d = q.shape
    scale = b.const(float(d) ** -0.5)
    scaled = b.op("Mul", q, scale) if b.chance(0.5) else q
    scores = b.op("MatMul", scaled, transpose(b, k, (0, 1, 3, 2)))
    scores = scores if scaled is not q else b.op("Mul", scores, scale)
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
    return reshape(b, transpose(b, mixed, (0, 2, 1, 3)), (BATCH, t, heads * v.shape[3]), "tokens")


def _project(b: Builder, x: Value, merged: Value) -> None:
    y = linear(b, merged, x.channels)
    b.keep(b.op("Add", x, y) if b.chance(0.7) else y)


@block("attention")
def attention(b: Builder) -> None:
    """Queries, keys and values from separate matrices; the value's head size may differ."""
    x = b.pick("tokens")
    y = layer_norm(b, x) if b.chance(0.5) else x
    heads, d, dv = b.size(1, 3), b.size(2, 3), b.size(2, 3)
    q, k, v = (_heads(b, linear(b, y, heads * size), heads) for size in (d, d, dv))
    _project(b, x, _attend(b, q, k, v))


@block("attention-fused")
def attention_fused(b: Builder) -> None:
    """One matrix for q, k, v: split along the channels, or reshaped to [N, T, 3, heads, d] and gathered."""
    x = b.pick("tokens")
    heads, d, t = b.size(1, 3), b.size(2, 3), x.shape[1]
    fused = linear(b, x, 3 * heads * d)
    if b.chance(0.5):
        q, k, v = (_heads(b, part, heads) for part in split(b, fused, [heads * d] * 3, 2, "tokens"))
    else:
        stacked = transpose(b, reshape(b, fused, (BATCH, t, 3, heads, d)), (2, 0, 3, 1, 4))
        if b.chance(0.5):
            q, k, v = (b.op("Gather", stacked, b.const(np.int64(i)), axis=0) for i in range(3))
        else:
            q, k, v = (squeeze(b, part, [0]) for part in split(b, stacked, [1, 1, 1], 0))
    _project(b, x, _attend(b, q, k, v))


@block("attention-grouped")
def attention_grouped(b: Builder) -> None:
    """Grouped queries: each head of keys and values serves several heads of queries."""
    x = b.pick("tokens")
    kv_heads, repeat, d, t = b.size(1, 2), 2, b.size(2, 3), x.shape[1]
    q = _heads(b, linear(b, x, kv_heads * repeat * d), kv_heads * repeat)

    def spread(y: Value) -> Value:
        wide = unsqueeze(b, y, [2])
        if b.opset < 8 or b.chance(0.5):
            repeated = b.op("Tile", wide, b.const(np.array([1, 1, repeat, 1, 1], np.int64)))
        else:
            target = (1, 1, repeat, 1, 1)
            repeated = b.op("Expand", wide, b.const(np.array(target)), shape=(BATCH, kv_heads, repeat, t, d))
        return reshape(b, repeated, (BATCH, kv_heads * repeat, t, d))

    k, v = (spread(_heads(b, linear(b, x, kv_heads * d), kv_heads)) for _ in range(2))
    _project(b, x, _attend(b, q, k, v))


@block("attention-channels")
def attention_channels(b: Builder) -> None:
    """Channels attend to channels (XCiT): the softmax runs over an axis that pruning shortens."""
    x = b.pick("tokens")
    heads, d, t = b.size(1, 2), b.size(2, 3), x.shape[1]
    q, k, v = (transpose(b, _heads(b, linear(b, x, heads * d), heads), (0, 1, 3, 2)) for _ in range(3))
    scores = b.op("Softmax", b.op("MatMul", q, transpose(b, k, (0, 1, 3, 2))), axis=-1)
    mixed = transpose(b, b.op("MatMul", scores, v), (0, 3, 1, 2))
    _project(b, x, reshape(b, mixed, (BATCH, t, heads * d), "tokens"))


@block("class-token")
def class_token(b: Builder) -> None:
    """A learned token in front, positions added, a layer, then the token alone or all of them."""
    x = b.pick("tokens")
    t, c = x.shape[1:]
    token = b.const(b.normal(1, 1, c))
    target = shape_of(b, x, (BATCH, 1, c)) if b.dynamic or b.chance(0.3) else b.const(np.array([BATCH, 1, c]))
    if b.opset >= 8:
        token = b.op("Expand", token, target, shape=(BATCH, 1, c))
    else:
        token = b.op("Add", reduce(b, "ReduceMean", x, [1], keepdims=True), token)
    y = b.op("Concat", token, x, axis=1, kind="tokens")
    y = linear(b, b.op("Add", y, b.const(b.normal(1, t + 1, c, std=0.5))), b.width())
    way = b.size(0, 2)
    if way == 0:
        return b.keep(b.op("Gather", y, b.const(np.int64(0)), axis=1, kind="vector"))
    if way == 1:
        return b.keep(squeeze(b, slice_axis(b, y, 1, 0, 1), [1], "vector"))
    return b.keep(y)


@block("embedding")
def embedding(b: Builder) -> None:
    """Rows of a table chosen by an integer input; added to position embeddings."""
    c, t = b.width(), b.size(2, 5)
    ids = next((v for v in b.inputs if v.dtype == TensorProto.INT64), None)
    ids = ids or b.input("", (BATCH, t), TensorProto.INT64)
    table = b.weight(VOCABULARY, c, fan_in=1, out_axis=1)
    y = b.op("Gather", table, ids, axis=0, kind="tokens")
    y = b.op("Add", y, b.const(b.normal(ids.shape[1], c))) if b.chance(0.6) else y
    b.keep(y)
    if b.chance(0.2):
        b.keep(b.op("MatMul", linear(b, y, c), transpose(b, table, (1, 0)), kind="tokens"))


@block("windows")
def windows(b: Builder) -> None:
    """An image cut into windows that move to the batch axis, a layer there, and back (Swin)."""
    x = b.pick("image", where=lambda v: v.shape[2] % 2 == v.shape[3] % 2 == 0)
    if x.shape[2] % 2 or x.shape[3] % 2:
        x = b.op("Concat", x, x, axis=2)
        x = b.op("Concat", x, x, axis=3)
    c, h, w = x.channels, x.shape[2] // 2, x.shape[3] // 2
    rows = reshape(b, transpose(b, x, (0, 2, 3, 1)), (BATCH, h, 2, w, 2, c))
    cut = reshape(b, transpose(b, rows, (0, 1, 3, 2, 4, 5)), (BATCH * h * w, 4, c), "tokens")
    y = linear(b, cut, b.width())
    back = reshape(b, y, (BATCH, h, w, 2, 2, y.channels))
    joined = reshape(b, transpose(b, back, (0, 1, 3, 2, 4, 5)), (BATCH, 2 * h, 2 * w, y.channels))
    b.keep(transpose(b, joined, (0, 3, 1, 2)))
