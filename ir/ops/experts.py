"""Mixtures of experts: a router sends every row to a few of many feed-forward networks.

Factors: ``t`` rows, ``e`` experts, ``(q v)`` hidden size in ``q`` packs of ``v`` numbers, ``(a w)`` size of an
expert's inner layer in ``a`` packs of ``w``, ``f`` the two halves of a gated activation, which take turns. Weights
of 4 bits are packed two to a byte, so that pairs go together; ``v`` and ``w`` are 1 elsewhere. The experts
themselves stay: which of them a row goes to is a ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.ir.op import Role
from prunec.ir.ops.blockwise import unpack
from prunec.ir.ops.einsum import Einsum
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts(Einsum):
    """A mixture of experts with a gated or plain inner layer.

    Attributes:
        start: position of the weights of the inner layer.
        apart: how far the weights of the three layers are from each other; scales, if any, and biases stand between.
    """

    start: int
    apart: int

    def rule(self, site: Site) -> Rule:
        """As the rule text says, with the halves of the activation in the order of ``swiglu_fusion``.

        Raises:
            RuleError: the weights have scales for blocks, zero points, or an order of their own.
        """
        fusion = site.int_attribute("swiglu_fusion", 0)
        pack = self.pack(site)
        inner = "f a w" if fusion == 2 else "a w f"
        known = {"f": 2 if fusion else 1, "v": pack, "w": pack}
        return self.fitted(site, self.text.replace("INNER", inner), known)

    def pack(self, site: Site) -> int:
        """Weights in a byte, 1 where every weight has bytes of its own."""
        del site
        return 1

    def macs(self, rule: Rule) -> int:
        """One expert a row: how many a row is sent to is no size of the rule."""
        weights = (rule.inputs[i] for i in range(self.start, len(rule.inputs), self.apart))
        rows = prod(rule.sizes[f] for term in (rule.inputs[0] or ())[:-1] for f in term)
        inner = [{f for term in terms[1:] for f in term} | {"v", "w"} for terms in weights if terms]
        return rows * sum(prod(rule.sizes.get(f, 1) for f in factors) for factors in inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedExperts(Experts):
    """A mixture of experts whose weights are integers with a scale for every row."""

    def pack(self, site: Site) -> int:
        """As the number of bits says.

        Raises:
            RuleError: the weights have scales for blocks, zero points, or an order of their own.
        """
        if site.int_attribute("block_size", 0) or site.text_attribute("quant_type", "int") != "int":
            raise RuleError("its weights are quantised in blocks")
        if site.int_attribute("weights_prepacked", 0) > 0:
            raise RuleError("its weight is stored in an order of its own")
        if any(site.has(i) for i in range(11, len(site.node.inputs))):
            raise RuleError("its weights have zero points")
        return 8 // site.int_attribute("expert_weight_bits", 4)

    def zero(self, site: Site, position: int) -> Array:
        """The middle of the range for weights (in every half of a byte), 0 for biases."""
        if (position - self.start) % self.apart:
            return np.zeros(())
        return np.array(0x80 if self.pack(site) == 1 else 0x88, np.uint8)

    def real(self, site: Site, position: int) -> Array | None:
        """``(q - middle) * scale`` for weights, as ``[experts, rows, bytes, numbers in a byte]``."""
        table, scales = site.constant(position), site.constant(position + 1)
        if position < self.start or (position - self.start) % self.apart or table is None or scales is None:
            return None
        bits = 8 // self.pack(site)
        numbers = unpack(table, bits).astype(np.float32).reshape(*table.shape, -1)
        values: Array = (numbers - 2.0 ** (bits - 1)) * scales[..., None, None].astype(np.float32)
        return values


def register_ops() -> None:
    """Register the family's ops."""
    reduced, fixed, why = "q v a w f", "r e f v w *t", "a row, an expert, or a position in a pack"
    rows, packs = "*t (q v), r e, e (INNER) q", "e (INNER)"
    text = f"{rows}, {packs}, e (q v) a, e (q v), e (a w) q, e (a w) -> *t (q v)"
    roles: dict[int, Role] = {2: "weight", 3: "bias", 4: "weight", 5: "bias", 6: "weight", 7: "bias"}
    plain = Experts(
        text=text, start=2, apart=2, reduced=reduced, fixed=fixed, why=why, roles=roles, linear=True,
        zeroed=frozenset(roles),
    )  # fmt: skip
    register("MoE", plain, domain="com.microsoft")
    scaled = f"{rows}, {packs}, {packs}, e (q v) a, e (q v), e (q v), e (a w) q, e (a w), e (a w) -> *t (q v)"
    roles = {2: "weight", 4: "bias", 5: "weight", 7: "bias", 8: "weight", 10: "bias"}
    packed = PackedExperts(
        text=scaled, start=2, apart=3, reduced=reduced, fixed=fixed, why=why, roles=roles, linear=True,
        zeroed=frozenset(roles),
    )  # fmt: skip
    register("QMoE", packed, domain="com.microsoft")
