"""Fused ops of ONNX Runtime's optimizer (domain ``com.microsoft``) and further standard ops with a fixed
rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.op import Role
from prunec.ir.ops.einsum import Einsum, MatMul
from prunec.ir.ops.elementwise import AlongAxis, Elementwise
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError, fit, parse_template
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"
_NORM: dict[int, Role] = {1: "scale", 2: "bias"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedMatMul(MatMul):
    """MatMul with transposed operands on request."""

    def rule(self, site: Site) -> Rule:
        """As MatMul, with the last two axes of an operand swapped.

        Raises:
            RuleError: batch axes are transposed.
        """
        if site.int_attribute("transBatchA", 0) or site.int_attribute("transBatchB", 0):
            raise RuleError("batch axes are transposed")
        a = "*b k m" if site.int_attribute("transA", 0) else "*b m k"
        b = "*b n k" if site.int_attribute("transB", 0) else "*b k n"
        return fit(
            parse_template(f"{a}, {b} -> *b m n"), site.input_shapes, site.output_shapes, reduced=["k"]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EinsumOp(Einsum):
    """The op called Einsum: its equation is its rule."""

    def rule(self, site: Site) -> Rule:
        """The equation with letters as factors.

        Raises:
            RuleError: an ellipsis, a repeated letter, or an implicit output.
        """
        equation = site.text_attribute("equation", "").replace(" ", "")
        left, arrow, right = equation.partition("->")
        operands = left.split(",")
        if "." in equation or not arrow or any(len(set(o)) < len(o) for o in operands):
            raise RuleError(f"equation '{equation}' is not a plain contraction")
        text = ", ".join(" ".join(o) for o in operands) + " -> " + " ".join(right)
        reduced = sorted(set(left) - set(right) - {","})
        return fit(parse_template(text), site.input_shapes, site.output_shapes, reduced=reduced)


def register_ops() -> None:
    """Register the family's ops."""
    register("Gelu QuickGelu", Elementwise(zeroed=frozenset({0})), domain=_CONTRIB)
    register(
        "BiasGelu FastGelu BiasAdd", Elementwise(zeroed=frozenset({0, 1}), roles={1: "bias"}), domain=_CONTRIB
    )
    register(
        "FusedMatMul",
        FusedMatMul(roles={0: "weight", 1: "weight"}, linear=True, zeroed=frozenset({0, 1})),
        domain=_CONTRIB,
    )
    register(
        "Einsum", EinsumOp(text="", roles={0: "weight", 1: "weight"}, linear=True, zeroed=frozenset({0, 1}))
    )
    register(
        "FusedConv",
        Einsum(
            text="n (g c) *s, (g o) c *k, (g o), n (g o) *t -> n (g o) *t",
            reduced="c *k",
            fixed="*s *k *t",
            attributes={"group": "g"},
            known={"g": "group"},
            roles={1: "weight", 2: "bias"},
            linear=True,
            zeroed=frozenset({1, 2}),
            uncounted="s",
        ),
        domain=_CONTRIB,
    )
    skip: dict[int, Role] = {2: "scale", 3: "bias", 4: "bias"}
    register(
        "SkipLayerNormalization",
        Einsum(
            text="*a k, *a k, k, k, k -> *a k, -, -, *a k",
            reduced="k",
            roles=skip,
            zeroed=frozenset({2, 3, 4}),
        ),
        domain=_CONTRIB,
    )
    register(
        "SkipSimplifiedLayerNormalization",
        Einsum(
            text="*a k, *a k, k, k -> *a k, -, -, *a k", reduced="k", roles=skip, zeroed=frozenset({2, 3})
        ),
        domain=_CONTRIB,
    )
    register("SimplifiedLayerNormalization", AlongAxis(to_end=True, roles=_NORM, zeroed=frozenset({1, 2})))
    register(
        "EmbedLayerNormalization",
        Einsum(
            text="n s, n s, v k, p k, w k, k, k -> n s k, -, n s k",
            reduced="k",
            fixed="v p w",
            why="an index that inputs look up",
            zeroed=frozenset({2, 3, 4, 5, 6}),
            roles={2: "weight", 3: "weight", 4: "weight", 5: "scale", 6: "bias"},
        ),
        domain=_CONTRIB,
    )
    for name, domain, groups in (("GroupNormalization", "", "num_groups"), ("GroupNorm", _CONTRIB, "groups")):
        norm = GroupNorm(
            groups=groups, text="", roles=_NORM, zeroed=frozenset({1, 2}), attributes={groups: "g"}
        )
        register(name, norm, domain=domain)
    register(
        "GridSample", Einsum(text="n c *s, n *t x -> n c *t", fixed="*s *t x", why="a coordinate or position")
    )
    register("RoiAlign MaxRoiPool", Einsum(text="n c *s, r x, r -> r c *t", fixed="*s *t x"))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNorm(Einsum):
    """Normalisation over groups of channels and all positions; scale and bias per group until opset 20, then
    per channel.

    Attributes:
        groups: name of the attribute that holds the number of groups.
    """

    groups: str

    def rule(self, site: Site) -> Rule:
        """``n (g c) *s, (g c), (g c) -> n (g c) *s``, or ``g`` for scale and bias, or channels last."""
        last = site.int_attribute("channels_last", int(site.node.domain == _CONTRIB))
        channels = site.shape(0)[-1 if last else 1]
        data = "n *s (g c)" if last else "n (g c) *s"
        vector = "(g c)" if site.shape(1)[0] == channels else "g"
        rule = Einsum(
            text=f"{data}, {vector}, {vector} -> {data}",
            reduced="c *s",
            fixed="*s",
            known={"g": self.groups},
        )
        return Einsum.rule(rule, site)
