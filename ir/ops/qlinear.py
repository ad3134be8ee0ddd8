"""Ops of the domain ``com.microsoft`` that compute on integers with one scale and zero point a tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.op import Op
from prunec.ir.ops.einsum import Einsum
from prunec.ir.ops.elementwise import AlongAxis, Elementwise, Reduce, aligned, factors, sizes
from prunec.ir.ops.movement import Concat
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"

Array = NDArray[Any]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedPool(Einsum):
    """Pooling of integers, with channels behind batch or, on request, last."""

    def rule(self, site: Site) -> Rule:
        """The rule text for the node's layout."""
        last = site.int_attribute("channels_last", 0)
        return self.fitted(site, "n *s c -> n *t c" if last else self.text, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedSoftmax(Op):
    """Softmax of integers; the attribute ``opset`` says over which axes."""

    def rule(self, site: Site) -> Rule:
        """As softmax, for the data alone."""
        return replace(
            AlongAxis(default_axis=-1, to_end=site.int_attribute("opset", 13) < 13).rule(site),
            inputs=(factors(site.shape(0)), *[None] * (len(site.node.inputs) - 1)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedReduce(Reduce):
    """Reductions of integers over axes that an attribute names; ``keepdims`` is 0 where absent."""

    def rule(self, site: Site) -> Rule:
        """As a reduction, for the data alone.

        Raises:
            RuleError: no axes are named.
        """
        if "axes" not in site.attributes or "keepdims" not in site.attributes:
            raise RuleError("it reduces over all axes")
        return Reduce.rule(self, site)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedConcat(Concat):
    """Concat of integers: every operand is followed by its scale and zero point."""

    def operands(self, site: Site) -> range:
        """Positions of the tensors."""
        return range(2, len(site.node.inputs), 3)

    def zero(self, site: Site, position: int) -> Array:
        """The operand's zero point."""
        point = site.constant(position + 2)
        return np.zeros(()) if point is None else point.reshape(())


def register_ops() -> None:
    """Register the family's ops."""
    register("QLinearAdd QLinearMul", QuantisedElementwise(data=(0, 3)), domain=_CONTRIB)
    register("QLinearWhere", QuantisedElementwise(data=(0, 1, 4)), domain=_CONTRIB)
    register("QLinearSigmoid QLinearLeakyRelu", QuantisedElementwise(), domain=_CONTRIB)
    register("MulInteger", QuantisedElementwise(data=(0, 2)), domain=_CONTRIB)
    register("QLinearReduceMean ReduceSumInteger", QuantisedReduce(), domain=_CONTRIB)
    pool = QuantisedPool(text="n c *s -> n c *t", fixed="*s *t", numbers=frozenset({1, 2, 3, 4}))
    register("QLinearGlobalAveragePool QLinearAveragePool", pool, domain=_CONTRIB)
    nhwc = Einsum(text="n *s c -> n *t c", fixed="*s *t", why="a pooled axis")
    register("NhwcMaxPool", nhwc, domain=_CONTRIB)
    register("QLinearSoftmax", QuantisedSoftmax(contested=True), domain=_CONTRIB)
    register("QLinearConcat", QuantisedConcat(zeroed=frozenset(range(2, 300, 3))), domain=_CONTRIB)
