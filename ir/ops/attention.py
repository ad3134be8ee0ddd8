"""Attention as a single op, as exporters and ONNX Runtime's transformer optimizer write it.

Factors: ``n`` batch, ``s`` query positions, ``l`` key positions, ``p`` past and ``q`` present positions,
    ``h`` heads (key/value heads,
of which ``g`` query heads share one where queries are grouped), ``d`` size of a query or key head, ``e`` size
of a value head, ``k`` hidden size. Whole heads can go; the head size sets the attention scale inside the op
and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prunec.ir.op import Cut, Role
from prunec.ir.ops.einsum import Einsum
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

_CONTRIB = "com.microsoft"
_NONE: Mapping[int, Role] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Einsum):
    """An attention op; ``num_heads`` attributes follow the heads."""

    def rule(self, site: Site) -> Rule:
        """As the rule text says.

        Raises:
            RuleError: query, key and value come packed in sizes that are not equal.
        """
        sizes = site.node.attributes.get("qkv_hidden_sizes")
        if sizes is not None and len(set(sizes.as_ints())) > 1:
            raise RuleError("query, key and value have different hidden sizes")
        return Einsum.rule(self, site)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQueryAttention(Einsum):
    """Attention of which every key/value head serves ``g`` query heads; a key/value head goes with all of
    them.

    Attributes:
        query_heads: name of the attribute that holds the number of query heads.
        key_heads: name of the attribute that holds the number of key/value heads.
    """

    query_heads: str
    key_heads: str

    def rule(self, site: Site) -> Rule:
        """As the rule text says, with the sizes of both attributes.

        Raises:
            RuleError: query, key and value come packed in one tensor.
        """
        if site.input(1) is None:
            raise RuleError("query, key and value are packed in one tensor")
        return Einsum.rule(self, site)

    def rewrite(self, site: Site, cut: Cut) -> None:
        """Both numbers of heads shrink alike."""
        if self.key_heads not in site.node.attributes:
            return
        heads, old = cut.factor("h"), site.int_attribute(self.key_heads, 1)
        cut.set_numbers(
            {
                self.key_heads: heads,
                self.query_heads: site.int_attribute(self.query_heads, old) // old * heads,
            }
        )


def _attention(
    text: str, *, reduced: str = "", fixed: str = "t d p q", roles: Mapping[int, Role] = _NONE
) -> Attention:
    return Attention(
        text=text,
        reduced=reduced,
        fixed=fixed,
        why="the head size or a position",
        parallel="h",
        known={"h": "num_heads"},
        attributes={"num_heads": "h"},
        roles=roles,
        linear=bool(roles),
        zeroed=frozenset(roles),
    )


def register_ops() -> None:
    """Register the family's ops."""
    weights: dict[int, Role] = {1: "weight", 2: "bias"}
    register(
        "Attention",
        _attention(
            "n s k, k (t h d), (t h d), -, u n h p d -> n s (h d), u n h q d",
            reduced="k",
            fixed="t u d p q",
            roles=weights,
        ),
        domain=_CONTRIB,
    )
    register(
        "QAttention",
        _attention("n s k, k (t h d), (t h d) -> n s (h d)", reduced="k", fixed="t d", roles=weights),
        domain=_CONTRIB,
    )
    register(
        "MultiHeadAttention",
        _attention("n s (h d), n l (h d), n l (h e), (t h d) -> n s (h e)", fixed="t d e", roles={3: "bias"}),
        domain=_CONTRIB,
    )
    grouped = "n s (h g d), n l (h d), n l (h e), n h p d, n h p e -> n s (h g e), n h q d, n h q e"
    register(
        "GroupQueryAttention",
        GroupedQueryAttention(
            text=grouped,
            fixed="g d e p q",
            why="the head size or a position",
            parallel="h",
            known={"h": "kv_num_heads"},
            query_heads="num_heads",
            key_heads="kv_num_heads",
        ),
        domain=_CONTRIB,
    )
    split = "n (h g) s d, n h l d, n h l e, -, n h p d, n h p e -> n (h g) s e, n h q d, n h q e"
    masked = "n s (h g d), n l (h d), n l (h e), -, n h p d, n h p e -> n s (h g e), n h q d, n h q e"
    register(
        "Attention",
        GroupedQueryAttention(
            text=f"{split} | {masked}",
            fixed="g d e p q",
            why="the head size or a position",
            parallel="h",
            known={"h": "kv_num_heads"},
            query_heads="q_num_heads",
            key_heads="kv_num_heads",
        ),
    )
    register(
        "RotaryEmbedding",
        Einsum(
            text="n s (h d) -> n s (h d) | n h s d -> n h s d",
            fixed="d",
            why="the head size",
            parallel="h",
            known={"h": "num_heads"},
            attributes={"num_heads": "h"},
        ),
        domain=_CONTRIB,
    )
