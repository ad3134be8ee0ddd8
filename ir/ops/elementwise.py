"""Elementwise ops with numpy broadcasting, and ops that normalise or reduce over named axes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from prunec.ir.op import Op, Role
from prunec.ir.registry import register
from prunec.ir.rule import Operand, Rule
from prunec.ir.site import Site

Shape = tuple[int, ...]


def factors(shape: Sequence[int]) -> Operand:
    """One factor for every axis, ``a b c ...``; none for an axis of size 1."""
    return tuple((chr(ord("a") + axis),) if size > 1 else () for axis, size in enumerate(shape))


def aligned(shape: Sequence[int], output: Operand) -> Operand:
    """The terms of an operand that broadcasts, right-aligned, against an output."""
    offset = len(output) - len(shape)
    return tuple(output[offset + axis] if size > 1 else () for axis, size in enumerate(shape))


def sizes(shape: Sequence[int], operand: Operand) -> dict[str, int]:
    """Size of every factor of an operand whose terms are single factors."""
    return {term[0]: size for term, size in zip(operand, shape, strict=True) if term}


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise(Op):
    """``y[i] = f(x0[i], x1[i], ...)`` with right-aligned broadcasting."""

    def rule(self, site: Site) -> Rule:
        """Every input axis that is not broadcast shares the factor of its output axis."""
        site.output_shape()
        inputs = tuple(None if value is None else site.shape(i) for i, value in enumerate(site.node.inputs))
        return _broadcast(inputs, tuple(site.output_shapes))


@lru_cache(maxsize=4096)
def _broadcast(inputs: tuple[Shape | None, ...], outputs: tuple[Shape | None, ...]) -> Rule:
    """The rule of an elementwise op at some shapes; networks repeat their layers."""
    shape = outputs[0] or ()
    output = factors(shape)
    return Rule(
        inputs=tuple(None if given is None else aligned(given, output) for given in inputs),
        outputs=tuple(None if known is None else output for known in outputs),
        sizes=sizes(shape, output),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AlongAxis(Op):
    """Same shape in and out, computed over one axis or from it on: softmax, layer normalisation, cumulative
    ops.

    Attributes:
        default_axis: value of ``axis`` where it is absent.
        to_end: the op works on all axes from ``axis`` to the last.
        fixed: the axis must keep its size (its slots have an order or a meaning, as in LRN).
    """

    default_axis: int = -1
    to_end: bool = False
    fixed: bool = False

    def rule(self, site: Site) -> Rule:
        """Elementwise, with the factors of the axis reduced (or fixed)."""
        shape = site.shape(0)
        data = factors(shape)
        axis = site.int_attribute("axis", self.default_axis) % max(1, len(shape))
        over = [t[0] for t in (data[axis:] if self.to_end else data[axis : axis + 1]) if t]
        inputs = (data, *(aligned(s, data) if s is not None else None for s in site.input_shapes[1:]))
        outputs = tuple(aligned(s, data) if s is not None else None for s in site.output_shapes)
        why = f"{site.node.op_type} works along it"
        return Rule(
            inputs=inputs,
            outputs=outputs,
            sizes=sizes(shape, data),
            reduced=frozenset() if self.fixed else frozenset(over),
            fixed=dict.fromkeys(over, why) if self.fixed else {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Op):
    """Softmax and its kin: one axis (the last) since opset 13, all axes from ``axis`` (1) on before."""

    def rule(self, site: Site) -> Rule:
        """Along one axis or the flattened rest."""
        old = site.opset < 13
        return AlongAxis(default_axis=1 if old else -1, to_end=old).rule(site)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardise(Op):
    """Mean and variance over listed axes."""

    def rule(self, site: Site) -> Rule:
        """Elementwise, with the factors of the listed axes reduced."""
        shape = site.shape(0)
        data = factors(shape)
        listed = site.integers(-1, "axes") if "axes" in site.attributes else None
        over = [data[axis % len(shape)] for axis in (listed or (0, 2, 3))]
        reduced = frozenset(name for term in over for name in term)
        return Rule(inputs=(data,), outputs=(data,), sizes=sizes(shape, data), reduced=reduced)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Op):
    """Reductions over axes that an attribute or (since opset 13 or 18) an input names.

    Attributes:
        fixed: the result depends on positions along the axis (ArgMax), so the axis cannot change.
    """

    fixed: bool = False

    def rule(self, site: Site) -> Rule:
        """Reduced axes go or become 1, the others stay."""
        return self.over(site, self._axes(site, len(site.shape(0))), fixed=self.fixed)

    def over(self, site: Site, axes: Collection[int], *, fixed: bool) -> Rule:
        """The rule of a reduction over these axes; all of its results have one shape.

        Args:
            site: the node.
            axes: of the data, from 0.
            fixed: results depend on positions along the axes.
        """
        shape = site.shape(0)
        data = factors(shape)
        keep = site.int_attribute("keepdims", 1)
        output: Operand = tuple(
            () if axis in axes else term for axis, term in enumerate(data) if keep or axis not in axes
        )
        over = [data[axis][0] for axis in sorted(axes) if data[axis]]
        return Rule(
            inputs=(data, *[None] * (len(site.node.inputs) - 1)),
            outputs=(output,) * len(site.node.outputs),
            sizes=sizes(shape, data),
            reduced=frozenset() if fixed else frozenset(over),
            fixed=dict.fromkeys(over, f"{site.node.op_type} ranks its slots") if fixed else {},
        )

    def _axes(self, site: Site, rank: int) -> set[int]:
        if self.fixed:
            return {site.int_attribute("axis", 0) % max(1, rank)}
        axes = site.integers(1, "axes")
        if not axes:
            return set() if site.int_attribute("noop_with_empty_axes", 0) else set(range(rank))
        return {axis % rank for axis in axes}


_UNARY = (
    "Abs Acos Acosh Affine Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp "
    "Floor Gelu HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log Mish Neg Not ParametricSoftplus "
    "Reciprocal Relu Round Scale ScaledTanh Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish "
    "Tan Tanh ThresholdedRelu"
)
_BINARY = (
    "And BitwiseAnd BitwiseOr BitwiseXor BitShift Div Equal Greater GreaterOrEqual Less LessOrEqual "
    "Max Mean Min Mod Or Pow PRelu Where Xor"
)
_NORM_ROLES: dict[int, Role] = {1: "scale", 2: "bias"}


def register_ops() -> None:
    """Register the family's ops."""
    register(_UNARY, Elementwise(zeroed=frozenset({0})))
    register("BitCast Cast Identity", Elementwise(zeroed=frozenset({0}), transparent=True))
    register(_BINARY, Elementwise())
    register("Add Sub Sum", Elementwise(zeroed=frozenset({0, 1}), roles={0: "bias", 1: "bias"}))
    register("Mul SwiGLU", Elementwise(zeroed=frozenset({0, 1}), roles={0: "scale", 1: "scale"}))
    register("Softmax LogSoftmax Hardmax", Softmax(contested=True))
    register("LRN", AlongAxis(default_axis=1, fixed=True))
    register(
        "LayerNormalization RMSNormalization SimplifiedLayerNormalization",
        AlongAxis(to_end=True, roles=_NORM_ROLES, zeroed=frozenset({1, 2})),
    )
    register("LpNormalization", AlongAxis())
    register("MeanVarianceNormalization", Standardise())
    register(
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
        "ReduceSum ReduceSumSquare",
        Reduce(),
    )
    register("ArgMax ArgMin", Reduce(fixed=True))
