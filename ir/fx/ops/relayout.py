"""Ops of ATen that regroup, reorder, broadcast or fill axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir

from prunec.ir.form import Form
from prunec.ir.fx.ops.alias import aten, like
from prunec.ir.layout import Layout
from prunec.ir.op import Op
from prunec.ir.ops.einsum import Einsum
from prunec.ir.ops.elementwise import factors, sizes
from prunec.ir.ops.refused import Refused
from prunec.ir.ops.relayout import Relayout
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

_EVERYWHERE = frozenset({0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Unflatten(Relayout):
    """One axis split into several, whose sizes are an argument."""

    def shape_axes(self, site: Site) -> list[int]:
        """The axes that the split one became."""
        axis = site.int_attribute("axis", 0) % len(site.shape(0))
        return list(range(axis, axis + site.shape(1)[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelShuffle(Relayout):
    """Channels dealt out of groups: ``n (g c) *s -> n (c g) *s``."""

    def apply(self, site: Site, layout: Layout) -> bool:
        """Split the channels, swap the two factors, and join them again."""
        shape, groups = site.shape(0), site.int_attribute("groups", 1)
        split = layout.reshape([shape[0], groups, shape[1] // groups, *shape[2:]])
        layout.transpose([0, 2, 1, *range(3, len(shape) + 1)])
        return split and layout.reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshapeAs(Op):
    """Another shape, that of a second tensor."""

    def rule(self, site: Site) -> Rule:
        """As a reshape; the second tensor has the axes of the output.

        Raises:
            RuleError: the two shapes have no common refinement.
        """
        layout = Layout.of(site.shape(0))
        if not layout.reshape(site.output_shape()):
            raise RuleError(f"{site.shape(0)} and {site.output_shape()} regroup elements across axes")
        rule = layout.rule()
        return replace(rule, inputs=(*rule.inputs, rule.outputs[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled(Op):
    """A new tensor of a given size, of the type of another one: every axis of both is free."""

    def rule(self, site: Site) -> Rule:
        """Factors of their own for all axes."""
        output = factors(site.output_shape())
        known = sizes(site.output_shape(), output)
        given = site.input_shapes[:1]
        like_what = tuple((f"x{a}",) if n > 1 else () for a, n in enumerate(given[0] or ())) if given else ()
        known |= sizes(given[0] or (), like_what) if given else {}
        return Rule(inputs=(like_what,) if given else (), outputs=(output,), sizes=known)


def _swap(node: onnx_ir.Node) -> Mapping[str, Any]:
    order = np.arange(_rank(node))
    first, second = (node.attributes[name].as_int() for name in _swapped(node))
    order[[first, second]] = order[[second, first]]
    return {"perm": order.tolist()}


def _swapped(node: onnx_ir.Node) -> tuple[str, str]:
    names = (("dim0", "dim1"), ("axis0", "axis1"))
    return next(pair for pair in names if pair[0] in node.attributes)


def _reverse(node: onnx_ir.Node) -> Mapping[str, Any]:
    return {"perm": list(range(_rank(node)))[::-1]}


def _swap_last(node: onnx_ir.Node) -> Mapping[str, Any]:
    rank = _rank(node)
    return {"perm": [*range(rank - 2), rank - 1, rank - 2]}


def _moved(node: onnx_ir.Node) -> Mapping[str, Any]:
    rank = _rank(node)
    source, target = (np.atleast_1d(node.attributes[n].value) % rank for n in ("source", "destination"))
    order = [axis for axis in range(rank) if axis not in source]
    for to, axis in sorted(zip(target.tolist(), source.tolist(), strict=True)):
        order.insert(to, axis)
    return {"perm": order}


def _rank(node: onnx_ir.Node) -> int:
    return len(node.outputs[0].shape or ())


def register_ops() -> None:
    """Register the family's ops."""
    reshape = Relayout(zeroed=_EVERYWHERE, shape_input=1)
    aten("view.default _unsafe_view.default", reshape, Form(operands={1: "size"}))
    aten("reshape.default", reshape, Form(operands={1: "shape"}))
    form = Form(operands={1: "sizes"}, attributes={"axis": "dim"})
    aten("unflatten.int", Unflatten(zeroed=_EVERYWHERE, shape_input=1), form)
    like(
        "Flatten",
        "flatten.using_ints unsqueeze.default squeeze.dim squeeze.dims ravel.default squeeze_.dim unsqueeze_.default",
    )
    form = Form(operands={1: "dim"}, becomes="squeeze.dims")
    like("Squeeze", "squeeze.default", form)
    like("Transpose", "permute.default", Form(attributes={"perm": "dims"}))
    like(
        "Transpose", "transpose.int swapaxes.default swapdims.default transpose_.default", Form(derived=_swap)
    )
    like("Transpose", "t.default numpy_T.default", Form(derived=_reverse))
    like("Transpose", "mT.default adjoint.default mH.default", Form(derived=_swap_last))
    like("Transpose", "movedim.int movedim.intlist moveaxis.int moveaxis.intlist", Form(derived=_moved))
    like("Expand", "expand.default broadcast_to.default", Form(operands={1: "size"}))
    made = "zeros.default ones.default full.default empty.memory_format"
    like("ConstantOfShape", made, Form(operands={0: "size"}))
    aten(
        "new_zeros.default new_ones.default new_full.default new_empty.default",
        Filled(shape_input=1),
        Form(operands={1: "size"}),
    )
    aten("channel_shuffle.default native_channel_shuffle.default", ChannelShuffle(zeroed=_EVERYWHERE))
    shuffle = Form(attributes={"blocksize": "upscale_factor"}, constants={"mode": "CRD"})
    like("DepthToSpace", "pixel_shuffle.default", shuffle)
    text = "n c (h b) (w d) -> n (c b d) h w"
    known = {"b": "downscale_factor", "d": "downscale_factor"}
    aten("pixel_unshuffle.default", Einsum(text=text, fixed="b d h w", known=known))
    aten("view_as.default reshape_as.default", ReshapeAs(zeroed=_EVERYWHERE))
    aten("as_strided.default", Refused(reason="it looks at memory"))
    random = "rand.default randn.default randint.low randint.default bernoulli.p randperm.default multinomial.default"
    aten(random, Refused(reason="it draws random numbers, of which a smaller tensor gets others"))
    like(
        "Relu",
        "bernoulli.default bernoulli_.float rand_like.default randn_like.default normal_.default uniform_.default",
    )
    counted = "arange.default arange.start arange.start_step linspace.default eye.default eye.m"
    aten(counted, Refused(reason="it makes numbers from positions"))
    aten("scalar_tensor.default", Filled())
