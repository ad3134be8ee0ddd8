"""Blocks that move data and compute nothing: the indices of channels go astray here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from generators.builder import BATCH, Builder, Value
from generators.forms import (
    pad,
    reduce,
    reshape,
    shape_of,
    slice_axes,
    slice_axis,
    split,
    squeeze,
    transpose,
    unsqueeze,
)
from generators.registry import block
from generators.sources import convert, linear, with_multiple


@block("convert")
def convert_block(b: Builder) -> None:
    """The same data in another layout: tokens from an image, a vector by its mean..."""
    x = b.pick()
    b.keep(convert(b, x, b.choose([k for k in ("vector", "signal", "image", "tokens") if k != x.kind])))


def _branches(b: Builder, x: Value) -> list[Value]:
    """Two or three values of the same extents: ``x``, a layer on it, an activation of it."""
    ways: list[Callable[[], Value]] = [lambda: x, lambda: linear(b, x, b.width()), lambda: b.op("Relu", x)]
    return [b.choose(ways)() for _ in range(b.size(2, 3))]


@block("concat")
def concat(b: Builder) -> None:
    x = b.pick()
    b.keep(b.op("Concat", *_branches(b, x), axis=b.choose([x.axis, x.axis - len(x.shape)]), kind=x.kind))


@block("concat-self")
def concat_self(b: Builder) -> None:
    """A tensor beside itself, then mixed again or not."""
    x = b.pick()
    y = b.op("Concat", x, x, axis=x.axis)
    b.keep(linear(b, y, b.width()) if b.chance(0.5) else y)


@block("split-concat")
def split_concat(b: Builder) -> None:
    """Parts in another order, one of them through a layer of its own."""
    x = with_multiple(b, b.pick(), b.choose([2, 3]))
    x = x if x.channels >= 3 else linear(b, x, 6)
    if b.chance(0.5):
        count = b.choose([d for d in (2, 3, 4) if x.channels % d == 0] or [x.channels])
        sizes = [x.channels // count] * count
    else:
        first = b.size(1, x.channels - 2)
        sizes = [first, x.channels - first - 1, 1]
    parts = split(b, x, sizes, x.axis, x.kind)
    at = b.size(0, len(parts) - 1)
    parts[at] = linear(b, parts[at], parts[at].channels) if b.chance(0.5) else b.op("Relu", parts[at])
    order = b.rng.permutation(len(parts))
    b.keep(b.op("Concat", *(parts[i] for i in order), axis=x.axis, kind=x.kind))


@block("split-gate")
def split_gate(b: Builder) -> None:
    """One half gates the other (GLU)."""
    x = with_multiple(b, b.pick(), 2)
    value, gate = split(b, x, [x.channels // 2] * 2, x.axis, x.kind)
    b.keep(b.op("Mul", value, b.op("Sigmoid", gate)))


@block("slice")
def slice_block(b: Builder) -> None:
    """Some channels: a range, every second one, or all in reverse; at times some positions too, backwards."""
    x = with_multiple(b, b.pick(), 4)
    c, far = x.channels, 2**31 - 1
    ranges = [(1, c, 1), (0, -1, 1), (0, far, 2), (1, c, 2), (-1, -far, -1), (c // 2, far, 1), (-2, -far, -2)]
    windows = {x.axis: b.choose(ranges)}
    if x.space and x.shape[x.space[0]] > 2 and b.chance(0.3):
        windows = {x.space[0]: (-1, -3, -1), **windows}
    b.keep(slice_axes(b, x, windows))


@block("gather")
def gather(b: Builder) -> None:
    """Some channels by constant indices: repeated, reversed, negative, permuted."""
    x = b.pick()
    c = x.channels
    choices = [b.rng.integers(0, c, c), np.arange(c)[::-1], b.rng.integers(-c, 0, c), b.rng.permutation(c)]
    index = b.choose(choices).astype(np.int64)
    b.keep(b.op("Gather", x, b.const(index if b.opset >= 11 else index % c), axis=x.axis, kind=x.kind))


@block("pad")
def pad_block(b: Builder) -> None:
    """Zeros or reflections around positions, or channels of zeros behind the others."""
    x = b.pick("image", "signal", "tokens")
    if b.chance(0.4):
        return b.keep(
            pad(b, x, x.axis, *b.choose([(0, 2), (1, 1), (2, 0), (0, -1)] if x.channels > 2 else [(0, 2)]))
        )
    axis = b.choose(x.space)
    mode = b.choose(["constant", "edge", "reflect"] if x.shape[axis] > 1 else ["constant"])
    return b.keep(pad(b, x, axis, b.size(0, 1), 1, mode))


@block("channel-shuffle")
def channel_shuffle(b: Builder) -> None:
    groups = b.choose([2, 3])
    x = with_multiple(b, b.pick("image", "signal"), groups)
    spatial, c = x.shape[2:], x.channels
    y = reshape(b, x, (BATCH, groups, c // groups, *spatial))
    y = transpose(b, y, (0, 2, 1, *range(3, 3 + len(spatial))))
    b.keep(reshape(b, y, x.shape, x.kind))


@block("patch-merge")
def patch_merge(b: Builder) -> None:
    """Every second row and column, four times, side by side (Focus, Swin)."""
    x = b.pick("image", where=lambda v: v.shape[2] % 2 == v.shape[3] % 2 == 0)
    x = (
        x
        if x.shape[2] % 2 == x.shape[3] % 2 == 0
        else pad(b, pad(b, x, 2, 0, x.shape[2] % 2), 3, 0, x.shape[3] % 2)
    )
    far = 2**31 - 1
    parts = [slice_axis(b, slice_axis(b, x, 2, i, far, 2), 3, j, far, 2) for j in (0, 1) for i in (0, 1)]
    b.keep(linear(b, b.op("Concat", *parts, axis=1), b.width()))


@block("reduce-spatial")
def reduce_spatial(b: Builder) -> None:
    """One position axis or all, kept as size 1 or dropped."""
    x = b.pick("image", "signal", "tokens")
    op_type = b.choose(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"])
    axes, keepdims = (x.space if b.chance(0.5) else (b.choose(x.space),)), b.chance(0.5)
    y = reduce(b, op_type, x, axes, keepdims=keepdims)
    left = len(y.shape)
    y = Value(y.name, y.shape, x.kind if keepdims else {2: "vector", 3: "signal"}[left])
    b.keep(b.op("Mul", y, b.const(0.25), kind=y.kind) if op_type in ("ReduceSum", "ReduceL2") else y)


@block("reduce-channels")
def reduce_channels(b: Builder) -> None:
    """The channels folded into one number: as a gate, or with a new channel axis behind it."""
    x = b.pick("image", "signal", "tokens")
    op_type = b.choose(["ReduceMean", "ReduceMax"])
    if b.chance(0.5):
        gate = b.op("Sigmoid", reduce(b, op_type, x, [x.axis], keepdims=True, kind=x.kind))
        return b.keep(b.op("Mul", x, gate))
    y = unsqueeze(b, reduce(b, op_type, x, [x.axis], keepdims=False), [x.axis], x.kind)
    return b.keep(linear(b, y, b.width()))


@block("squeeze-unsqueeze")
def squeeze_unsqueeze(b: Builder) -> None:
    """An axis of size 1 goes and comes back, there or elsewhere."""
    x = b.pick("image", "signal", "vector")
    if x.kind == "image":
        y = squeeze(b, reduce(b, "ReduceMean", x, [3], keepdims=True), [3], "signal")
        return b.keep(unsqueeze(b, b.op("Tanh", y), [b.choose([2, 3])], "image") if b.chance(0.6) else y)
    y = unsqueeze(b, x, [b.choose([2, len(x.shape)])])
    return b.keep(squeeze(b, b.op("Tanh", y), [y.shape.index(1, 2)], x.kind))


@block("expand")
def expand(b: Builder) -> None:
    """Size 1 to more: positions of a pooled value, or a single channel to several."""
    x = b.pick("image", "signal")
    if b.chance(0.5):
        y, target = reduce(b, "ReduceMean", x, x.space, keepdims=True), (1, 1, *x.shape[2:])
    else:
        y, target = linear(b, x, 1), (1, x.channels, *[1] * len(x.space))
    full = (BATCH, *np.maximum(y.shape[1:], target[1:]).tolist())
    shape = shape_of(b, x, target) if b.chance(0.5) else b.const(np.array(target, np.int64))
    y = b.op("Expand", y, shape, shape=full, kind=x.kind) if b.opset >= 8 else y
    b.keep(b.op(b.choose(["Add", "Sub", "Max"] if b.opset >= 8 else ["Add", "Sub"]), x, y))


@block("tile")
def tile(b: Builder) -> None:
    """Repeat along the channels or along positions."""
    x = b.pick()
    repeats = np.ones(len(x.shape), np.int64)
    repeats[b.choose([x.axis, *x.space])] = 2
    b.keep(b.op("Tile", x, b.const(repeats)))


@block("roll")
def roll(b: Builder) -> None:
    """A cyclic shift of positions or channels."""
    x = b.pick("image", "tokens", where=lambda v: min(v.shape[1:]) > 1)
    axis = b.choose([a for a in range(1, len(x.shape)) if x.shape[a] > 1] or [x.axis])
    shift = b.size(1, max(1, x.shape[axis] - 1))
    parts = [slice_axis(b, x, axis, shift, 2**31 - 1), slice_axis(b, x, axis, 0, shift)]
    b.keep(b.op("Concat", *(parts if x.shape[axis] > 1 else [x]), axis=axis))


@block("group-sum")
def group_sum(b: Builder) -> None:
    """Channels folded in groups: an axis of groups x members, reduced over one of the two (maxout)."""
    x = with_multiple(b, b.pick("image", "signal"), 2)
    y = reshape(b, x, (BATCH, 2, x.channels // 2, *x.shape[2:]))
    b.keep(
        reduce(b, b.choose(["ReduceMax", "ReduceMean"]), y, [b.choose([1, 2])], keepdims=False, kind=x.kind)
    )
