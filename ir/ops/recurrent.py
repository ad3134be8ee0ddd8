"""Recurrent layers: hidden units, all gates of a unit together, in both directions.

Factors: ``s`` steps, ``b`` batch, ``i`` input size, ``d`` directions, ``h`` hidden size, ``g`` gates of the
weights, ``e`` of the biases, ``p`` peepholes. Units meet in the recurrent weights alone: with a unit's column
of them at zero, whatever its own state is (through biases, initial states, other activations, or
``linear_before_reset``) reaches no other unit, so that removing it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from prunec.ir.op import Role
from prunec.ir.ops.einsum import Einsum
from prunec.ir.ops.quantised import QuantisedEinsum
from prunec.ir.registry import register
from prunec.ir.rule import Rule
from prunec.ir.site import Site

_ROLES: dict[int, Role] = {1: "weight", 2: "weight", 3: "bias"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent(Einsum):
    """LSTM, GRU or RNN.

    Attributes:
        batch_first: the rule text for ``layout=1``.
    """

    batch_first: str

    def rule(self, site: Site) -> Rule:
        """As the rule text of the node's layout says."""
        if site.int_attribute("layout", 0):
            return Einsum.rule(replace(self, text=self.batch_first), site)
        return Einsum.rule(self, site)

    def macs(self, rule: Rule) -> int:
        """Input and recurrent weights at every step."""
        return _macs(rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicQuantizeLSTM(QuantisedEinsum):
    """LSTM on integers: its weights are transposed, with a scale per direction or per column; its inputs and
    states get theirs at run time. The state of a unit without weights is 0, which every range holds.
    """

    def rule(self, site: Site) -> Rule:
        """As the rule text says, with scales of either kind."""
        vectors = {1: "d", 2: "d (g h)"}
        scales = (vectors[len(site.shape(i))] if site.has(i) else "-" for i in range(8, 12))
        known = {"h": site.int_attribute("hidden_size", 1)}
        return self.fitted(site, self.text.replace("SCALES", ", ".join(scales)), known)

    def macs(self, rule: Rule) -> int:
        """As those of an LSTM."""
        return _macs(rule)


def _macs(rule: Rule) -> int:
    """Input and recurrent weights at every step."""
    size = {name: rule.sizes.get(name, 1) for name in "sbdghi"}
    return size["s"] * size["b"] * size["d"] * size["g"] * size["h"] * (size["i"] + size["h"])


def _recurrent(text: str, batch_first: str) -> Recurrent:
    return Recurrent(
        text=text,
        batch_first=batch_first,
        reduced="i",
        fixed="g e p d s",
        why="a gate, direction or step",
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
    quantised = DynamicQuantizeLSTM(
        text="s b i, d i (g h), d h (g h), d (e h), -, d b h, d b h, d (p h), SCALES -> s d b h, d b h, d b h",
        reduced="i",
        statistic=True,
        fixed="g e p d s",
        why="a gate, direction or step",
        attributes={"hidden_size": "h"},
        roles=_ROLES,
        points={1: 9, 2: 11},
        scales={1: 8, 2: 10},
        linear=True,
        zeroed=frozenset({1, 2, 3, 5, 6, 7}),
    )
    register("DynamicQuantizeLSTM", quantised, domain="com.microsoft")
