"""Fused ops of ONNX Runtime's optimizer (domain ``com.microsoft``), the op Einsum, and group normalisation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from prunec.ir.op import Role
from prunec.ir.ops.einsum import Einsum, Gemm, MatMul, convolution
from prunec.ir.ops.elementwise import AlongAxis, Elementwise
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError, fit, parse_template
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"
_NORM: Mapping[int, Role] = {1: "scale", 2: "bias"}
_WEIGHTS: Mapping[int, Role] = {0: "weight", 1: "weight"}


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
        """The equation with letters as factors and the ellipsis as ``*z``.

        Raises:
            RuleError: a letter stands twice in one operand (a diagonal).
        """
        equation = site.text_attribute("equation", "").replace(" ", "")
        left, arrow, right = equation.partition("->")
        if any(max(Counter(o.replace(".", "")).values(), default=0) > 1 for o in left.split(",")):
            raise RuleError(f"equation '{equation}' takes a diagonal")
        letters = Counter(re.sub(r"[.,]", "", left))
        if not arrow:
            once = sorted(letter for letter, count in letters.items() if count == 1)
            right = ("..." if "..." in left else "") + "".join(once)
        text = f"{', '.join(map(_spaced, left.split(',')))} -> {_spaced(right)}"
        reduced = sorted(set(letters) - set(right))
        return fit(parse_template(text), site.input_shapes, site.output_shapes, reduced=reduced)


def _spaced(letters: str) -> str:
    """``...ij`` as ``*z i j``."""
    return " ".join(re.findall(r"\*z|\w", letters.replace("...", "*z")))


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalConv(Einsum):
    """A depthwise convolution that carries the last positions over to the next call."""

    def rule(self, site: Site) -> Rule:
        """As the rule text says.

        Raises:
            RuleError: channels are last, or there is a window of states.
        """
        for attribute in ("channels_last", "state_window"):
            if site.int_attribute(attribute, 0):
                raise RuleError(f"it has no rule where `{attribute}` is set")
        return Einsum.rule(self, site)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNorm(Einsum):
    """Normalisation over groups of channels and all positions; scale and bias per group until opset 20, then
    per channel.

    Attributes:
        groups: name of the attribute that holds the number of groups.
    """

    groups: str

    def rule(self, site: Site) -> Rule:
        """``n (g c) *s, (g c), (g c) -> n (g c) *s``, or ``g`` for scale and bias, or channels last; then
        with a tensor that is added first, and its bias.
        """
        last = site.int_attribute("channels_last", int(site.node.domain == _CONTRIB))
        channels = site.shape(0)[-1 if last else 1]
        data = "n *s (g c)" if last else "n (g c) *s"
        vector = "(g c)" if not site.has(1) or site.shape(1)[0] == channels else "g"
        skip = data if not site.has(3) or len(site.shape(3)) > 2 else "n (g c)"
        text = f"{data}, {vector}, {vector}, {skip}, (g c) -> {data}, {data}"
        return self.fitted(site, text, {"g": site.int_attribute(self.groups, 1)})


def _group_norm(groups: str) -> GroupNorm:
    return GroupNorm(
        text="",
        groups=groups,
        reduced="c *s",
        fixed="*s",
        roles={**_NORM, 4: "bias"},
        zeroed=frozenset({1, 2, 4}),
        attributes={groups: "g"},
    )


def register_ops() -> None:
    """Register the family's ops."""
    _register_products()
    _register_norms()
    register("Gelu QuickGelu ScaledSiLU", Elementwise(zeroed=frozenset({0})), domain=_CONTRIB)
    register("GatedAdd", Elementwise(), domain=_CONTRIB)
    register(
        "BiasSoftmax",
        AlongAxis(default_axis=1, to_end=True, contested=True, roles={1: "bias"}),
        domain=_CONTRIB,
    )
    register(
        "GatedRMSNorm",
        Einsum(
            text="*a (h k), k, *a (h k) -> *a (h k)", reduced="k", roles={1: "scale"}, zeroed=frozenset({1})
        ),
        domain=_CONTRIB,
    )
    register(
        "Inverse", Einsum(text="*b x y -> *b y x", fixed="x y", why="a side of the matrix"), domain=_CONTRIB
    )
    added = Elementwise(zeroed=frozenset({0, 1}), roles={1: "bias"})
    register("BiasGelu FastGelu BiasAdd", added, domain=_CONTRIB)
    halves = Einsum(
        text="n s (t o), (t o) -> n s o",
        fixed="t",
        why="the two halves",
        roles={1: "bias"},
    )
    register("BiasSplitGelu", halves, domain=_CONTRIB)


def _register_products() -> None:
    product = FusedMatMul(roles=_WEIGHTS, linear=True, zeroed=frozenset({0, 1}))
    register("FusedMatMul TransposeMatMul", product, domain=_CONTRIB)
    register("Einsum", EinsumOp(text="", roles=_WEIGHTS, linear=True, zeroed=frozenset(range(8))))
    gemm = Gemm(roles={1: "weight", 2: "bias"}, linear=True, zeroed=frozenset({0, 1, 2}))
    register("FusedGemm", gemm, domain=_CONTRIB)
    conv = convolution("n (g c) *s, (g o) c *k, (g o), n (g o) *t -> n (g o) *t", uncounted="s")
    register("FusedConv", replace(conv, zeroed=frozenset({1, 2})), domain=_CONTRIB)
    causal = CausalConv(
        text="n c *s, c x *k, c, n c *p -> n c *s, n c *p",
        reduced="*k",
        fixed="*s *k *p x",
        roles={1: "weight", 2: "bias"},
        linear=True,
        zeroed=frozenset({1, 2}),
        uncounted="p",
    )
    for domain in ("", _CONTRIB):
        register("CausalConvWithState", causal, domain=domain)
    register(
        "GemmFastGelu",
        Einsum(
            text="*a k, k n, n -> *a n",
            reduced="k",
            roles={1: "weight", 2: "bias"},
            linear=True,
            zeroed=frozenset({1, 2}),
        ),
        domain=_CONTRIB,
    )
    transposed = replace(
        convolution("n (g c) *s, (g c) o *k, -, (g o) -> n (g o) *t", uncounted="t"),
        roles={1: "weight", 3: "bias"},
        zeroed=frozenset({1, 3}),
    )
    register("ConvTransposeWithDynamicPads", transposed, domain=_CONTRIB)
    register("CDist", Einsum(text="m k, n k -> m n", reduced="k"), domain=_CONTRIB)


def _register_norms() -> None:
    skip: dict[int, Role] = {2: "scale", 3: "bias", 4: "bias"}
    for name, vectors in (
        ("SkipLayerNormalization", "k, k, k"),
        ("SkipSimplifiedLayerNormalization", "k, k"),
    ):
        norm = Einsum(
            text=f"*a k, *a k, {vectors} -> *a k, -, -, *a k",
            reduced="k",
            roles=skip,
            zeroed=frozenset({2, 3, 4}),
        )
        register(name, norm, domain=_CONTRIB)
    embed = Einsum(
        text="n s, n s, v k, p k, w k, k, k -> n s k, -, n s k",
        reduced="k",
        fixed="v p w",
        why="a row of a table",
        roles={2: "weight", 3: "weight", 4: "weight", 5: "scale", 6: "bias"},
        zeroed=frozenset({2, 3, 4, 5, 6}),
    )
    register("EmbedLayerNormalization", embed, domain=_CONTRIB)
    register("GroupNormalization", _group_norm("num_groups"))
    register("GroupNorm SkipGroupNorm", _group_norm("groups"), domain=_CONTRIB)
