"""Transforms along positions, and random ops without chance: what no channel may pass, beside what may."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from generators.builder import BATCH, Builder, Value
from generators.forms import reduce, reshape, unsqueeze
from generators.registry import block
from generators.sources import convert, linear
from onnx import TensorProto


def _dft(b: Builder, x: Value) -> Value:
    """Magnitudes of the spectrum of every channel."""
    axis: dict[str, int] = {"axis": 2} if b.opset < 20 else {}
    operands = [] if b.opset < 20 else [Value("", ()), b.const(np.int64(2))]
    complex_ = b.op("DFT", unsqueeze(b, x, [3]), *operands, shape=(*x.shape, 2), **axis)
    return reduce(b, "ReduceL2", complex_, [3], keepdims=False, kind="signal")


def _stft(b: Builder, x: Value) -> Value:
    """Short spectra of the mean over channels, as a gate."""
    mean = reduce(b, "ReduceMean", x, [1], keepdims=False)
    spectra = b.op(
        "STFT", mean, b.const(np.int64(1)), Value("", ()), b.const(np.int64(2)),
        shape=(BATCH, x.shape[2] - 1, 2, 2),
    )  # fmt: skip
    number = b.op("Sigmoid", reduce(b, "ReduceMean", spectra, [1, 2, 3], keepdims=True))
    return b.op("Mul", x, reshape(b, number, (BATCH, 1, 1)), kind="signal")


@block("spectrum")
def spectrum(b: Builder) -> None:
    """DFT or STFT along a signal (opset 17 on)."""
    x = b.pick("signal", where=lambda v: v.shape[2] > 2)
    if b.opset < 17 or x.shape[2] < 3:
        return b.keep(linear(b, x, b.width()))
    return b.keep(linear(b, b.choose([_dft, _stft])(b, x), b.width()))


def _eye(b: Builder, x: Value) -> Value:
    return b.op("Add", x, b.op("EyeLike", x, dtype=TensorProto.FLOAT))


def _bernoulli(b: Builder, x: Value) -> Value:
    certain = b.op("Cast", b.op("Greater", x, b.const(0.0)), to=TensorProto.FLOAT, kind="vector")
    return b.op("Mul", x, b.op("Bernoulli", certain), kind="vector")


def _multinomial(b: Builder, x: Value) -> Value:
    sample = b.op("Multinomial", b.op("Mul", x, b.const(0.0)), sample_size=1, dtype=TensorProto.INT64)
    nothing = b.op("Mul", b.op("Cast", sample, to=TensorProto.FLOAT), b.const(0.0))
    return b.op("Add", x, nothing, kind="vector")


def _normal(b: Builder, x: Value) -> Value:
    noise = b.split_op("RandomNormal", count=1, shape=(1, x.channels), mean=0.5, scale=1e-30)[0]
    return b.op("Add", x, noise, kind="vector")


def _uniform(b: Builder, x: Value) -> Value:
    noise = b.split_op("RandomUniform", count=1, shape=(1, 1), low=0.5, high=0.5)[0]
    return b.op("Mul", x, noise, kind="vector")


@block("no-chance")
def no_chance(b: Builder) -> None:
    """A random op that can draw only one thing."""
    x = convert(b, b.pick(), "vector")
    ways: list[Callable[[Builder, Value], Value]] = []
    ways += [_multinomial, _normal, _uniform] if b.opset < 22 else []  # later forms have no kernel
    ways += [_eye] if b.opset >= 9 else []
    ways += [_bernoulli] if 15 <= b.opset < 22 else []
    b.keep(linear(b, b.choose(ways)(b, x), b.width()))
