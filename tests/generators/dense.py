"""Blocks of matrix products: [N, C], [N, T, C] and products of computed values."""

from __future__ import annotations

from typing import Any

from generators.builder import ABSENT, BATCH, Builder
from generators.forms import gemm, reshape, transpose
from generators.registry import block
from generators.sources import linear


@block("gemm")
def gemm_block(b: Builder) -> None:
    """Every combination of transA, transB, alpha, beta and shape of the addend."""
    x = b.pick("vector")
    k, n = x.channels, b.width()
    trans_a, trans_b = b.size(0, 1), b.size(0, 1)
    left = transpose(b, x, (1, 0)) if trans_a else x
    weight = b.weight(*((n, k) if trans_b else (k, n)), fan_in=k, out_axis=0 if trans_b else 1)
    addend = b.const(b.normal(*b.choose([(n,), (1, n), (1,), ()]), std=0.3)) if b.chance(0.7) else ABSENT
    scales: dict[str, Any] = (
        {"alpha": b.choose([0.5, 1.5]), "beta": b.choose([0.5, 2.0])} if b.chance(0.5) else {}
    )
    b.keep(gemm(b, left, weight, addend, n, transA=trans_a, transB=trans_b, **scales))


@block("matmul")
def matmul(b: Builder) -> None:
    """Constant on the right, by MatMul with or without Add."""
    x = b.pick("tokens", "vector")
    b.keep(linear(b, x, b.width()))


@block("mlp")
def mlp(b: Builder) -> None:
    """Wide, nonlinear, narrow; gated in half of the cases (SwiGLU)."""
    x = b.pick("tokens", "vector", "image")
    wide = b.width(2)
    hidden = b.op("Relu", linear(b, x, wide))
    hidden = b.op("Mul", b.op("Sigmoid", linear(b, x, wide)), hidden) if b.chance(0.5) else hidden
    y = linear(b, hidden, x.channels)
    b.keep(b.op("Add", x, y) if b.chance(0.7) else y)


@block("matmul-left")
def matmul_left(b: Builder) -> None:
    """Constant on the left: mixes tokens, or the channels of a signal."""
    x = b.pick("tokens", "signal")
    rows = b.size(2, 6)
    weight = b.weight(rows, x.shape[1], fan_in=x.shape[1])
    b.keep(b.op("MatMul", weight, x, kind=x.kind))


@block("matmul-batched")
def matmul_batched(b: Builder) -> None:
    """A constant stack of matrices, one for each channel of an image."""
    x = b.pick("image")
    columns = b.size(2, 5)
    stack = (x.channels, x.shape[3], columns) if b.chance(0.7) else (1, x.shape[3], columns)
    b.keep(b.op("MatMul", x, b.weight(*stack, fan_in=x.shape[3])))


@block("matmul-computed")
def matmul_computed(b: Builder) -> None:
    """Both operands computed: over tokens (channel Gram matrix) or over channels (token affinities)."""
    x = b.op("Tanh", b.pick("tokens"))
    y = linear(b, x, x.channels if b.chance(0.5) else b.width())
    if b.chance(0.5):
        b.keep(b.op("MatMul", transpose(b, x, (0, 2, 1)), y, kind="tokens"))
    else:
        scores = b.op("MatMul", linear(b, x, y.channels), transpose(b, y, (0, 2, 1)))
        b.keep(b.op("MatMul", b.op("Softmax", scores, axis=-1), y, kind="tokens"))


@block("tied-matrix")
def tied_matrix(b: Builder) -> None:
    """A matrix and, further on, its transpose: an autoencoder with tied weights."""
    x = b.pick("tokens", "vector")
    weight = b.weight(x.channels, b.width(), fan_in=x.channels, out_axis=1)
    hidden = b.op("Tanh", b.op("MatMul", x, weight))
    if x.kind == "vector":
        b.keep(gemm(b, hidden, weight, ABSENT, x.channels, transB=1))
    else:
        b.keep(b.op("MatMul", hidden, transpose(b, weight, (1, 0))))


@block("einsum")
def einsum(b: Builder) -> None:
    """A layer written as Einsum (opset 12 on; else the plain layer)."""
    x = b.pick("tokens", "image")
    n = b.width()
    if b.opset < 12:
        return b.keep(linear(b, x, n))
    equation = {"tokens": "ntc,oc->nto", "image": "nchw,oc->nohw"}[x.kind]
    return b.keep(b.op("Einsum", x, b.weight(n, x.channels, fan_in=x.channels), equation=equation))


@block("flatten")
def flatten(b: Builder) -> None:
    """Spatial positions and channels in one axis, into a matrix product; Flatten or Reshape."""
    x = b.pick("image", "signal", "tokens", where=lambda v: v.shape[1] * v.shape[2] <= 64)
    features = x.shape[1] * x.shape[2] * (x.shape[3] if len(x.shape) == 4 else 1)
    if b.chance(0.5):
        flat = b.op("Flatten", x, kind="vector", axis=b.choose([1, 1 - len(x.shape)]))
    else:
        flat = reshape(b, x, (BATCH, features), "vector")
    b.keep(linear(b, flat, b.width()))
