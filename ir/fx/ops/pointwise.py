"""Elementwise ops of ATen, and ops that only take the shape or type of another tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.fx.ops.alias import aten, like, overloads
from prunec.ir.op import Op
from prunec.ir.ops.einsum import Einsum
from prunec.ir.ops.elementwise import Elementwise, factors, sizes
from prunec.ir.rule import Rule
from prunec.ir.site import Site

_UNARY = (
    "abs acos acosh asin asinh atan atanh bitwise_not ceil celu cos cosh deg2rad digamma elu erf erfc erfinv exp "
    "exp2 expm1 floor frac gelu hardsigmoid hardswish hardtanh leaky_relu lgamma log log10 log1p log2 logical_not "
    "logit mish nan_to_num neg reciprocal relu relu6 round rsqrt selu sgn sigmoid sign silu sin sinc sinh sqrt square "
    "tan tanh trunc threshold"
)
_UNARY_ALONE = (
    "hardshrink.default isfinite.default isinf.default isnan.default log_sigmoid.default positive.default "
    "softplus.default softshrink.default special_expit.default round.decimals"
)
_COPIES = (
    "alias.default clone.default contiguous.default detach.default detach_.default to.dtype to.device "
    "to.dtype_layout _to_copy.default dropout.default dropout_.default alpha_dropout.default "
    "feature_dropout.default feature_alpha_dropout.default native_dropout.default lift_fresh_copy.default "
    "lift_fresh.default float_power.Tensor_Scalar zeros_like.default ones_like.default full_like.default "
    "empty_like.default resolve_conj.default resolve_neg.default _conj.default fill.Scalar fill_.Scalar zero_.default"
)
_COMPARISONS = (
    "eq fmod ge gt le lt ne copysign true_divide greater greater_equal less less_equal not_equal bitwise_and "
    "bitwise_or bitwise_xor div divide remainder"
)
_PAIRS = "atan2 logical_and logical_or logical_xor hypot"
_BINARY_ALONE = (
    "maximum.default minimum.default logaddexp.default fmax.default fmin.default min.other max.other "
    "__and__.Tensor __or__.Tensor __xor__.Tensor __and__.Scalar __or__.Scalar __xor__.Scalar rsub.Tensor rsub.Scalar "
    "pow.Tensor_Scalar pow_.Scalar pow.Tensor_Tensor pow_.Tensor pow.Scalar xlogy.Tensor xlogy_.Tensor "
    "floor_divide.default floor_divide_.Tensor floor_divide.Scalar floor_divide_.Scalar _prelu_kernel.default "
    "where.self where.ScalarSelf where.ScalarOther where.Scalar expand_as.default fill.Tensor fill_.Tensor "
    "copy_.default complex.default polar.default rrelu.default"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightNorm(Elementwise):
    """``w = g * v / |v|``, the norm taken over all axes but one (Salimans and Kingma 2016, eq. 2)."""

    def zero(self, site: Site, position: int) -> NDArray[Any]:
        """Next to nothing for ``v``: a slot adds nothing to a norm, and one that is all of it can still be divided."""
        del site
        return np.full((), 1e-15 if position == 0 else 0.0)


def register_ops() -> None:
    """Register the family's ops."""
    like("Relu", f"{overloads(_UNARY, 'default')} {_UNARY_ALONE} {_COPIES}")
    like("Relu", overloads("clamp clip clamp_min clamp_max", "default", "Tensor"))
    like("Div", overloads(_COMPARISONS, "Tensor", "Scalar"))
    like("Div", f"{overloads(_PAIRS, 'default')} {_BINARY_ALONE}")
    like("Div", overloads("div divide", "Tensor_mode", "Scalar_mode"))
    like(
        "Div",
        f"{overloads('masked_fill lerp', 'Scalar', 'Tensor')} {overloads('addcmul addcdiv', 'default')}",
    )
    like("Add", overloads("add sub subtract", "Tensor", "Scalar"))
    like("Mul", overloads("mul multiply", "Tensor", "Scalar"))
    aten("_weight_norm.default", WeightNorm(roles={0: "weight", 1: "scale"}, zeroed=frozenset({0, 1})))
    aten("prelu.default", Einsum(text="n c *s, c -> n c *s", numbers=frozenset({1}), roles={1: "scale"}))
    aten("type_as.default to.other", OfFirst(zeroed=frozenset({0})))
