"""Quantised ops: integers with scales and zero points that are cut with the channel that they belong to.

A removed slice is "zero" when it holds the zero point, which is what the masked reference writes there. A
scale that is found at run time from the range of a tensor is a statistic over all of the tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.op import Op, Role
from prunec.ir.ops.attention import Attention
from prunec.ir.ops.einsum import Einsum
from prunec.ir.ops.elementwise import factors, sizes
from prunec.ir.registry import register
from prunec.ir.rule import Operand, Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantise(Op):
    """QuantizeLinear and DequantizeLinear: elementwise, with a scale and zero point per tensor, per slot of
    an axis, or per block of such slots.

    Attributes:
        integers: input 0 is the integers, so that its zero is the zero point.
    """

    integers: bool

    def rule(self, site: Site) -> Rule:
        """Scale and zero point share the factor of the quantised axis, or of its blocks."""
        shape = site.shape(0)
        data = factors(shape)
        known = sizes(shape, data)
        fixed = {}
        if (block := site.int_attribute("block_size", 0)) and shape:
            axis = self._axis(site)
            if shape[axis] % block:
                raise RuleError(f"{shape[axis]} slots are no whole number of blocks of {block}")
            known |= {"blocks": shape[axis] // block, "block": block}
            fixed["block"] = "a position in a quantised block"
            data = (*data[:axis], _term(known, "blocks", "block"), *data[axis + 1 :])
        vectors = [self._vector(site, i, data) for i in range(1, len(site.node.inputs))]
        return Rule(inputs=(data, *vectors), outputs=(data,), sizes=known, fixed=fixed)

    def _vector(self, site: Site, position: int, data: Operand) -> Operand | None:
        """The terms of a scale or zero point; None for a single number."""
        if not site.has(position) or np.prod(shape := site.shape(position)) == 1:
            return None
        axis = self._axis(site)
        if len(shape) == 1:
            return (data[axis],)
        return (*data[:axis], tuple(f for f in data[axis] if f != "block"), *data[axis + 1 :])

    def zero(self, site: Site, position: int) -> Array:
        """The zero point, spread over the tensor, for the integers; 0 for everything else."""
        point = site.constant(2)
        if position != 0 or point is None or not self.integers:
            return np.zeros(())
        return self._spread(site, point)

    def step(self, site: Site, position: int) -> Array:
        """The scale, spread over the tensor, for the integers; 1 for everything else."""
        scale = site.constant(1)
        if position != 0 or scale is None or not self.integers:
            return np.ones(())
        return self._spread(site, scale)

    def real(self, site: Site, position: int) -> Array | None:
        """``(x - zero point) * scale`` for the integers."""
        integers = site.constant(0)
        if position != 0 or not self.integers or integers is None or site.constant(1) is None:
            return None
        centred = integers.astype(np.float32) - self.zero(site, 0).astype(np.float32)
        return centred * self.step(site, 0).astype(np.float32)

    def _spread(self, site: Site, vector: Array) -> Array:
        """A scale or zero point in a shape that broadcasts against the tensor."""
        shape, axis = site.shape(0), self._axis(site)
        if vector.size == 1:
            return vector.reshape(())
        if vector.ndim == 1:
            return vector.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        return np.repeat(vector, -(-shape[axis] // vector.shape[axis]), axis)

    def _axis(self, site: Site) -> int:
        return site.int_attribute("axis", 1) % max(1, len(site.shape(0)))


def _term(known: Mapping[str, int], *names: str) -> tuple[str, ...]:
    return tuple(name for name in names if known[name] > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedEinsum(Einsum):
    """A contraction of integers.

    Attributes:
        points: position of the zero point of a tensor, by the tensor's.
        scales: position of its scale, likewise.
    """

    points: Mapping[int, int] = field(default_factory=dict)
    scales: Mapping[int, int] = field(default_factory=dict)

    def zero(self, site: Site, position: int) -> Array:
        """The zero point of the tensor at a position."""
        point = site.constant(self.points.get(position, -1)) if position in self.points else None
        return np.zeros(()) if point is None else self._spread(site, position, self.points[position], point)

    def step(self, site: Site, position: int) -> Array:
        """The scale of the tensor at a position; 1 where it has none that is known."""
        scale = site.constant(self.scales[position]) if position in self.scales else None
        return np.ones(()) if scale is None else self._spread(site, position, self.scales[position], scale)

    def real(self, site: Site, position: int) -> Array | None:
        """``(w - zero point) * scale``, with what is known of the two."""
        integers = site.constant(position) if position in self.points else None
        if integers is None:
            return None
        values = integers.astype(np.float32) - self.zero(site, position).astype(np.float32)
        return values * self.step(site, position).astype(np.float32)

    def _spread(self, site: Site, position: int, source: int, vector: Array) -> Array:
        """A vector in a shape that broadcasts against the tensor on the axes with the vector's factors."""
        if vector.size == 1:
            return vector.reshape(())
        rule = self.rule(site)
        tensor, terms = rule.inputs[position], rule.inputs[source]
        if tensor is None or terms is None:
            return np.zeros(())
        lengths = {term: size for term, size in zip(terms, vector.shape, strict=True) if term in tensor}
        shape = [lengths.get(term, 1) if term else 1 for term in tensor]
        return vector.reshape(shape) if prod(shape) == vector.size else np.zeros(())


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedConv(QuantisedEinsum):
    """A convolution of integers, with channels behind batch or, on request, last."""

    def rule(self, site: Site) -> Rule:
        """The rule text for the node's layout."""
        text = self.text
        if site.int_attribute("channels_last", 0):
            text = text.replace("n (g c) *s", "n *s (g c)").replace("n (g o) *t", "n *t (g o)")
        return self.fitted(site, text, {"g": site.int_attribute("group", 1)})


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedGemm(QuantisedEinsum):
    """Gemm of integers."""

    def rule(self, site: Site) -> Rule:
        """The rule text with the operands that are transposed."""
        a = "k m" if site.int_attribute("transA", 0) else "m k"
        b = "n k" if site.int_attribute("transB", 0) else "k n"
        c = " ".join(("m", "n")[2 - len(site.shape(6)) :]) if site.has(6) else "-"
        return self.fitted(site, f"{a}, -, -, {b}, n, n, {c} -> m n", {})


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedAttention(Attention):
    """Attention on integers, with a scale and zero point per tensor or per column of the weight."""

    def zero(self, site: Site, position: int) -> Array:
        """The zero point of the weight; 0 for the bias."""
        point = site.constant(7)
        return np.zeros(()) if position != 1 or point is None else np.squeeze(point)

    def step(self, site: Site, position: int) -> Array:
        """The scale of the weight; 1 for everything else."""
        scale = site.constant(4)
        return np.ones(()) if position != 1 or scale is None else np.squeeze(scale)

    def real(self, site: Site, position: int) -> Array | None:
        """``(w - zero point) * scale`` for the weight."""
        integers = site.constant(position)
        if position != 1 or integers is None or site.constant(4) is None:
            return None
        return (integers.astype(np.float32) - self.zero(site, 1)) * self.step(site, 1).astype(np.float32)


def _contraction(
    text: str,
    *,
    weight: int,
    point: int | None,
    scale: int | None = None,
    bias: int | None = None,
    kind: type[QuantisedEinsum] = QuantisedEinsum,
    statistic: bool = False,
) -> QuantisedEinsum:
    convolution = kind is QuantisedConv
    roles: dict[int, Role] = {weight: "weight"}
    return kind(
        text=text,
        points={} if point is None else {weight: point},
        scales={} if scale is None else {weight: scale},
        numbers=frozenset(range(10)) - {0, weight, bias},
        roles=roles if bias is None else {**roles, bias: "bias"},
        linear=True,
        statistic=statistic,
        reduced="c *k" if convolution else "*b m k" if statistic else "k",
        fixed="*s *k *t" if convolution else "",
        attributes={"group": "g"} if convolution else {},
        uncounted="s" if convolution else "",
        zeroed=frozenset({weight} if bias is None else {weight, bias}),
    )


def register_ops() -> None:
    """Register the family's ops."""
    for domain in ("", _CONTRIB):
        there = Quantise(integers=False, zeroed=frozenset({0}), transparent=True)
        register("QuantizeLinear", there, domain=domain)
        back = Quantise(integers=True, zeroed=frozenset({0}), roles={0: "weight"}, transparent=True)
        register("DequantizeLinear", back, domain=domain)
        convolution = "n (g c) *s, -, -, (g o) c *k, (g o), (g o), -, -, (g o) -> n (g o) *t"
        conv = _contraction(convolution, weight=3, scale=4, point=5, bias=8, kind=QuantisedConv)
        register("QLinearConv", conv, domain=domain)
    convolution = "n (g c) *s, (g o) c *k, -, (g o) -> n (g o) *t"
    register("ConvInteger", _contraction(convolution, weight=1, point=3, kind=QuantisedConv))
    matmul = "*b m k, m, m, *b k n, n, n, m, m -> *b m n"
    register("QLinearMatMul", _contraction(matmul, weight=3, scale=4, point=5))
    register("MatMulInteger", _contraction("*b m k, *b k n, m, n -> *b m n", weight=1, point=3))
    register("DynamicQuantizeLinear", Einsum(text="*a -> *a, -, -", reduced="*a"))
    _register_contrib()


def _register_contrib() -> None:
    gemm = _contraction("", weight=3, scale=4, point=5, bias=6, kind=QuantisedGemm)
    register("QGemm", gemm, domain=_CONTRIB)
    text = "*b m k, *b k n, m, n, m, n, n -> *b m n"
    to_float = _contraction(text, weight=1, scale=3, point=5, bias=6)
    register("MatMulIntegerToFloat", to_float, domain=_CONTRIB)
    text = "*b m k, *b k n, n, n, n -> *b m n"
    dynamic = _contraction(text, weight=1, scale=2, point=3, bias=4, statistic=True)
    register("DynamicQuantizeMatMul", dynamic, domain=_CONTRIB)
    plain = _contraction("*b m k, *b k n -> *b m n", weight=1, point=None)
    register("MatMulInteger16", plain, domain=_CONTRIB)
    tables = {i: i + 11 for i in range(2, 7)}
    embed = QuantisedEinsum(
        text="n s, n s, v k, p k, w k, k, k -> n s k, -",
        reduced="k",
        fixed="v p w",
        why="a row of a table",
        roles={2: "weight", 3: "weight", 4: "weight", 5: "scale", 6: "bias"},
        points=tables,
        scales={i: i + 6 for i in tables},
        numbers=frozenset(range(8, 18)),
        zeroed=frozenset(tables),
    )
    register("QEmbedLayerNormalization", embed, domain=_CONTRIB)
    attention = QuantisedAttention(
        text="n s k, k (), (), -, (), -, -, (), u n h p d -> n s (h e), u n h q d",
        reduced="k",
        roles={1: "weight", 2: "bias"},
        zeroed=frozenset({1, 2}),
        numbers=frozenset({3, 4, 6, 7}),
        vectors=(1, 2, 4, 7),
    )
    register("QAttention", attention, domain=_CONTRIB)
