"""Ops whose form changed between opsets, and the several ways to say one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from generators.builder import ABSENT, BATCH, Builder, Value

_ATTRIBUTE_AXES_BEFORE = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}  # the other reductions: 18


def _over_axes(
    b: Builder, op_type: str, x: Value, axes: Sequence[int], kind: str, **attributes: Any
) -> Value:
    if b.opset < _ATTRIBUTE_AXES_BEFORE.get(op_type, 18):
        return b.op(op_type, x, kind=kind, axes=list(axes), **attributes)
    return b.op(op_type, x, b.const(np.array(axes, np.int64)), kind=kind, **attributes)


def _maybe_negative(b: Builder, axes: Sequence[int], rank: int) -> list[int]:
    return [a - rank for a in axes] if b.opset >= 11 and b.chance(0.3) else list(axes)


def reduce(
    b: Builder, op_type: str, x: Value, axes: Sequence[int], *, keepdims: bool, kind: str = ""
) -> Value:
    """``ReduceMean`` and its like."""
    return _over_axes(b, op_type, x, _maybe_negative(b, axes, len(x.shape)), kind, keepdims=int(keepdims))


def squeeze(b: Builder, x: Value, axes: Sequence[int], kind: str = "") -> Value:
    """Drop axes of size 1."""
    return _over_axes(b, "Squeeze", x, _maybe_negative(b, axes, len(x.shape)), kind)


def unsqueeze(b: Builder, x: Value, axes: Sequence[int], kind: str = "") -> Value:
    """Insert axes of size 1."""
    return _over_axes(b, "Unsqueeze", x, _maybe_negative(b, axes, len(x.shape) + len(axes)), kind)


def split(b: Builder, x: Value, sizes: Sequence[int], axis: int, kind: str = "") -> list[Value]:
    """Cut ``x`` along an axis; equal sizes are often left implicit."""
    count, axis = len(sizes), _maybe_negative(b, [axis], len(x.shape))[0]
    if len(set(sizes)) == 1 and b.chance(0.5):
        implicit = {"num_outputs": count} if b.opset >= 18 else {}
        return b.split_op("Split", x, count=count, kind=kind, axis=axis, **implicit)
    if b.opset < 13:
        return b.split_op("Split", x, count=count, kind=kind, axis=axis, split=list(sizes))
    return b.split_op("Split", x, b.const(np.array(sizes, np.int64)), count=count, kind=kind, axis=axis)


def slice_axis(b: Builder, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
    """``x[..., start:end:step, ...]`` on one axis."""
    return slice_axes(b, x, {axis: (start, end, step)})


def slice_axes(b: Builder, x: Value, windows: Mapping[int, tuple[int, int, int]]) -> Value:
    """``x[..., start:end:step, ...]`` on several axes at once."""
    if b.opset < 10:
        return _old_slices(b, x, windows)
    starts, ends, steps = zip(*windows.values(), strict=True)
    bounds = [starts, ends, _maybe_negative(b, list(windows), len(x.shape)), steps]
    operands = [b.const(np.array(item, np.int64)) for item in bounds]
    return b.op("Slice", x, *(operands[:3] if set(steps) == {1} and b.chance(0.5) else operands))


def _old_slices(b: Builder, x: Value, windows: Mapping[int, tuple[int, int, int]]) -> Value:
    """Before opset 10: bounds are attributes, and steps are written as a Gather."""
    plain = {axis: bounds for axis, bounds in windows.items() if bounds[2] == 1}
    if plain:
        starts, ends, _ = zip(*plain.values(), strict=True)
        x = b.op("Slice", x, kind=x.kind, axes=list(plain), starts=list(starts), ends=list(ends))
    for axis in windows.keys() - plain.keys():
        index = np.arange(x.shape[axis])[slice(*windows[axis])]
        x = b.op("Gather", x, b.const(index), axis=axis, kind=x.kind)
    return x


def clip(b: Builder, x: Value, low: float, high: float | None) -> Value:
    """Bounds as operands, or before opset 11 as attributes."""
    if b.opset < 11:
        return b.op("Clip", x, min=low, **({} if high is None else {"max": high}))
    return b.op("Clip", x, b.const(low), *([] if high is None else [b.const(high)]))


def gemm(b: Builder, x: Value, weight: Value, addend: Value, channels: int, **attributes: Any) -> Value:
    """``x @ weight + addend``; the addend may be absent from opset 11 on."""
    if not addend.name and b.opset < 11:
        addend = b.const(np.zeros(channels, np.float32))
    return b.op("Gemm", x, weight, *([addend] if addend.name else []), **attributes)


def pad(b: Builder, x: Value, axis: int, before: int, after: int, mode: str = "constant") -> Value:
    """Pad (or with negative counts crop) one axis."""
    pads = np.zeros((2, len(x.shape)), np.int64)
    pads[:, axis] = before, after
    if b.opset < 11:
        return b.op("Pad", x, pads=pads.reshape(-1).tolist(), mode=mode)
    value = [b.const(0.5)] if mode == "constant" and b.chance(0.5) else []
    return b.op("Pad", x, b.const(pads.reshape(-1)), *value, mode=mode)


def resize(b: Builder, x: Value, factor: float) -> Value:
    """Scale the spatial axes."""
    sizes = np.array([1, 1] + [factor] * len(x.space), np.float32)
    if b.opset < 9:
        return b.op("Upsample", x, scales=sizes.tolist())
    scales = b.initializer(sizes)
    if b.opset < 11:
        return b.op("Resize" if b.opset == 10 else "Upsample", x, scales, kind=x.kind)
    roi = b.const(np.zeros(0, np.float32)) if b.opset < 13 else ABSENT
    mode = "linear" if x.kind == "image" and b.chance(0.5) else "nearest"
    rounding: dict[str, Any] = (
        {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"} if mode == "nearest" else {}
    )
    return b.op("Resize", x, roi, scales, mode=mode, **rounding)


def transpose(b: Builder, x: Value, perm: Sequence[int], kind: str = "") -> Value:
    """Reorder axes."""
    return b.op("Transpose", x, kind=kind, perm=list(perm))


def layer_norm(b: Builder, x: Value) -> Value:
    """Normalise over the last axis, as one op or written out (before opset 17 always)."""
    c = x.shape[-1]
    scale, shift = b.const(1 + b.normal(c, std=0.2)), b.const(b.normal(c, std=0.2))
    if b.opset >= 17 and b.chance(0.6):
        return b.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-3)
    centred = b.op("Sub", x, reduce(b, "ReduceMean", x, [len(x.shape) - 1], keepdims=True))
    square = b.op("Pow", centred, b.const(2.0)) if b.chance(0.5) else b.op("Mul", centred, centred)
    variance = reduce(b, "ReduceMean", square, [len(x.shape) - 1], keepdims=True)
    normal = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.const(1e-3))))
    return b.op("Add", b.op("Mul", normal, scale), shift)


def shape_of(b: Builder, x: Value, target: Sequence[int]) -> Value:
    """``target`` as a computed tensor: the batch size read from ``x``, the rest constants."""
    shape = b.op("Shape", x)
    if b.chance(0.5):
        batch = b.op("Gather", shape, b.const(np.array([0], np.int64)), axis=0)
    else:
        batch = unsqueeze(b, b.op("Gather", shape, b.const(np.int64(0)), axis=0), [0])
    return b.op("Concat", batch, b.const(np.array(target[1:], np.int64)), axis=0)


def reshape(b: Builder, x: Value, target: Sequence[int], kind: str = "") -> Value:
    """Reshape to ``target``, written in one of many ways: literal, with 0 and -1, or computed from ``x``.

    Args:
        b: the graph.
        x: has the batch, or a multiple of it, on axis 0.
        target: full sizes; its axis 0 likewise.
        kind: layout of the result.
    """
    same_batch = x.shape[0] == target[0] == BATCH
    if same_batch and b.chance(0.2):
        return b.op("Reshape", x, shape_of(b, x, target), shape=target, kind=kind)
    literal = list(target)
    if b.dynamic:
        literal[0] = 0 if same_batch and b.chance(0.6) else -1
    zeros = [a for a in range(min(len(target), len(x.shape))) if target[a] == x.shape[a]]
    for axis in zeros:
        literal[axis] = 0 if literal[axis] > 0 and b.chance(0.25) else literal[axis]
    if -1 not in literal and b.chance(0.5):
        literal[b.choose([a for a in range(len(target)) if not (b.dynamic and a == 0)])] = -1
    assert prod(target) == prod(x.shape), (x, target)
    return b.op("Reshape", x, b.const(np.array(literal, np.int64)), shape=target, kind=kind)
