"""Ops of ATen that move whole slots along axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir

from prunec.ir.form import Form, symbols_of
from prunec.ir.fx.ops.alias import aten, like
from prunec.ir.op import Cut, Op
from prunec.ir.ops.einsum import Einsum
from prunec.ir.ops.elementwise import factors, sizes
from prunec.ir.ops.movement import Movement, Slice
from prunec.ir.rule import Index, IndexMap, Operand, Pin, Rule, RuleError
from prunec.ir.site import Site

_EVERYWHERE = frozenset({0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Slice):
    """A slice, which in ATen shares the memory of its input."""

    def rule(self, site: Site) -> Rule:
        """As a slice.

        Raises:
            RuleError: something writes into every other slot. A cut may turn such a slice into a gather, which is a
                copy; what is left of a slice without gaps is one without gaps.
        """
        gaps = any(step != 1 for step in site.integers(4) or ())
        if gaps and any(use.idx == 0 and _writes(use.node) for use in site.node.outputs[0].uses()):
            raise RuleError("a part of a tensor that has gaps is written in place")
        return Slice.rule(self, site)


def _writes(node: onnx_ir.Node) -> bool:
    """Whether the name of an op says that it writes into its first input (``add_``)."""
    name = node.op_type.partition(".")[0]
    return name.endswith("_") and not name.startswith("__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll(Movement):
    """Slots pushed round along axes."""

    def vectors(self, site: Site, output: int) -> Mapping[int, Index]:
        """The rolled index vectors.

        Raises:
            RuleError: no axes are named, and the tensor is flattened.
        """
        del output
        shape = site.shape(0)
        shifts, axes = site.integers(1) or [], site.integers(2) or []
        if not axes:
            raise RuleError("it flattens its input")
        return {a % len(shape): np.roll(np.arange(shape[a]), n) for n, a in zip(shifts, axes, strict=True)}

    def rewrite(self, site: Site, cut: Cut) -> None:
        """A roll that lost slots is a gather."""
        vectors = {axis: self.new_vector(site, cut, 0, axis) for axis in self.vectors(site, 0)}
        if any(vector is not None for vector in vectors.values()):
            whole = self.vectors(site, 0)
            cut.gather({a: whole[a] if v is None else v for a, v in vectors.items()}, instead=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip(Roll):
    """Slots in reverse order along axes."""

    def vectors(self, site: Site, output: int) -> Mapping[int, Index]:
        """The reversed index vectors."""
        del output
        shape = site.shape(0)
        return {a % len(shape): np.arange(shape[a])[::-1].copy() for a in site.integers(1) or []}


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatSlots(Movement):
    """Every slot of an axis several times in a row; what stays of a cut axis is repeated as before."""

    def vectors(self, site: Site, output: int) -> Mapping[int, Index]:
        """Each index ``repeats`` times.

        Raises:
            RuleError: the axis or the number of repeats is not a literal.
        """
        del output
        count, axes = site.integers(1), site.integers(2)
        if not count or not axes:
            raise RuleError("how often a slot is repeated is only known at run time")
        axis = axes[0] % len(site.shape(0))
        return {axis: np.repeat(np.arange(site.shape(0)[axis]), count[0])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat(Op):
    """Whole repetitions along every axis, of which there may be new ones in front."""

    def rule(self, site: Site) -> Rule:
        """Axes of size 1 hold copies only; others that are repeated are index maps."""
        shape, result = site.shape(0), site.output_shape()
        output = factors(result)
        offset = len(result) - len(shape)
        maps, data, made = [], [], list(output)
        for axis, size in enumerate(shape):
            to = offset + axis
            data.append(output[to] if size > 1 and result[to] == size else ())
            if size > 1 and result[to] != size:
                made[to] = ()
                index = np.tile(np.arange(size), result[to] // size)
                maps.append(IndexMap(input=0, axis=axis, output=0, output_axis=to, index=index))
        return Rule(
            inputs=(tuple(data), *[None] * (len(site.node.inputs) - 1)),
            outputs=(tuple(made),),
            sizes=sizes(result, tuple(made)),
            maps=tuple(maps),
        )

    def rewrite(self, site: Site, cut: Cut) -> None:
        """What is copied to the slots of an axis is copied to those that stay."""
        held = site.form.operand(site.node, 1)
        if held is None:
            return
        shape, result, counts = site.shape(0), site.output_shape(), held.numbers
        wanted = counts.copy()
        for axis in range(len(result)):
            at, source = axis - (len(result) - len(counts)), axis - (len(result) - len(shape))
            if at >= 0 and at not in held.computed and (source < 0 or shape[source] == 1):
                wanted[at] = cut.size(("out", 0), axis)
        if (wanted != counts).any():
            cut.patch_input(1, wanted, wanted == counts, counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbind(Op):
    """An axis taken apart into tensors without it; the axis keeps its slots."""

    def rule(self, site: Site) -> Rule:
        """All other axes pass through."""
        data = factors(site.shape(0))
        axis = site.int_attribute("dim", 0) % len(data)
        rest = tuple(term for a, term in enumerate(data) if a != axis)
        pin = Pin(operand=("in", 0), axis=axis, reason=f"{site.node.op_type} takes it apart")
        kept = tuple(() if a == axis else term for a, term in enumerate(data))
        return Rule(
            inputs=(kept,),
            outputs=(rest,) * len(site.node.outputs),
            sizes=sizes(site.shape(0), kept),
            pins=(pin,),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack(Op):
    """Tensors side by side along a new axis, which keeps its slots."""

    def rule(self, site: Site) -> Rule:
        """All other axes are those of the operands."""
        output = factors(site.output_shape())
        axis = site.int_attribute("dim", 0) % len(output)
        rest: Operand = tuple(term for a, term in enumerate(output) if a != axis)
        why = f"the new axis of {site.node.op_type}"
        terms = tuple(() if a == axis else term for a, term in enumerate(output))
        return Rule(
            inputs=(rest,) * len(site.node.inputs),
            outputs=(terms,),
            sizes=sizes(site.output_shape(), terms),
            pins=(Pin(operand=("out", 0), axis=axis, reason=why),),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Glu(Op):
    """The first half of an axis times a gate made of the second: both lose the same slots."""

    def rule(self, site: Site) -> Rule:
        """Slot ``j`` of the output holds slots ``j`` and ``j + n`` of the input."""
        shape, data = site.shape(0), factors(site.shape(0))
        axis = site.int_attribute("dim", -1) % len(shape)
        terms = tuple(() if a == axis else term for a, term in enumerate(data))
        half = np.arange(shape[axis] // 2)
        maps = tuple(
            IndexMap(input=0, axis=axis, output=0, output_axis=axis, index=half + start)
            for start in (0, len(half))
        )
        return Rule(inputs=(terms,), outputs=(terms,), sizes=sizes(shape, terms), maps=maps)


def _pads(node: onnx_ir.Node) -> Mapping[str, Any]:
    """Pairs from the last axis on, as the starts of all axes and then their ends."""
    rank = len(node.outputs[0].shape or ())
    if symbols_of(node):
        return {}  # how much is padded is only known at run time
    pairs = list(node.attributes[_pad_name(node)].as_ints())
    starts, ends = [0] * rank, [0] * rank
    for i in range(len(pairs) // 2):
        starts[rank - 1 - i], ends[rank - 1 - i] = pairs[2 * i], pairs[2 * i + 1]
    mode = node.attributes.get_string("mode", "constant")
    mode = next((m for m in ("reflect", "replicat", "circular") if m in f"{mode} {node.op_type}"), "constant")
    names = {"replicat": "edge", "circular": "wrap"}
    return {"pads": starts + ends, "mode": names.get(mode, mode)}


def _pad_name(node: onnx_ir.Node) -> str:
    return "pad" if "pad" in node.attributes else "padding"


def _as_pairs(node: onnx_ir.Node, pads: list[int]) -> tuple[str, list[int]]:
    """The inverse: as many pairs as the node has, from the last axis on."""
    rank = len(pads) // 2
    count = len(node.attributes[_pad_name(node)].as_ints()) // 2
    pairs = [amount for i in range(count) for amount in (pads[rank - 1 - i], pads[2 * rank - 1 - i])]
    return _pad_name(node), pairs


def register_ops() -> None:
    """Register the family's ops."""
    axis = {"axis": "dim"}
    like("Concat", "cat.default concat.default concatenate.default", Form(attributes=axis))
    aten("stack.default", Stack(zeroed=frozenset(range(256))))
    aten("unbind.int", Unbind(zeroed=_EVERYWHERE))
    pieces = {1: "split_sizes"}
    like(
        "Split",
        "split_with_sizes.default split_with_sizes_copy.default",
        Form(attributes=axis, operands=pieces),
    )
    to_sizes = "split_with_sizes.default"
    uneven = {
        "chunk.default": "chunks",
        "split.Tensor": "split_size",
        "unsafe_chunk.default": "chunks",
        "unsafe_split.Tensor": "split_size",
        "tensor_split.sections": "sections",
        "tensor_split.indices": "indices",
        "split.sizes": "split_size",
    }
    for name, argument in uneven.items():
        form = Form(attributes=axis, operands=pieces, becomes=to_sizes, drops=(argument,))
        like("Split", name, form)
    windows = {1: "start", 2: "end", 3: "dim", 4: "step"}
    aten("slice.Tensor", Window(zeroed=_EVERYWHERE), Form(operands=windows))
    like("Gather", "select.int", Form(attributes=axis, operands={1: "index"}))
    like("Gather", "index_select.default", Form(attributes=axis))
    aten("roll.default", Roll(zeroed=_EVERYWHERE), Form(operands={1: "shifts", 2: "dims"}))
    aten("flip.default", Flip(zeroed=_EVERYWHERE), Form(operands={1: "dims"}))
    aten(
        "repeat_interleave.self_int", RepeatSlots(zeroed=_EVERYWHERE), Form(operands={1: "repeats", 2: "dim"})
    )
    aten("repeat.default", Repeat(zeroed=_EVERYWHERE), Form(operands={1: "repeats"}))
    aten("tile.default", Repeat(zeroed=_EVERYWHERE), Form(operands={1: "dims"}))
    aten("glu.default", Glu(zeroed=_EVERYWHERE))
    to_columns = "n c h w -> n (c k) t | c h w -> (c k) t"
    aten("im2col.default", Einsum(text=to_columns, fixed="h w k t", zeroed=_EVERYWHERE))
    to_image = "n (c k) t -> n c h w | (c k) t -> c h w"
    aten("col2im.default", Einsum(text=to_image, reduced="k", fixed="h w k t", zeroed=_EVERYWHERE))
    padded = "pad.default constant_pad_nd.default " + " ".join(
        f"{kind}_pad{axes}d.default" for kind in ("reflection", "replication") for axes in (1, 2, 3)
    )
    like("Pad", padded, Form(derived=_pads, restored={"pads": _as_pairs}))
