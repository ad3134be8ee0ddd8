"""Ops that look along some axes (select, order, write at an index) and leave the other axes alone.

The axes that they look along keep their slots: what an index means would change. All other axes pass through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunec.ir.op import Op
from prunec.ir.registry import register
from prunec.ir.rule import Operand, Pin, Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"


def fitted(
    site: Site, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None], fixed: set[str], why: str
) -> Rule:
    """A rule whose factors have the sizes of the axes that they stand for.

    Args:
        site: the node.
        inputs: terms of the inputs; the shape of an input without terms must stay.
        outputs: terms of the outputs.
        fixed: factors that must keep their size, and why.
    """
    shapes = [*site.input_shapes, *site.output_shapes]
    outputs = [o if shape is not None else None for o, shape in zip(outputs, site.output_shapes, strict=True)]
    sizes: dict[str, int] = {}
    for terms, shape in zip((*inputs, *outputs), shapes, strict=True):
        sizes |= {t[0]: n for t, n in zip(terms or (), shape or (), strict=bool(terms)) if t and n > 1}
    kept = [
        tuple(t if t and t[0] in sizes else () for t in operand) if operand is not None else None
        for operand in (*inputs, *outputs)
    ]
    shape_stays = f"an operand that {site.node.op_type} reads as a whole"
    pins = [
        Pin(operand=("in", i), axis=axis, reason=shape_stays)
        for i, operand in enumerate(inputs)
        if operand is None and site.input(i) is not None
        for axis in range(len(site.shape(i)))
    ]
    return Rule(
        inputs=tuple(kept[: len(inputs)]),
        outputs=tuple(kept[len(inputs) :]),
        sizes=sizes,
        fixed={name: why for name in sorted(fixed) if name in sizes},
        pins=tuple(pins),
    )


def _named(prefix: str, count: int) -> Operand:
    return tuple((f"{prefix}{axis}",) for axis in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Along(Op):
    """Works along certain axes of input 0; the other axes of the outputs, and of ``alike`` inputs, are its
    own.

    Attributes:
        attributes_of_axes: integer attributes that name the axes, with their defaults.
        alike: positions of other inputs whose axes are those of input 0.
    """

    named: tuple[tuple[str, int], ...] = ()
    alike: tuple[int, ...] = ()

    def axes(self, site: Site) -> set[int]:
        """The axes that the op works along."""
        rank = len(site.shape(0))
        return {site.int_attribute(name, default) % rank for name, default in self.named}

    def rule(self, site: Site) -> Rule:
        """Factors for all axes; those of the axes worked along differ between operands and are fixed."""
        rank, along = len(site.shape(0)), self.axes(site)

        def operand(letter: str) -> Operand:
            return tuple((f"{letter}{a}",) if a in along else (f"a{a}",) for a in range(rank))

        inputs = [
            operand(f"x{i}") if i == 0 or i in self.alike else None for i in range(len(site.node.inputs))
        ]
        outputs = [operand("y") for _ in site.node.outputs]
        fixed = {f"{letter}{a}" for letter in ("y", *(f"x{i}" for i in (0, *self.alike))) for a in along}
        return fitted(site, inputs, outputs, fixed, f"{site.node.op_type} works along it")


@dataclass(frozen=True, slots=True, kw_only=True)
class CumSum(Along):
    """A running sum or product along an axis that is an input."""

    def axes(self, site: Site) -> set[int]:
        """The number in input 1."""
        return {axis % len(site.shape(0)) for axis in site.integers(1) or ()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform(Along):
    """A Fourier transform along one axis of a signal; the last axis holds real and imaginary part."""

    def axes(self, site: Site) -> set[int]:
        """The axis of an input (since opset 20) or attribute, and the last."""
        rank = len(site.shape(0))
        axes = [site.int_attribute("axis", 1)] if site.opset < 20 else site.integers(2) or [-2]
        return {axis % rank for axis in (*axes, -1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trilu(Along):
    """A triangle of the last two axes."""

    def axes(self, site: Site) -> set[int]:
        """The last two."""
        rank = len(site.shape(0))
        return {rank - 2, rank - 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class CenterCropPad(Along):
    """Cropping and padding of the axes that the attribute ``axes`` lists, or of all."""

    def axes(self, site: Site) -> set[int]:
        """The listed axes."""
        rank = len(site.shape(0))
        listed = site.integers(-1, "axes") if "axes" in site.attributes else None
        return {axis % rank for axis in (range(rank) if listed is None else listed)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compress(Along):
    """Slots of one axis, picked by truth values."""

    def axes(self, site: Site) -> set[int]:
        """The attribute's axis.

        Raises:
            RuleError: there is none, and the tensor is flattened.
        """
        if "axis" not in site.attributes:
            raise RuleError("it flattens its input first")
        return Along.axes(self, site)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHot(Op):
    """A new axis of a given size; the axes of the indices pass through."""

    def rule(self, site: Site) -> Rule:
        """The new axis is fixed."""
        rank = len(site.shape(0))
        axis = site.int_attribute("axis", -1) % (rank + 1)
        data = _named("a", rank)
        output = (*data[:axis], ("depth",), *data[axis:])
        return fitted(site, [data, None, None], [output], {"depth"}, "the classes of OneHot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements(Op):
    """GatherElements and ScatterElements: an index along one axis for every element.

    Attributes:
        scatter: the indices say where to write, not what to read.
    """

    scatter: bool

    def rule(self, site: Site) -> Rule:
        """Axes on which data and indices agree are one; the indexed axis and all others are fixed."""
        shape, index = site.shape(0), site.shape(1)
        axis = site.int_attribute("axis", 0) % len(shape)
        own = {a for a in range(len(shape)) if a == axis or shape[a] != index[a]}
        data = _named("a", len(shape))
        indices = tuple((f"i{a}",) if a in own else term for a, term in enumerate(data))
        fixed = {f"a{a}" for a in own} | {f"i{a}" for a in own - {axis}}
        why = f"{site.node.op_type} picks positions of it by index"
        if self.scatter:
            return fitted(site, [data, indices, indices], [data], fixed, why)
        return fitted(site, [data, indices], [indices], fixed, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices(Op):
    """GatherND and ScatterND: the last axis of the indices names a slot of the leading axes of the data.

    Attributes:
        scatter: the indices say where to write, not what to read.
    """

    scatter: bool

    def rule(self, site: Site) -> Rule:
        """Axes behind the indexed ones pass through."""
        index, batch = site.shape(1), site.int_attribute("batch_dims", 0)
        data = _named("a", len(site.shape(0)))
        where = (*data[:batch], *_named("i", len(index) - batch))
        depth = batch + index[-1]
        picked = (*where[:-1], *data[depth:])
        fixed = {name for (name,) in data[batch:depth]} | {name for (name,) in where[-1:]}
        why = f"{site.node.op_type} picks positions of it by index"
        if self.scatter:
            return fitted(site, [data, where, picked], [data], fixed, why)
        return fitted(site, [data, where], [picked], fixed, why)


def register_ops() -> None:
    """Register the family's ops."""
    register("TopK", Along(named=(("axis", -1),)))
    register("ReverseSequence", Along(named=(("batch_axis", 1), ("time_axis", 0))))
    register("TensorScatter", Along(named=(("axis", -2),), alike=(1,)))
    register("CumSum CumProd", CumSum())
    register("DFT", Transform())
    register("CenterCropPad", CenterCropPad())
    register("Compress", Compress(named=(("axis", 0),)))
    register("OneHot", OneHot())
    register("GatherElements", Elements(scatter=False))
    register("ScatterElements Scatter", Elements(scatter=True))
    register("ScatterND", Slices(scatter=True))
    for domain in ("", _CONTRIB):
        register("Trilu", Trilu(), domain=domain)
        register("GatherND", Slices(scatter=False), domain=domain)
