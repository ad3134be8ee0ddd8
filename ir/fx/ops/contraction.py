"""Convolutions, linear layers, matrix products, attention and embeddings of ATen.

Factors are those of :mod:`prunec.ir.ops.einsum` and :mod:`prunec.ir.ops.attention`.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.form import Form
from prunec.ir.fx.ops.alias import aten, like
from prunec.ir.op import Role
from prunec.ir.ops.attention import Heads
from prunec.ir.ops.einsum import Einsum
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

_WEIGHT_BIAS: dict[int, Role] = {1: "weight", 2: "bias"}
_BIAS_FIRST: dict[int, Role] = {0: "bias", 1: "weight", 2: "weight"}
_ALL = frozenset({0, 1, 2})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledDotProduct(Heads):
    """Attention over query, key and value of which heads are an axis: whole heads or positions within them.

    The scale is a literal of the call, so that the size of a head may change.
    """

    fixed: str = "g x y"
    reduced: str = "d l"

    def rule(self, site: Site) -> Rule:
        """Grouped heads for four axes (``n (h g) s d``), any batch axes otherwise.

        Raises:
            RuleError: the query heads are no multiple of the key heads.
        """
        shape, keys = site.shape(0), site.shape(1)
        if len(shape) != 4 or keys[1] == 1:
            mask = "*b x y" if site.has(3) else "-"
            return self.fitted(site, f"*b s d, *b l d, *b l e, {mask} -> *b s e", {})
        if shape[1] % keys[1]:
            raise RuleError(f"{shape[1]} query heads for {keys[1]} key heads")
        mask = " ".join(("n", "(h g)", "x", "y")[4 - len(site.shape(3)) :]) if site.has(3) else "-"
        text = f"n (h g) s d, n h l d, n h l e, {mask} -> n (h g) s e"
        return self.fitted(site, text, {"h": keys[1], "g": shape[1] // keys[1]})

    def exact(self, rule: Rule, factor: str, constants: object) -> bool:
        """Never for the size of a head of computed operands; positions are summed over as they are."""
        del rule, constants
        return factor == "l"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched(Einsum):
    """An op over a fixed number of spatial axes, of which the batch axis may be missing.

    Attributes:
        rank: number of axes with the batch axis.
    """

    rank: int

    def rule(self, site: Site) -> Rule:
        """As the rule text says, without ``n`` where the batch axis is missing."""
        text = self.text
        if len(site.shape(0)) == self.rank - 1:
            text = text.replace("n c", "c")
        return self.fitted(site, text, {f: site.int_attribute(name, 1) for f, name in self.known.items()})


def register_ops() -> None:
    """Register the family's ops."""
    group = Form(attributes={"group": "groups"})
    for axes in (1, 2, 3):
        like("Conv", f"conv{axes}d.default conv{axes}d.padding", group)
    like("ConvTranspose", "conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input", group)
    linear = Einsum(text="*a k, n k, n -> *a n", reduced="k", roles=_WEIGHT_BIAS, linear=True, zeroed=_ALL)
    aten("linear.default", linear, Form(constants={"transB": 1}), standard="Gemm")
    like("MatMul", "matmul.default mm.default bmm.default mv.default dot.default vdot.default")
    add = Einsum(
        text="n, m k, k n -> m n | m n, m k, k n -> m n",
        reduced="k",
        roles=_BIAS_FIRST,
        linear=True,
        zeroed=_ALL,
    )
    aten("addmm.default", add)
    text = "b m n, b m k, b k n -> b m n | m n, b m k, b k n -> b m n | n, b m k, b k n -> b m n"
    aten("baddbmm.default", Einsum(text=text, reduced="k", roles=_BIAS_FIRST, linear=True, zeroed=_ALL))
    text = "*a i, *a j, n i j, n -> *a n"
    bilinear: dict[int, Role] = {2: "weight", 3: "bias"}
    aten(
        "bilinear.default",
        Einsum(text=text, reduced="i j", roles=bilinear, linear=True, zeroed=frozenset(range(4))),
    )
    like("Einsum", "einsum.default")
    experts = Einsum(
        text="t k, e k n, e -> t n",
        reduced="k",
        fixed="e",
        why="the number of experts",
        roles={1: "weight"},
        linear=True,
        zeroed=frozenset({0, 1}),
        uncounted="e",  # every token goes to one
    )
    aten("_grouped_mm.default", experts)
    register("grouped_mm_fallback.default", experts, domain="transformers")
    aten("scaled_dot_product_attention.default", ScaledDotProduct(text=""))
    like("Gather", "embedding.default", Form(constants={"axis": 0}))
