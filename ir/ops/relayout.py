"""Ops that give a tensor another shape: regrouped, reordered, broadcast, filled or resized axes.

Reshapes and transposes are exact by atoms (see :mod:`prunec.ir.layout`); the others keep some axes and make new ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.layout import Layout
from prunec.ir.op import Op
from prunec.ir.ops.elementwise import factors, sizes
from prunec.ir.registry import register
from prunec.ir.rule import Pin, Rule, RuleError
from prunec.ir.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayout(Op):
    """Reshape, Flatten, Squeeze, Unsqueeze, Transpose: exact by atoms, see :mod:`prunec.ir.layout`."""

    def apply(self, site: Site, layout: Layout) -> bool:
        """Follow ``layout`` through the node; False where the two shapes have no common refinement."""
        return layout.reshape(site.output_shape())

    def rule(self, site: Site) -> Rule:
        """The atoms of the input regrouped into the axes of the output."""
        layout = Layout.of(site.shape(0))
        if not self.apply(site, layout):
            raise RuleError(f"{site.shape(0)} and {site.output_shape()} regroup elements across axes")
        return layout.rule(extra_inputs=len(site.node.inputs) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(Relayout):
    """Axes reordered."""

    def apply(self, site: Site, layout: Layout) -> bool:
        """Permute the axes of the layout."""
        rank = len(layout.current)
        permutation = site.integers(1, "perm") if "perm" in site.node.attributes else list(range(rank))[::-1]
        layout.transpose(permutation or [])
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Expand(Op):
    """Broadcast to a shape; an axis that grows from 1 holds nothing but copies."""

    def rule(self, site: Site) -> Rule:
        """Right-aligned; axes that grow have factors of their own."""
        shape, result = site.shape(0), site.output_shape()
        output = factors(result)
        offset = len(result) - len(shape)
        data = tuple(output[offset + axis] if size > 1 else () for axis, size in enumerate(shape))
        return Rule(
            inputs=(data, None),
            outputs=(output,),
            sizes=sizes(result, output),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantOfShape(Op):
    """One number everywhere: every axis is free."""

    def rule(self, site: Site) -> Rule:
        """A factor of its own for every axis."""
        shape = site.output_shape()
        output = factors(shape)
        return Rule(inputs=(None,), outputs=(output,), sizes=sizes(shape, output))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Op):
    """Interpolation over spatial axes; batch and channel axes pass through."""

    def rule(self, site: Site) -> Rule:
        """Axes whose size and scale stay are factors, the others are pinned."""
        shape, result = site.shape(0), site.output_shape()
        data = factors(shape)
        why = f"a spatial axis of {site.node.op_type}"
        resized = {axis for axis in range(len(shape)) if axis >= 2 or shape[axis] != result[axis]}
        pins = [Pin(operand=(side, 0), axis=axis, reason=why) for axis in resized for side in ("in", "out")]
        return Rule(
            inputs=(data, *[None] * (len(site.node.inputs) - 1)),
            outputs=(tuple(() if axis in resized else term for axis, term in enumerate(data)),),
            sizes=sizes(shape, data),
            pins=tuple(pins),
        )


def register_ops() -> None:
    """Register the family's ops."""
    everywhere = frozenset({0})
    register("Expand", Expand(zeroed=everywhere, shape_input=1))
    register("ConstantOfShape", ConstantOfShape(shape_input=0))
    register("Reshape", Relayout(zeroed=everywhere, shape_input=1))
    register("Flatten Squeeze Unsqueeze", Relayout(zeroed=everywhere))
    register("Transpose", Transpose(zeroed=everywhere))
    register("Resize", Resize(shape_input=3))
    register("Upsample", Resize())
