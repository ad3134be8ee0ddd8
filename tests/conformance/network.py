"""What a conformance case is: ONNX text with random sizes, and what pruning must do to it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from core_graphs import Array, graph
from onnx import TensorProto, helper

from prunec.ir.module import Module

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A graph and what must come of it when half of every group goes.

    Attributes:
        text: inputs, outputs and nodes: ``(float[2,3] x) => (float[2,5] y) { y = MatMul(x, w) }``.
        weights: the constants as ``float[4,3] w, uint8[4] q``, filled at random (see ``constant``) where they
            are not given, as ``int64[2] axes={0;1}`` or ``int64[4] i={range}``.
        arrays: further constants with their contents.
        opset: version of the default domain.
        cut: names of the constants that must lose slots.
        stay: names of constants that must not, although they have weights on both sides.
        reason: what some frozen group must give as its reason.
        attributes: attributes after the cut, by the output of their node.
        unit: what attention loses.
    """

    text: str
    weights: str
    arrays: Mapping[str, Array] = field(default_factory=dict)
    opset: int = 17
    cut: str = ""
    stay: str = ""
    reason: str = ""
    attributes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    unit: str = "head"

    def build(self, seed: int) -> Module:
        """The module, with contents that depend on the seed."""
        made = constants(self.weights, seed)
        return graph(f"net {self.text}", opset=self.opset, **made, **self.arrays)


def constants(text: str, seed: int) -> dict[str, Array]:
    """Arrays by name for ``float[4,3] w, int64[2] axes={0;1}, int64[4] i={range}``."""
    made = {}
    for kind, axes, name, given in re.findall(r"(\w+)(?:\[([\d,]*)\])? (\w+)(?:=\{(.*?)\})?", text):
        shape = tuple(int(n) for n in axes.split(",") if n)
        made[name] = constant(kind, shape, name, seed)
        if given:
            array = (
                np.arange(shape[0]) if given == "range" else np.array([float(n) for n in given.split(";")])
            )
            array = np.full(shape, array.item()) if array.size == 1 else array.reshape(shape)
            made[name] = array.astype(made[name].dtype)
    return made


def constant(kind: str, shape: tuple[int, ...], name: str, seed: int) -> Array:
    """Random contents: ``scale...`` are small and positive, ``zero...`` zero points away from zero, ``var...``
    positive; other floats normal, bytes of their whole range, other integers between -500 and 500.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind.upper()))
    if kind in ("float", "float16", "double"):
        values = (
            rng.uniform(0.01, 0.03, shape) if name.startswith("scale") else rng.standard_normal(shape) / 2
        )
        return np.asarray(0.5 + np.abs(values) if name.startswith("var") else values, dtype)
    if name.startswith("zero"):
        return np.asarray(rng.integers(100, 150, shape) - (128 if kind == "int8" else 0), dtype)
    low, high = {"uint8": (0, 256), "int8": (-128, 128), "bool": (0, 2)}.get(kind, (-500, 501))
    return np.asarray(rng.integers(low, high, shape), dtype)


class Draw:
    """Random choices of a case; the same seed draws the same."""

    def __init__(self, seed: int, name: str) -> None:
        self.rng = np.random.default_rng([seed, zlib.crc32(name.encode())])

    def even(self, low: int, high: int) -> int:
        """An even number, so that half of it is a whole number."""
        return int(self.rng.integers(low // 2, high // 2 + 1)) * 2

    def size(self, low: int = 2, high: int = 6) -> int:
        """Any number."""
        return int(self.rng.integers(low, high + 1))

    def one(self, *choices: T) -> T:
        """One of these."""
        return choices[int(self.rng.integers(len(choices)))]


Case = Callable[[Draw], Network]

CASES: dict[str, Case] = {}
"""Cases by name."""


def case(function: Case) -> Case:
    """Register a case under its function's name."""
    add(function.__name__, function)
    return function


def add(name: str, function: Case) -> None:
    """Register a case under a name."""
    assert name not in CASES, f"two cases are called {name}"
    CASES[name] = function
