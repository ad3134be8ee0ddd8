"""Layers of every kind with what the axes of their weights mean, written down by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
from core_graphs import graph
from numpy.typing import NDArray

from prunec.ir.module import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCase:
    """A model of one layer.

    Attributes:
        text: the model; ``w`` is its weight.
        shape: groups, output channels, kernel positions, input channels.
        axes: for every axis of ``w`` what it is: ``g``, ``o``, ``p``, ``i``, ``go``, ``gi`` or ``-``.
        arrays: initializers with these contents.
    """

    text: str
    shape: tuple[int, int, int, int]
    axes: str
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    @property
    def module(self) -> Module:
        return graph(self.text, opset=21, **self.arrays)


def _whole(*shape: int, dtype: type = np.int8) -> NDArray[np.generic]:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.random.default_rng(sum(shape)).integers(low, high, shape).astype(dtype)


def _number(value: float, dtype: type = np.float32) -> NDArray[np.generic]:
    return np.asarray(value, dtype)


_SCALES = {"s": _number(0.1), "z": _number(0, np.int8), "t": _number(0.5), "r": _number(3, np.int8)}
_PER_CHANNEL = {
    "t": np.linspace(0.1, 0.8, 4, dtype=np.float32),
    "r": np.array([3, -2, 0, 7], np.int8),
}
_SIGNED = "DequantizeLinear<axis = 0>(w, t, r)"

CASES = {
    "conv-1d": LayerCase(
        text="net (float[N,8,9] x) => (float[N,4,7] y) <float[4,8,3] w> { y = Conv(x, w) }",
        shape=(1, 4, 3, 8),
        axes="o i p",
    ),
    "conv-2d": LayerCase(
        text="net (float[N,8,6,6] x) => (float[N,4,4,5] y) <float[4,8,3,2] w, float[4] b> { y = Conv(x, w, b) }",
        shape=(1, 4, 6, 8),
        axes="o i p p",
    ),
    "conv-3d": LayerCase(
        text="net (float[N,8,4,4,4] x) => (float[N,4,3,3,3] y) <float[4,8,2,2,2] w> { y = Conv(x, w) }",
        shape=(1, 4, 8, 8),
        axes="o i p p p",
    ),
    "conv-1x1": LayerCase(
        text="net (float[N,8,6,6] x) => (float[N,4,6,6] y) <float[4,8,1,1] w> { y = Conv(x, w) }",
        shape=(1, 4, 1, 8),
        axes="o i - -",
    ),
    "conv-grouped": LayerCase(
        text="net (float[N,8,6,6] x) => (float[N,6,4,4] y) <float[6,4,3,3] w> { y = Conv<group = 2>(x, w) }",
        shape=(2, 3, 9, 4),
        axes="go i p p",
    ),
    "conv-depthwise": LayerCase(
        text="net (float[N,8,6,6] x) => (float[N,8,4,4] y) <float[8,1,3,3] w> { y = Conv<group = 8>(x, w) }",
        shape=(8, 1, 9, 1),
        axes="g - p p",
    ),
    "conv-one-channel": LayerCase(
        text="net (float[N,1,6,6] x) => (float[N,8,4,4] y) <float[8,1,3,3] w> { y = Conv(x, w) }",
        shape=(1, 8, 9, 1),
        axes="o - p p",
    ),
    "conv-transpose": LayerCase(
        text="net (float[N,8,5] x) => (float[N,4,7] y) <float[8,4,3] w> { y = ConvTranspose(x, w) }",
        shape=(1, 4, 3, 8),
        axes="i o p",
    ),
    "conv-transpose-grouped": LayerCase(
        text="net (float[N,8,5] x) => (float[N,6,7] y) <float[8,3,3] w> { y = ConvTranspose<group = 2>(x, w) }",
        shape=(2, 3, 3, 4),
        axes="gi o p",
    ),
    "fused-conv": LayerCase(
        text="net (float[N,8,6,6] x, float[N,4,4,4] z) => (float[N,4,4,4] y) <float[4,8,3,3] w, float[4] b> "
        '{ y = com.microsoft.FusedConv<activation = "Relu">(x, w, b, z) }',
        shape=(1, 4, 9, 8),
        axes="o i p p",
    ),
    "gemm": LayerCase(
        text="net (float[N,8] x) => (float[N,6] y) <float[8,6] w> { y = Gemm(x, w) }",
        shape=(1, 6, 1, 8),
        axes="i o",
    ),
    "gemm-trans-b": LayerCase(
        text="net (float[N,8] x) => (float[N,6] y) <float[6,8] w, float[6] b> { y = Gemm<transB = 1>(x, w, b) }",
        shape=(1, 6, 1, 8),
        axes="o i",
    ),
    "gemm-left": LayerCase(
        text="net (float[8,3] x) => (float[6,3] y) <float[6,8] w> { y = Gemm(w, x) }",
        shape=(1, 6, 1, 8),
        axes="o i",
    ),
    "gemm-trans-a": LayerCase(
        text="net (float[8,3] x) => (float[6,3] y) <float[8,6] w> { y = Gemm<transA = 1>(w, x) }",
        shape=(1, 6, 1, 8),
        axes="i o",
    ),
    "fused-gemm": LayerCase(
        text="net (float[N,8] x) => (float[N,6] y) <float[6,8] w, float[6] b> "
        '{ y = com.microsoft.FusedGemm<transB = 1, activation = "Relu">(x, w, b) }',
        shape=(1, 6, 1, 8),
        axes="o i",
    ),
    "matmul-right": LayerCase(
        text="net (float[N,5,8] x) => (float[N,5,6] y) <float[8,6] w> { y = MatMul(x, w) }",
        shape=(1, 6, 1, 8),
        axes="i o",
    ),
    "matmul-left": LayerCase(
        text="net (float[N,8,5] x) => (float[N,6,5] y) <float[6,8] w> { y = MatMul(w, x) }",
        shape=(1, 6, 1, 8),
        axes="o i",
    ),
    "matmul-batched": LayerCase(
        text="net (float[3,5,8] x) => (float[3,5,6] y) <float[3,8,6] w> { y = MatMul(x, w) }",
        shape=(3, 6, 1, 8),
        axes="g i o",
    ),
    "fused-matmul": LayerCase(
        text="net (float[N,5,8] x) => (float[N,5,6] y) <float[6,8] w> "
        "{ y = com.microsoft.FusedMatMul<transB = 1>(x, w) }",
        shape=(1, 6, 1, 8),
        axes="o i",
    ),
    "einsum": LayerCase(
        text="net (float[N,5,2,4] x) => (float[N,5,6] y) <float[2,4,6] w> "
        '{ y = Einsum<equation = "bthd,hdo->bto">(x, w) }',
        shape=(1, 6, 1, 8),
        axes="i i o",
    ),
    "transposed": LayerCase(
        text="net (float[N,8] x) => (float[N,6] y) <float[6,8] w> { v = Transpose(w) y = MatMul(x, v) }",
        shape=(1, 6, 1, 8),
        axes="o i",
    ),
    "half-cast": LayerCase(
        text="net (float[N,8] x) => (float[N,6] y) <float16[8,6] w> { v = Cast<to = 1>(w) y = MatMul(x, v) }",
        shape=(1, 6, 1, 8),
        axes="i o",
    ),
    "bfloat16-cast": LayerCase(
        text="net (float[N,8] x) => (float[N,6] y) <bfloat16[8,6] w> { v = Cast<to = 1>(w) y = MatMul(x, v) }",
        shape=(1, 6, 1, 8),
        axes="i o",
    ),
    "qdq-four-bits": LayerCase(
        text="net (float[N,8] x) => (float[N,4] y) { v = DequantizeLinear<axis = 0>(w, t, r) "
        "y = Gemm<transB = 1>(x, v) }",
        shape=(1, 4, 1, 8),
        axes="o i",
        arrays={
            "w": (np.arange(32).reshape(4, 8) % 16 - 8).astype(ml_dtypes.int4),
            "t": _PER_CHANNEL["t"],
            "r": _PER_CHANNEL["r"].astype(ml_dtypes.int4),
        },
    ),
    "qdq-transposed": LayerCase(
        text="net (float[N,8] x) => (float[N,4] y) "
        f"{{ v = {_SIGNED} u = Transpose(v) y = MatMul(x, u) }}",
        shape=(1, 4, 1, 8),
        axes="o i",
        arrays={"w": _whole(4, 8), **_PER_CHANNEL},
    ),
    "transposed-qdq": LayerCase(
        text="net (float[N,8] x) => (float[N,4] y) "
        "{ u = Transpose(w) v = DequantizeLinear<axis = 1>(u, t, r) y = MatMul(x, v) }",
        shape=(1, 4, 1, 8),
        axes="o i",
        arrays={"w": _whole(4, 8), **_PER_CHANNEL},
    ),
    "qdq-conv": LayerCase(
        text=f"net (float[N,8,6,6] x) => (float[N,4,4,4] y) {{ v = {_SIGNED} y = Conv(x, v) }}",
        shape=(1, 4, 9, 8),
        axes="o i p p",
        arrays={"w": _whole(4, 8, 3, 3), **_PER_CHANNEL},
    ),
    "qdq-unsigned": LayerCase(
        text="net (float[N,8] x) => (float[N,6] y) { v = DequantizeLinear(w, t, r) y = MatMul(x, v) }",
        shape=(1, 6, 1, 8),
        axes="i o",
        arrays={"w": _whole(8, 6, dtype=np.uint8), "t": _number(0.1), "r": _number(128, np.uint8)},
    ),
    "fake-quantised": LayerCase(
        text="net (float[N,8] x) => (float[N,6] y) <float[6,8] w> "
        "{ q = QuantizeLinear(w, t, r) v = DequantizeLinear(q, t, r) y = Gemm<transB = 1>(x, v) }",
        shape=(1, 6, 1, 8),
        axes="o i",
        arrays={"t": _number(0.02), "r": _number(5, np.int8)},
    ),
    "qlinear-conv": LayerCase(
        text="net (int8[N,8,6,6] x) => (int8[N,4,4,4] y) { y = QLinearConv(x, s, z, w, t, r, s, z) }",
        shape=(1, 4, 9, 8),
        axes="o i p p",
        arrays={"w": _whole(4, 8, 3, 3), **_SCALES, **_PER_CHANNEL, "r": np.zeros(4, np.int8)},
    ),
    "qlinear-matmul": LayerCase(
        text="net (int8[N,8] x) => (int8[N,6] y) { y = QLinearMatMul(x, s, z, w, t, r, s, z) }",
        shape=(1, 6, 1, 8),
        axes="i o",
        arrays={"w": _whole(8, 6), **_SCALES},
    ),
    "conv-integer": LayerCase(
        text="net (uint8[N,8,6,6] x) => (int32[N,4,4,4] y) { y = ConvInteger(x, w, z, r) }",
        shape=(1, 4, 9, 8),
        axes="o i p p",
        arrays={"w": _whole(4, 8, 3, 3, dtype=np.uint8), "z": _number(0, np.uint8), "r": _number(9, np.uint8)},
    ),
    "matmul-integer": LayerCase(
        text="net (uint8[N,8] x) => (int32[N,6] y) { y = MatMulInteger(x, w, z, r) }",
        shape=(1, 6, 1, 8),
        axes="i o",
        arrays={"w": _whole(8, 6, dtype=np.uint8), "z": _number(0, np.uint8), "r": _number(128, np.uint8)},
    ),
}  # fmt: skip
