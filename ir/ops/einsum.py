"""Ops whose coupling is one fixed line of rule text: convolutions, poolings, normalisations over fixed axes,
and the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prunec.ir.op import Op, Role
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError, fit, parse_template
from prunec.ir.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Einsum(Op):
    """An op with a rule text.

    Attributes:
        text: the rule, see :mod:`prunec.ir.rule`.
        reduced: factors that the op reduces over, separated by spaces.
        fixed: factors that must keep their size, separated by spaces.
        why: what a fixed factor is, for people: ``"a spatial axis"``.
        known: factor sizes that attributes hold, as {factor: attribute} (1 where the attribute is absent).
    """

    text: str
    reduced: str = ""
    fixed: str = ""
    why: str = "a spatial axis"
    known: Mapping[str, str] = field(default_factory=dict)

    def rule(self, site: Site) -> Rule:
        """The rule text fitted to the node's shapes."""
        for position, value in enumerate(site.node.inputs):
            if value is not None:
                site.shape(position)
        site.output_shape()
        return fit(
            parse_template(self.text),
            site.input_shapes,
            site.output_shapes,
            known={factor: site.int_attribute(name, 1) for factor, name in self.known.items()},
            reduced=self.reduced.split(),
            fixed=dict.fromkeys(self.fixed.split(), f"{self.why} of {site.node.op_type}"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm(Op):
    """``Y = alpha * A' * B' + beta * C``, where ``'`` transposes on request and C broadcasts."""

    def rule(self, site: Site) -> Rule:
        """One of four texts, by transA and transB, with C aligned to the right."""
        a = "k m" if site.int_attribute("transA", 0) else "m k"
        b = "n k" if site.int_attribute("transB", 0) else "k n"
        c = ""
        if site.input(2) is not None:
            c = ", " + " ".join(("m", "n")[2 - len(site.shape(2)) :])
        return fit(
            parse_template(f"{a}, {b}{c} -> m n"), site.input_shapes, site.output_shapes, reduced=["k"]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Op):
    """Numpy's matmul: ``*b m k, *b k n -> *b m n`` with broadcast batch axes; a one-dimensional operand lacks
    m or n.
    """

    def rule(self, site: Site) -> Rule:
        """The text that fits the two ranks."""
        left, right = len(site.shape(0)), len(site.shape(1))
        if not left or not right:
            raise RuleError("MatMul of a scalar")
        a, m = ("*b m k", " m") if left > 1 else ("k", "")
        b, n = ("*b k n", " n") if right > 1 else ("k", "")
        batch = "*b" if max(left, right) > 2 else ""
        text = f"{a}, {b} -> {batch}{m}{n}"
        return fit(parse_template(text), site.input_shapes, site.output_shapes, reduced=["k"])


_WEIGHT_BIAS: dict[int, Role] = {1: "weight", 2: "bias"}
_ALL = frozenset({0, 1, 2})


def _convolution(text: str, uncounted: str) -> Einsum:
    return Einsum(
        text=text,
        reduced="c *k",
        fixed="*s *k *t",
        attributes={"group": "g"},
        known={"g": "group"},
        roles=_WEIGHT_BIAS,
        linear=True,
        zeroed=_ALL,
        uncounted=uncounted,
    )


def register_ops() -> None:
    """Register the family's ops."""
    register("Conv", _convolution("n (g c) *s, (g o) c *k, (g o) -> n (g o) *t", uncounted="s"))
    register("ConvTranspose", _convolution("n (g c) *s, (g c) o *k, (g o) -> n (g o) *t", uncounted="t"))
    register("Gemm", Gemm(roles=_WEIGHT_BIAS, linear=True, zeroed=_ALL))
    register("MatMul", MatMul(roles={0: "weight", 1: "weight"}, linear=True, zeroed=frozenset({0, 1})))
    register(
        "BatchNormalization",
        Einsum(
            text="n c *s, c, c, c, c -> n c *s",
            roles={1: "scale", 2: "bias", 3: "statistic", 4: "statistic"},
            zeroed=frozenset({1, 2}),
        ),
    )
    register(
        "InstanceNormalization",
        Einsum(
            text="n c *s, c, c -> n c *s", fixed="*s", roles={1: "scale", 2: "bias"}, zeroed=frozenset({1, 2})
        ),
    )
    register(
        "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool",
        Einsum(text="n c *s -> n c *t, n c *t", fixed="*s *t", why="a pooled axis"),
    )
    register("DepthToSpace", DepthToSpace())
    register("SpaceToDepth", SpaceToDepth())


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthToSpace(Op):
    """Blocks of channels become blocks of space; ``mode`` says whether the channel or the block is the outer
    factor.
    """

    def rule(self, site: Site) -> Rule:
        """``n (b d c) h w -> n c (h b) (w d)``, or ``(c b d)`` in CRD mode."""
        channels = "c b d" if site.text_attribute("mode", "DCR") == "CRD" else "b d c"
        return _blocks(site, f"n ({channels}) h w -> n c (h b) (w d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceToDepth(Op):
    """Blocks of space become blocks of channels."""

    def rule(self, site: Site) -> Rule:
        """``n c (h b) (w d) -> n (b d c) h w``."""
        return _blocks(site, "n c (h b) (w d) -> n (b d c) h w")


def _blocks(site: Site, text: str) -> Rule:
    block = site.int_attribute("blocksize", 1)
    why = dict.fromkeys("bdhw", f"a spatial axis of {site.node.op_type}")
    return fit(
        parse_template(text), site.input_shapes, site.output_shapes, known={"b": block, "d": block}, fixed=why
    )
