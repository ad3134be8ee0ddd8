"""Elementwise ops of ATen, and ops that only take the shape or type of another tensor."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.fx.ops.alias import aten, like, overloads
from prunec.ir.op import Op
from prunec.ir.ops.elementwise import factors, sizes
from prunec.ir.rule import Rule
from prunec.ir.site import Site

_UNARY = (
    "abs acos acosh asin asinh atan atanh bitwise_not ceil celu cos cosh deg2rad digamma elu erf erfc erfinv "
    "exp exp2 expm1 floor frac gelu hardshrink hardsigmoid hardswish hardtanh isfinite isinf isnan leaky_relu "
    "lgamma log log10 log1p log2 log_sigmoid logical_not logit mish nan_to_num neg positive reciprocal relu "
    "relu6 round rsqrt selu sgn sigmoid sign silu sin sinc sinh softplus softshrink sqrt square tan tanh "
    "tanhshrink trunc threshold special_expit"
)
_COPIES = (
    "alias.default clone.default contiguous.default detach.default detach_.default to.dtype to.device "
    "to.dtype_layout _to_copy.default dropout.default dropout_.default alpha_dropout.default "
    "feature_dropout.default feature_alpha_dropout.default native_dropout.default lift_fresh_copy.default "
    "lift_fresh.default float_power.Tensor_Scalar zeros_like.default ones_like.default full_like.default "
    "empty_like.default resolve_conj.default resolve_neg.default _conj.default fill.Scalar fill_.Scalar zero_.default"
)
_BINARY = (
    "atan2 bitwise_and bitwise_or bitwise_xor div divide eq floor_divide fmod ge gt le lt logical_and logical_or "
    "logical_xor maximum minimum ne pow remainder true_divide hypot copysign xlogy prelu logaddexp fmax fmin "
    "greater greater_equal less less_equal not_equal __and__ __or__ __xor__ rsub"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfFirst(Op):
    """Elementwise on the first input; of the others only type or device count."""

    def rule(self, site: Site) -> Rule:
        """The same factors in input 0 and the output; the other inputs are free."""
        data = factors(site.shape(0))
        known = sizes(site.shape(0), data)
        others = []
        for i, shape in enumerate(site.input_shapes[1:], start=1):
            terms = tuple((f"x{i}_{axis}",) if size > 1 else () for axis, size in enumerate(shape or ()))
            known |= sizes(shape or (), terms)
            others.append(None if shape is None else terms)
        return Rule(inputs=(data, *others), outputs=(data,), sizes=known)


def register_ops() -> None:
    """Register the family's ops."""
    like("Relu", overloads(_UNARY, "default"))
    like("Relu", _COPIES)
    like(
        "Relu",
        overloads("clamp clip", "default", "Tensor")
        + " "
        + overloads("clamp_min clamp_max", "default", "Tensor"),
    )
    like("Relu", "round.decimals gelu_.default div.Scalar_mode")
    like(
        "Div",
        overloads(_BINARY, "default", "Tensor", "Scalar", "Tensor_Tensor", "Tensor_Scalar", "Scalar_Tensor"),
    )
    like("Div", overloads("div floor_divide", "Tensor_mode", "Scalar_mode"))
    like("Div", "where.self where.ScalarSelf where.ScalarOther where.Scalar where.default")
    like("Div", overloads("masked_fill", "Scalar", "Tensor") + " " + overloads("lerp", "Scalar", "Tensor"))
    like(
        "Div",
        overloads("addcmul addcdiv", "default") + " prelu.default _prelu_kernel.default expand_as.default",
    )
    like(
        "Div",
        "min.other max.other fill_.Tensor fill.Tensor copy_.default complex.default polar.default rrelu.default",
    )
    like("Add", overloads("add sub subtract", "Tensor", "Scalar"))
    like("Mul", overloads("mul multiply", "Tensor", "Scalar"))
    aten("type_as.default to.other", OfFirst(zeroed=frozenset({0})))
