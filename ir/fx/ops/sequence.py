"""LSTM, GRU and plain recurrent layers of ATen: all layers of one call at once.

Factors are those of :mod:`prunec.ir.ops.recurrent`; ``x`` counts layers and directions. The layers of one call
share their initial and final states, so that they lose the same units.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunec.ir.fx.ops.alias import aten
from prunec.ir.op import Role
from prunec.ir.ops.einsum import Einsum
from prunec.ir.rule import Rule, RuleError
from prunec.ir.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentStack(Einsum):
    """Several recurrent layers, in one or both directions.

    Attributes:
        states: how many initial states the call takes, and returns behind its output.
    """

    states: int
    fixed: str = "g d x s"
    reduced: str = "i"
    why: str = "a gate, direction or step"
    linear: bool = True

    def rule(self, site: Site) -> Rule:
        """The rule text of as many layers as the call has.

        Raises:
            RuleError: the output of a layer is projected, or its weights are not four or two a direction.
        """
        directions = 1 + site.int_attribute("bidirectional", 0)
        layers = site.int_attribute("num_layers", 1)
        biased = site.int_attribute("has_biases", 1)
        each = 4 if biased else 2
        if len(site.node.inputs) != 1 + self.states + each * directions * layers:
            raise RuleError("its layers have projections")
        batched = len(site.shape(0)) == 3
        lead = (("b s" if site.int_attribute("batch_first", 0) else "s b") if batched else "s") + " "
        state = "x b h" if batched else "x h"
        weights = []
        for layer in range(layers):
            source = "i" if layer == 0 else "(d h)" if directions == 2 else "h"
            bias = ["(g h)", "(g h)"] if biased else []
            weights += [f"(g h) {source}", "(g h) h", *bias] * directions
        inputs = [f"{lead}i", *[state] * self.states, *weights]
        outputs = [f"{lead}{'(d h)' if directions == 2 else 'h'}", *[state] * self.states]
        hidden = site.shape(1)[-1]
        text = f"{', '.join(inputs)} -> {', '.join(outputs)}"
        return self.fitted(site, text, {"h": hidden, "d": directions})

    def macs(self, rule: Rule) -> int:
        """All weights at every step."""
        steps = rule.sizes.get("s", 1) * rule.sizes.get("b", 1)
        weights = 0
        for operand in rule.inputs[1 + self.states :]:
            if operand is not None and len(operand) == 2:
                size = 1
                for factor in (f for term in operand for f in term):
                    size *= rule.sizes[factor]
                weights += size
        return steps * weights


def register_ops() -> None:
    """Register the family's ops."""
    every = frozenset(range(256))
    roles: dict[int, Role] = dict.fromkeys(range(2, 256), "weight")
    aten("lstm.input", RecurrentStack(text="", states=2, zeroed=every - {0}, roles=roles))
    aten(
        "gru.input rnn_tanh.input rnn_relu.input",
        RecurrentStack(text="", states=1, zeroed=every - {0}, roles=roles),
    )
