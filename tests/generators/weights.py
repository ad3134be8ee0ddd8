"""Unusual ways in which a weight reaches its layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from generators.builder import Builder, Value
from generators.registry import style
from onnx import numpy_helper


@style("weight-in-node")
def in_node(b: Builder, array: np.ndarray, out_axis: int) -> Value:
    """The value of a Constant node."""
    return b.op("Constant", value=numpy_helper.from_array(array))


@style("weight-identity")
def identity(b: Builder, array: np.ndarray, out_axis: int) -> Value:
    """An initializer under a second name."""
    return b.op("Identity", b.initializer(array, "weight"))


@style("weight-transposed")
def transposed(b: Builder, array: np.ndarray, out_axis: int) -> Value:
    """Stored with its axes in another order."""
    perm = b.rng.permutation(array.ndim)
    stored = np.ascontiguousarray(array.transpose(np.argsort(perm)))
    return b.op("Transpose", b.initializer(stored, "weight"), perm=perm.tolist())


@style("weight-reused")
def reused(b: Builder, array: np.ndarray, out_axis: int) -> Value | None:
    """The weight of an earlier layer: tied."""
    same = [value for value in b.plain_weights if value.shape == array.shape]
    return b.choose(same) if same else None


@style("weight-scaled")
def scaled(b: Builder, array: np.ndarray, out_axis: int) -> Value:
    """Direction times a length per output channel, as weight normalisation exports it."""
    shape = [-1 if axis == out_axis else 1 for axis in range(array.ndim)]
    length = np.asarray(b.rng.uniform(0.5, 1.5, array.shape[out_axis]))
    return b.op("Mul", b.initializer(array, "weight"), b.const(length.reshape(shape)))


@style("weight-qdq")
def quantised(b: Builder, array: np.ndarray, out_axis: int) -> Value | None:
    """Through int8: per channel (per tensor before opset 13), by QuantizeLinear or already stored so."""
    if b.opset < 10:
        return None
    per_channel = b.opset >= 13 and b.chance(0.8)
    others = tuple(a for a in range(array.ndim) if a != out_axis or not per_channel)
    step = np.asarray(np.abs(array).max(axis=others, keepdims=True) / 127 + 1e-5, np.float32)
    scale = b.initializer(step.reshape(-1) if per_channel else step.reshape(()), "scale")
    zero = b.initializer(np.zeros(scale.shape, np.int8), "zero_point")
    axis: dict[str, Any] = {"axis": out_axis} if per_channel else {}
    if b.chance(0.5):
        stored = b.initializer(np.round(array / step).astype(np.int8), "weight")
    else:
        stored = b.op("QuantizeLinear", b.initializer(array, "weight"), scale, zero, **axis)
    return b.op("DequantizeLinear", stored, scale, zero, **axis)
