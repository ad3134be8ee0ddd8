"""Quantised ops: integers with scales and zero points that are cut with the channel that they belong to.

A removed slice is "zero" when it holds the zero point, which is what the masked reference writes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.op import Op, Role
from prunec.ir.ops.einsum import Einsum
from prunec.ir.ops.elementwise import Elementwise, aligned, factors, sizes
from prunec.ir.registry import register
from prunec.ir.rule import Operand, Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantise(Op):
    """QuantizeLinear and DequantizeLinear: elementwise, with a scale and zero point per tensor or per slot of
    an axis.
    """

    def rule(self, site: Site) -> Rule:
        """Scale and zero point share the factor of the quantised axis.

        Raises:
            RuleError: the tensor is quantised in blocks.
        """
        shape = site.shape(0)
        if site.int_attribute("block_size", 0):
            raise RuleError("it quantises in blocks")
        data = factors(shape)
        axis = self._axis(site)
        vectors: list[Operand | None] = [
            None
            if value is None
            else (data[axis],)
            if len(site.shape(i)) == 1 and site.shape(i)[0] > 1
            else None
            for i, value in enumerate(site.node.inputs[1:], start=1)
        ]
        return Rule(inputs=(data, *vectors), outputs=(data,), sizes=sizes(shape, data))

    def zero(self, site: Site, position: int) -> NDArray[Any]:
        """The zero point, spread along the quantised axis, for the tensor itself; a scale or zero point
        stays.
        """
        point = site.number(2)
        if position != 0 or point is None:
            return np.zeros(())
        shape = [1] * len(site.shape(0))
        if point.size > 1:
            shape[self._axis(site)] = point.size
        return point.reshape(shape)

    def _axis(self, site: Site) -> int:
        return site.int_attribute("axis", 1) % max(1, len(site.shape(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedEinsum(Einsum):
    """A contraction of integers; ``points`` maps the position of a tensor to that of its zero point."""

    points: tuple[tuple[int, int], ...]

    def zero(self, site: Site, position: int) -> NDArray[Any]:
        """The zero point of the tensor at a position."""
        point = next((site.number(p) for tensor, p in self.points if tensor == position), None)
        if point is None or point.size != 1:
            return np.zeros(())
        return point.reshape(())


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedElementwise(Elementwise):
    """Elementwise ops on integers; their scales and zero points are single numbers."""

    data: tuple[int, ...] = (0,)

    def rule(self, site: Site) -> Rule:
        """As elementwise, for the data inputs only."""
        shape = site.output_shape()
        output = factors(shape)
        inputs = tuple(
            aligned(site.shape(i), output) if i in self.data else None for i in range(len(site.node.inputs))
        )
        return Rule(inputs=inputs, outputs=(output,), sizes=sizes(shape, output))


def _contraction(
    text: str, points: tuple[tuple[int, int], ...], numbers: set[int], *, weight: int
) -> QuantisedEinsum:
    roles: dict[int, Role] = {weight: "weight"}
    convolution = "*k" in text
    return QuantisedEinsum(
        text=text,
        points=points,
        numbers=frozenset(numbers),
        roles=roles,
        linear=True,
        reduced="c *k" if convolution else "k",
        fixed="*s *k *t" if convolution else "",
        attributes={"group": "g"} if convolution else {},
        known={"g": "group"} if convolution else {},
        uncounted="s" if convolution else "",
        zeroed=frozenset({weight, 8}),
    )


def register_ops() -> None:
    """Register the family's ops."""
    register("QuantizeLinear DequantizeLinear", Quantise(zeroed=frozenset({0})))
    register("QuantizeLinear DequantizeLinear", Quantise(zeroed=frozenset({0})), domain=_CONTRIB)
    convolution = "n (g c) *s, -, -, (g o) c *k, (g o), (g o), -, -, (g o) -> n (g o) *t"
    register("QLinearConv", _contraction(convolution, ((3, 5),), {1, 2, 4, 5, 6, 7}, weight=3))
    register(
        "ConvInteger",
        _contraction("n (g c) *s, (g o) c *k, -, (g o) -> n (g o) *t", ((1, 3),), {2, 3}, weight=1),
    )
    register(
        "QLinearMatMul",
        _contraction("*b m k, -, -, k n, n, n -> *b m n", ((3, 5),), {1, 2, 4, 5, 6, 7}, weight=3),
    )
    register("MatMulInteger", _contraction("*b m k, k n, -, n -> *b m n", ((1, 3),), {2, 3}, weight=1))
    register("DynamicQuantizeLinear", Einsum(text="*a -> *a, -, -"))
    register("QLinearAdd QLinearMul", QuantisedElementwise(data=(0, 3)), domain=_CONTRIB)
    register("QLinearSigmoid QLinearLeakyRelu", QuantisedElementwise(), domain=_CONTRIB)
    register(
        "QLinearGlobalAveragePool QLinearAveragePool",
        Einsum(text="n c *s, -, -, -, - -> n c *t", fixed="*s *t", numbers=frozenset({1, 2, 3, 4})),
        domain=_CONTRIB,
    )
    register(
        "MatMulNBits",
        Einsum(
            text="*m k, n a c, (n a), (n z), -, n -> *m n | *m k, n a c, n a, n z, -, n -> *m n",
            fixed="k a c z",
            why="a packed axis",
            roles={1: "weight", 2: "scale", 5: "bias"},
            attributes={"N": "n"},
            linear=True,
        ),
        domain=_CONTRIB,
    )
