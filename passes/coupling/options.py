"""Choices of the dependency analysis that its users make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["head", "head-dim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CouplingOptions:
    """What may be cut, and by what unit.

    Attributes:
        unit: whether attention loses whole heads or the same positions of every head (and a convolution with
            groups those of every group).
        allow_io: let graph inputs and outputs shrink with the attention heads that they hold (cached keys and
            values); everything else that a caller sees keeps its shape in any case.
    """

    unit: Unit = "head"
    allow_io: bool = False
