"""What a pruned model may cost, as an option of a pass: ``macs:0.5`` is half of the multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, cast, get_args

from prunec.passes.text.option_types import OptionType, Ratio, option_type

Quantity = Literal["macs", "params", "latency"]
QUANTITIES: tuple[str, ...] = get_args(Quantity)
WORDS = {"macs": "multiply-accumulates", "params": "parameters", "latency": "latency"}


@dataclass(frozen=True, slots=True)
class Target:
    """A share of what the model costs before the pass.

    Attributes:
        quantity: what is counted.
        share: how much of it stays, in (0, 1).
    """

    quantity: Quantity
    share: float

    @property
    def words(self) -> str:
        """What is counted, in words."""
        return WORDS[self.quantity]

    def __str__(self) -> str:
        return f"{self.quantity}:{self.share:g}"


def _parse(word: str) -> Target:
    quantity, _, share = word.partition(":")
    value = option_type(Ratio).parse(share)
    if quantity not in QUANTITIES or not 0 < value < 1:
        raise ValueError(word)
    return Target(cast("Quantity", quantity), value)


_TARGET = OptionType(
    text="|".join(f"{quantity}:SHARE" for quantity in QUANTITIES),
    takes=f"{', '.join(QUANTITIES[:-1])} or {QUANTITIES[-1]}, a colon, and a share between 0 and 1 (macs:0.5)",
    accepts=lambda value: isinstance(value, Target),
    parse=_parse,
    show=lambda value: f"{value.quantity}:{value.share!r}",
)

TargetOption = Annotated[Target, _TARGET]
