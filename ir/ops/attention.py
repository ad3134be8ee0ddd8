"""Attention as a single op, as exporters and ONNX Runtime's transformer optimizer write it.

Factors: ``n`` batch, ``s`` query positions, ``l`` key positions, ``p`` past and ``q`` present positions,
    ``h`` heads (key/value heads, of which ``g`` query heads share one where queries are grouped), ``d`` size
    of a query or key head, ``e`` size of a value head, ``k`` hidden size, ``x`` and ``y`` positions of a mask.
Whole heads can go; the head size sets the attention scale inside the op and stays, and so do positions, over
which the softmax runs and to which masks, rotations and a causal order belong. Query, key and value that
stand one behind the other on one axis are a :class:`~prunec.ir.rule.Packing` of heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prunec.ir.op import Cut, Role
from prunec.ir.ops.einsum import Einsum
from prunec.ir.registry import register
from prunec.ir.rule import Packing, Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"
_WEIGHT_BIAS: Mapping[int, Role] = {1: "weight", 2: "bias"}


def pack(rule: Rule, operand: tuple[str, int], axis: int, widths: Sequence[int]) -> Rule:
    """Let an axis hold pieces that each have a number of slots (``widths``) for every head ``h``.

    Raises:
        RuleError: the axis does not have the size of all pieces together.
    """
    heads = np.arange(rule.sizes["h"])
    index = np.concatenate([np.repeat(heads, width) for width in widths])
    packing = Packing(operand=operand, axis=axis, factor="h", index=index)
    return replace(rule, packed=(*rule.packed, packing))


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads(Einsum):
    """Attention over heads that are computed side by side.

    Attributes:
        vectors: positions of inputs that hold a number for every slot of query, key and value, one behind
            the other.
    """

    fixed: str = "d e g p q s l x y u"
    why: str = "the head size or a position"
    parallel: str = "h"
    vectors: tuple[int, ...] = ()

    def packed(self, site: Site, rule: Rule, widths: Sequence[int]) -> Rule:
        """The rule with the last axis of all packed operands as pieces of query, key and value.

        Raises:
            RuleError: an operand does not have the size of the pieces.
        """
        for position in self.vectors:
            if not site.has(position) or np.prod(site.shape(position)) == 1:
                continue
            axis, size = len(site.shape(position)) - 1, site.shape(position)[-1]
            if size != rule.sizes["h"] * sum(widths):
                raise RuleError(
                    f"input {position} has {size} slots, and {rule.sizes['h']} heads of {widths} need another number"
                )
            rule = pack(rule, ("in", position), axis, widths)
        return rule

    def macs(self, rule: Rule) -> int:
        """The projections that the op holds, queries times keys, and probabilities times values."""
        size = {name: rule.sizes.get(name, 1) for name in "nshgk"}
        keys = rule.sizes.get("l", rule.sizes.get("q", size["s"]))
        head = rule.sizes.get("e", 1) + rule.sizes.get("d", rule.sizes.get("e", 1))
        weights = sum(len(p.index) for p in rule.packed if p.operand == ("in", 1) and "k" in rule.sizes)
        scores = size["n"] * size["s"] * keys * size["h"] * size["g"] * head
        return scores + size["n"] * size["s"] * size["k"] * weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Heads):
    """Attention that holds the projections to query, key and value as one weight."""

    linear: bool = True

    def rule(self, site: Site) -> Rule:
        """As the rule text says; the weight's columns are the heads of query, of key and of value."""
        heads = site.int_attribute("num_heads", 1)
        query, _, value = self._hidden_sizes(site)
        rule = self.fitted(site, self.text, {"h": heads, "d": query // heads, "e": value // heads})
        return self.packed(site, rule, (query // heads, query // heads, value // heads))

    def rewrite(self, site: Site, cut: Cut) -> None:
        """Fewer heads, and the hidden sizes that follow from them."""
        heads, old = cut.factor("h"), site.int_attribute("num_heads", 1)
        cut.set_numbers({"num_heads": heads})
        if "qkv_hidden_sizes" in site.attributes:
            cut.set_attributes({"qkv_hidden_sizes": [n // old * heads for n in self._hidden_sizes(site)]})

    def _hidden_sizes(self, site: Site) -> list[int]:
        sizes = site.integers(-1, "qkv_hidden_sizes") if "qkv_hidden_sizes" in site.attributes else None
        return sizes or [site.shape(1)[1] // 3] * 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiHeadAttention(Heads):
    """Attention on query, key and value that were projected before; key and value may come split by heads."""

    def rule(self, site: Site) -> Rule:
        """As the rule text says, with the bias as pieces for query, key and value.

        Raises:
            RuleError: some of query, key and value come interleaved in one tensor.
        """
        ranks = [0 if not site.has(i) else len(site.shape(i)) for i in range(3)]
        if ranks[0] == 5 or 0 in ranks or 5 in ranks:
            raise RuleError(f"{'query, ' if ranks[0] == 5 else ''}key and value are packed in one tensor")
        rule = Einsum.rule(self, site)
        return self.packed(site, rule, (rule.sizes["d"], rule.sizes["d"], rule.sizes["e"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQueryAttention(Heads):
    """Attention of which every key/value head serves ``g`` query heads; a key/value head goes with all of
    them.

    Attributes:
        query_heads: name of the attribute that holds the number of query heads.
        key_heads: name of the attribute that holds the number of key/value heads.
        mask: position of a mask that broadcasts against batch, query heads, queries and keys, or None.
    """

    query_heads: str = "q_num_heads"
    key_heads: str = "kv_num_heads"
    mask: int | None = None

    def rule(self, site: Site) -> Rule:
        """As the rule text says, with the numbers of heads from the attributes or the split operands.

        Raises:
            RuleError: the query heads are no multiple of the key/value heads.
        """
        if not site.has(1):
            return self._packed_rule(site)
        heads = {"h": site.int_attribute(self.key_heads, 0), "q": site.int_attribute(self.query_heads, 0)}
        if len(site.shape(0)) == 4:
            heads = {"h": site.shape(1)[1], "q": site.shape(0)[1]}
        if not heads["h"] or heads["q"] % heads["h"]:
            raise RuleError(f"{heads['q']} query heads are no multiple of {heads['h']} key/value heads")
        known = {"h": heads["h"], "g": heads["q"] // heads["h"]}
        return self.fitted(site, self._text(site), known)

    def _text(self, site: Site) -> str:
        """The rule text, with a mask of any rank aligned to the right."""
        if self.mask is None or not site.has(self.mask):
            return self.text.replace("MASK", "-")
        return self.text.replace("MASK", " ".join(("n", "(h g)", "x", "y")[4 - len(site.shape(self.mask)) :]))

    def _packed_rule(self, site: Site) -> Rule:
        """Query, key and value one behind the other on the last axis of input 0."""
        heads = site.int_attribute(self.key_heads, 1)
        group = site.int_attribute(self.query_heads, heads) // heads
        size = site.shape(0)[-1] // (heads * (group + 2))
        text = self.text.split("|")[0]
        rest = text[text.index(",") :]
        rule = self.fitted(site, f"n s (){rest}", {"h": heads, "g": group, "d": size, "e": size})
        return pack(rule, ("in", 0), len(site.shape(0)) - 1, (group * size, size, size))

    def rewrite(self, site: Site, cut: Cut) -> None:
        """Both numbers of heads shrink alike."""
        if self.key_heads not in site.attributes:
            return
        heads, old = cut.factor("h"), site.int_attribute(self.key_heads, 1)
        queries = site.int_attribute(self.query_heads, old) // old * heads
        cut.set_numbers({self.key_heads: heads, self.query_heads: queries})


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryEmbedding(Heads):
    """Rotation of pairs within every head by angles that depend on the position."""

    def rule(self, site: Site) -> Rule:
        """Heads split off, or as many as the attribute or the table of angles says."""
        shape, heads = site.shape(0), site.int_attribute("num_heads", 0)
        if len(shape) == 3 and not heads:
            table = site.shape(2 if site.node.domain == _CONTRIB else 1)
            heads = shape[2] // (2 * table[-1])
        return self.fitted(site, self.text, {"h": heads} if len(shape) == 3 else {})

    def rewrite(self, site: Site, cut: Cut) -> None:
        """Fewer heads, where an attribute tells their number."""
        if site.int_attribute("num_heads", 0):
            cut.set_numbers({"num_heads": cut.factor("h")})

    def macs(self, rule: Rule) -> int:
        """None: a rotation is no contraction."""
        del rule
        return 0


def register_ops() -> None:
    """Register the family's ops."""
    roles = dict(_WEIGHT_BIAS)
    one = Attention(
        text="n s k, k (), (), -, u n h p d, n h x y -> n s (h e), u n h q d",
        reduced="k",
        roles=roles,
        zeroed=frozenset(roles),
        vectors=(1, 2),
    )
    register("Attention", one, domain=_CONTRIB)
    projected = "n s (h d), {0}, (), -, n h x y, n h p d, n h p e -> n s (h e), n h q d, n h q e, n h s q"
    multi = MultiHeadAttention(
        text="|".join(projected.format(t) for t in ("n l (h d), n l (h e)", "n h l d, n h l e")),
        known={"h": "num_heads"},
        attributes={"num_heads": "h"},
        roles={3: "bias"},
        zeroed=frozenset({3}),
        vectors=(3,),
    )
    register("MultiHeadAttention", multi, domain=_CONTRIB)
    past = "n h p d, n h p e -> {0}, n h q d, n h q e, n (h g) s y"
    separate = "n s (h g d), n l (h d), n l (h e)"
    grouped = GroupedQueryAttention(
        text="n s (h g d), n l (h d), n l (h e), n h p d, n h p e, -, -, -, -, -, n (h g) x y, (h g)"
        " -> n s (h g e), n h q d, n h q e, n (h g) s y",
        query_heads="num_heads",
    )
    register("GroupQueryAttention", grouped, domain=_CONTRIB)
    split = "n (h g) s d, n h l d, n h l e"
    standard = GroupedQueryAttention(
        text=f"{split}, MASK, {past.format('n (h g) s e')} | {separate}, MASK, {past.format('n s (h g e)')}",
        mask=3,
    )
    register("Attention", standard)
    state = "n s (h g d), n s (h d), n s (h e), n h d e, n s (h x), n s h -> n s (h g e), n h d e"
    for domain in ("", _CONTRIB):
        register("LinearAttention", GroupedQueryAttention(text=state), domain=domain)
    rotary = RotaryEmbedding(text="n s (h d) -> n s (h d) | n h s d -> n h s d")
    register("RotaryEmbedding", rotary)
    register("RotaryEmbedding", rotary, domain=_CONTRIB)
