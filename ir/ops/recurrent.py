"""Recurrent layers: hidden units, all gates of a unit together.

Factors: ``s`` steps, ``b`` batch, ``i`` input size, ``d`` directions, ``h`` hidden size; ``g`` gates of the
    weights, ``e`` of the biases, ``p``
peepholes. A unit whose weights, recurrent weights and biases are zero stays zero from step to step with the
default activations (``tanh(0) = 0``), so that removing it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.op import Role
from prunec.ir.ops.einsum import Einsum
from prunec.ir.registry import register
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site

_ROLES: dict[int, Role] = {1: "weight", 2: "weight", 3: "bias"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent(Einsum):
    """LSTM, GRU or RNN.

    Attributes:
        batch_first: the rule for ``layout=1``.
    """

    batch_first: str

    def rule(self, site: Site) -> Rule:
        """As the rule text of the node's layout says.

        Raises:
            RuleError: activations or clipping are not the defaults, under which a zeroed unit might not stay
                zero.
        """
        for attribute in ("activations", "activation_alpha", "activation_beta", "clip"):
            if attribute in site.node.attributes:
                raise RuleError(f"attribute `{attribute}` is set, so that a zeroed unit may not stay zero")
        if site.int_attribute("layout", 0):
            return Einsum.rule(_recurrent(self.batch_first, self.batch_first), site)
        return Einsum.rule(self, site)


def _recurrent(text: str, batch_first: str) -> Recurrent:
    return Recurrent(
        text=text,
        batch_first=batch_first,
        reduced="i",
        fixed="g e p d",
        why="a gate or direction",
        known={"h": "hidden_size"},
        attributes={"hidden_size": "h"},
        roles=_ROLES,
        linear=True,
        zeroed=frozenset({1, 2, 3, 5, 6, 7}),
    )


def register_ops() -> None:
    """Register the family's ops."""
    register(
        "LSTM",
        _recurrent(
            "s b i, d (g h) i, d (g h) h, d (e h), -, d b h, d b h, d (p h) -> s d b h, d b h, d b h",
            "b s i, d (g h) i, d (g h) h, d (e h), -, b d h, b d h, d (p h) -> b s d h, b d h, b d h",
        ),
    )
    register(
        "GRU RNN",
        _recurrent(
            "s b i, d (g h) i, d (g h) h, d (e h), -, d b h -> s d b h, d b h",
            "b s i, d (g h) i, d (g h) h, d (e h), -, b d h -> b s d h, b d h",
        ),
    )
