"""Ops that give a tensor another shape: regrouped, reordered, broadcast, filled or resized axes.

Reshapes and transposes are exact by atoms (see :mod:`prunec.ir.layout`); the others keep some axes and make new ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.ir.layout import Layout
from prunec.ir.op import Cut, Op
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
        if 0 in site.shape(0):
            raise RuleError("the tensor is empty")
        layout = Layout.of(site.shape(0))
        if not self.apply(site, layout):
            raise RuleError(
                f"it regroups {site.shape(0)} as {site.output_shape()}, across the borders of axes"
            )
        return layout.rule(extra_inputs=len(site.node.inputs) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Squeeze(Relayout):
    """Axes of size 1 taken out: those that are named, or all."""

    def rewrite(self, site: Site, cut: Cut) -> None:
        """Where no axes are named, name them: an axis that shrinks to size 1 must not go as well."""
        shape = site.shape(0)
        shrinks = any(cut.kept(("in", 0), axis) is not None for axis in range(len(shape)))
        if not shrinks or "axes" in site.attributes or site.has(1):
            return
        axes = [axis for axis, size in enumerate(shape) if size == 1]
        if site.opset < 13:
            cut.set_attributes({"axes": axes})
        else:
            cut.set_input(1, np.array(axes, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(Relayout):
    """Axes reordered."""

    def apply(self, site: Site, layout: Layout) -> bool:
        """Permute the axes of the layout."""
        rank = len(layout.current)
        permutation = site.integers(1, "perm") if "perm" in site.attributes else list(range(rank))[::-1]
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

    def shape_axes(self, site: Site) -> list[int]:
        """The last axes: the shape broadcasts as well, and may be shorter than the result."""
        rank = len(site.output_shape())
        return list(range(rank - site.shape(1)[0], rank))


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
        scaled = self._scaled_axes(site)
        resized = {
            axis for axis in range(len(shape)) if axis >= 2 or axis in scaled or shape[axis] != result[axis]
        }
        pins = [Pin(operand=(side, 0), axis=axis, reason=why) for axis in resized for side in ("in", "out")]
        return Rule(
            inputs=(data, *[None] * (len(site.node.inputs) - 1)),
            outputs=(tuple(() if axis in resized else term for axis, term in enumerate(data)),),
            sizes=sizes(shape, data),
            pins=tuple(pins),
        )

    def shape_axes(self, site: Site) -> list[int]:
        """Those that `axes` names, all of them where it is absent."""
        rank = len(site.shape(0))
        return [axis % rank for axis in site.integer_list("axes", range(rank))]

    def _scaled_axes(self, site: Site) -> set[int]:
        """The axes with another scale than 1; a small one may leave the size as it is."""
        scales = None if site.node.op_type == "Upsample" else site.number(2)
        if scales is None or not scales.size:
            return set()
        return {axis for axis, scale in zip(self.shape_axes(site), scales, strict=True) if scale != 1}


def register_ops() -> None:
    """Register the family's ops."""
    everywhere = frozenset({0})
    register("Expand", Expand(zeroed=everywhere, uniform=True, shape_input=1))
    register("ConstantOfShape", ConstantOfShape(uniform=True, shape_input=0))
    register("Reshape", Relayout(zeroed=everywhere, shape_input=1))
    register("Flatten Unsqueeze", Relayout(zeroed=everywhere))
    register("ExpandDims", Relayout(zeroed=everywhere), domain="com.microsoft")
    register("Squeeze", Squeeze(zeroed=everywhere))
    register("Transpose", Transpose(zeroed=everywhere, transparent=True))
    register("Resize", Resize(shape_input=3))
    register("Upsample", Resize())
