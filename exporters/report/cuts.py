"""What was removed, pass by pass: channel groups, zeros in weights, channels that changed places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunec.passes.plan import GroupCut, Plan, Step, WeightMask

NAMES = 2
"""Names of a group that are shown before the others are folded away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What one group lost.

    Attributes:
        id: of the group.
        names: the first tensors that lost channels.
        tensors: all of them, each with its axis.
        units: channels that the group had.
        kept: those that stay.
        share: those that stay, in per cent.
        removed: positions of those that went, as ranges.
    """

    id: str
    names: tuple[str, ...]
    tensors: tuple[str, ...]
    units: int
    kept: int
    share: float
    removed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeros:
    """What one weight lost without changing its shape.

    Attributes:
        name: of the weight.
        pattern: of the zeros.
        zeros: their number.
        share: their share, in per cent.
    """

    name: str
    pattern: str
    zeros: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one pass decided.

    Attributes:
        pass_name: the pass.
        cuts: groups that lost channels, those that lost the largest share first.
        zeros: weights in which zeros were made.
        moved: groups whose channels changed places.
    """

    pass_name: str
    cuts: tuple[Cut, ...]
    zeros: tuple[Zeros, ...]
    moved: int


def decisions(plan: Plan) -> list[Decision]:
    """What every step of a plan decided."""
    return [_decision(step) for step in plan.steps]


def _decision(step: Step) -> Decision:
    return Decision(
        pass_name=step.pass_name,
        cuts=tuple(map(_cut, step.groups)),
        zeros=tuple(map(_zeros, step.masks)),
        moved=len(step.orders),
    )


def _cut(group: GroupCut) -> Cut:
    kept = group.units - len(group.removed)
    return Cut(
        id=group.id,
        names=tuple(dict.fromkeys(tensor.name for tensor in group.tensors))[:NAMES],
        tensors=tuple(f"{tensor.name}, axis {tensor.axis}" for tensor in group.tensors),
        units=group.units,
        kept=kept,
        share=round(100 * kept / max(group.units, 1), 1),
        removed=ranges(group.removed),
    )


def _zeros(mask: WeightMask) -> Zeros:
    count = 1
    for size in mask.shape:
        count *= size
    return Zeros(
        name=mask.name,
        pattern=mask.pattern,
        zeros=mask.zeros,
        share=round(100 * mask.zeros / max(count, 1), 1),
    )


def ranges(positions: Sequence[int]) -> str:
    """Ascending numbers with runs of them written short.

    >>> ranges((1, 2, 3, 7, 9, 10))
    '1-3, 7, 9-10'
    """
    runs: list[list[int]] = []
    for position in positions:
        if runs and position == runs[-1][-1] + 1:
            runs[-1][1:] = [position]
        else:
            runs.append([position])
    return ", ".join("-".join(map(str, run)) for run in runs)
