"""The algebra of norm folding, on arrays alone.

A norm with fixed statistics is an affine map per channel, ``y = s * x + t``. For batch normalisation
(Ioffe and Szegedy, 2015, algorithm 2)::

    s = gamma / sqrt(var + eps)          t = beta - mean * s

A linear layer is ``y = gain * W x + b`` (``gain`` is Gemm's alpha, else 1), so an affine map *behind* it is

    W' = diag(s) W                       b' = s * b + t

and an affine map *before* it is

    W' = W diag(s)                       b' = b + gain * W t

where, for a convolution, ``W t`` sums over the kernel's positions too: exact only where every position is
covered at every output, hence without padding. Everything is computed in float64.

Weights come in two layouts; a matrix has no kernel axes and one group::

    out-first   [(g o), c, *k]    Conv, Gemm with transB=1
    in-first    [(g c), o, *k]    ConvTranspose, MatMul, Gemm
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_ROUNDING = 0.01  # relative; bfloat16, the coarsest type, rounds to 0.004


class CannotFold(Exception):
    """Why a norm stays as it is; a failed match raises it and the driver makes a ``missed`` remark of it.

    Args:
        reason: one clause, lower-case, without a final period.
        nodes: names of the nodes that are in the way.
        help: what would unlock it.
    """

    def __init__(self, reason: str, *, nodes: Iterable[str] = (), help: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nodes = tuple(nodes)
        self.help = help


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """The map ``y = scale * x + shift``, one pair a channel.

    Attributes:
        scale: float64 ``[channel]``.
        shift: float64 ``[channel]``.
    """

    scale: FloatArray
    shift: FloatArray

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.scale.size)

    @property
    def scales(self) -> bool:
        """Whether any channel is scaled."""
        return bool((self.scale != 1).any())

    @property
    def shifts(self) -> bool:
        """Whether any channel is shifted."""
        return bool((self.shift != 0).any())

    def repeated(self, times: int) -> Affine:
        """The same map where each channel covers ``times`` consecutive positions, as after Flatten."""
        return Affine(scale=np.repeat(self.scale, times), shift=np.repeat(self.shift, times))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearWeights:
    """A linear layer's weights, whatever op holds them.

    Attributes:
        kernel: float64 ``[(g o), c, *k]`` if ``out_first``, else ``[(g c), o, *k]``.
        bias: float64 with the output channel as its last axis (or size 1 there), or None.
        out_first: which layout ``kernel`` has.
        groups: number of groups ``g``.
        gain: factor on ``W x``, not on the bias.
    """

    kernel: FloatArray
    bias: FloatArray | None
    out_first: bool
    groups: int = 1
    gain: float = 1.0

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return int(self.kernel.shape[0] if self.out_first else self.kernel.shape[1] * self.groups)

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return int(self.kernel.shape[1] * self.groups if self.out_first else self.kernel.shape[0])

    def followed_by(self, affine: Affine) -> LinearWeights:
        """The layer that computes ``affine(layer(x))``; ``affine`` has one channel per output."""
        bias = affine.shift if self.bias is None else self.bias * affine.scale + affine.shift
        return replace(self, kernel=self._scaled(affine, leading=self.out_first), bias=self._bias(bias))

    def preceded_by(self, affine: Affine) -> LinearWeights:
        """The layer that computes ``layer(affine(x))`` where nothing is padded; one channel per input."""
        response = self.response(affine.shift)
        bias = response if self.bias is None else self.bias + response
        return replace(self, kernel=self._scaled(affine, leading=not self.out_first), bias=self._bias(bias))

    def response(self, level: FloatArray) -> FloatArray:
        """What constant inputs add to every output.

        Args:
            level: ``[input]``, one constant per input channel.

        Returns:
            ``[output]``: ``gain * W level``, summed over the kernel's positions.
        """
        rule = "gock,gc->go" if self.out_first else "gcok,gc->go"
        return np.asarray(
            self.gain * np.einsum(rule, self._grouped(), level.reshape(self.groups, -1)).ravel()
        )

    def _grouped(self) -> FloatArray:
        """The kernel as ``[group, leading, second, position]``."""
        lead, second, *positions = self.kernel.shape
        return self.kernel.reshape(self.groups, lead // self.groups, second, math.prod(positions))

    def _scaled(self, affine: Affine, *, leading: bool) -> FloatArray:
        if not affine.scales:
            return self.kernel
        factors = affine.scale.reshape(self.groups, -1)
        factors = factors[:, :, None, None] if leading else factors[:, None, :, None]
        return (self._grouped() * factors).reshape(self.kernel.shape)

    def _bias(self, bias: FloatArray) -> FloatArray | None:
        return bias if self.bias is not None or bias.any() else None


def batch_norm_affine(
    *, gamma: FloatArray, beta: FloatArray, mean: FloatArray, variance: FloatArray, epsilon: float
) -> Affine:
    """Batch normalisation with fixed statistics as an affine map; all arrays are ``[channel]``.

    Raises:
        CannotFold: the arrays' shapes differ, or a channel has no finite scale and shift.
    """
    shapes = {array.shape for array in (gamma, beta, mean, variance)}
    if len(shapes) != 1 or gamma.ndim != 1:
        raise CannotFold(f"its parameters have the shapes {sorted(shapes)}, not one value a channel")
    spread = variance + epsilon
    if not (spread > 0).all():
        bad = int((~(spread > 0)).sum())
        raise CannotFold(
            f"var + epsilon is not positive in {bad} of {spread.size} channels (min {spread.min():g})"
        )
    scale = gamma / np.sqrt(spread)
    return _finite(Affine(scale=scale, shift=beta - mean * scale))


def elementwise_affine(op: str, constant: FloatArray, *, constant_first: bool) -> Affine:
    """Mul, Add, Sub or Div by a constant ``[channel]`` as an affine map of the other operand.

    Raises:
        CannotFold: a division by zero, or of the constant by the tensor, which is not affine.
    """
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    if op == "Mul":
        return _finite(Affine(scale=constant, shift=zero))
    if op == "Add":
        return _finite(Affine(scale=one, shift=constant))
    if op == "Sub":
        return _finite(
            Affine(scale=-one if constant_first else one, shift=constant if constant_first else -constant)
        )
    if op == "Div" and not constant_first and (constant != 0).all():
        return _finite(Affine(scale=1 / constant, shift=zero))
    raise CannotFold(
        "a constant divided by a tensor is not affine" if constant_first else "it divides by zero"
    )


def cast_back(
    exact: FloatArray, dtype: np.dtype[np.generic], *, tiny_ok: bool = False
) -> NDArray[np.generic]:
    """Round folded weights to the type they had.

    Args:
        exact: the folded values, any shape.
        dtype: the type that the tensor has in the model.
        tiny_ok: whether a tensor may sink below the type's normal numbers as a whole (harmless for a bias).

    Raises:
        CannotFold: the values overflow there, or have sunk too low.
    """
    with np.errstate(over="ignore"):
        rounded: NDArray[np.generic] = exact.astype(dtype)
    largest = float(np.abs(exact).max(initial=0))
    error = float(np.abs(rounded.astype(np.float64) - exact).max(initial=0))
    if not np.isfinite(error):
        raise CannotFold(f"the folded weight reaches {largest:.3g}, which overflows {dtype}")
    if error > _ROUNDING * largest and not tiny_ok:
        raise CannotFold(f"the folded weight is at most {largest:.3g}, which underflows {dtype}")
    return rounded


def _finite(affine: Affine) -> Affine:
    if not (np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()):
        raise CannotFold("its scale or shift is not finite")
    return affine
