"""Chooses units so that a model costs what it may; says in one line why where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import RemarkLog, UserError
from prunec.ir.module import Module
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.coupling.options import CouplingOptions
from prunec.passes.pruning.allocation import TOLERANCE, Allocator, Bill, Damage, layers_of
from prunec.passes.pruning.cut_cost import CutCost
from prunec.passes.pruning.selection import Policy, choose, clusters_of
from prunec.passes.pruning.target import Target

Floats = NDArray[np.float64]
Units = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What may go from which model.

    Attributes:
        module: the model.
        coupling: its analysis.
        options: of the analysis.
        groups: the groups to choose from.
        scores: per group the importance of its units.
        policy: rounding and limits; its scope, where no damage is known.
        damage: of each layer, as a sensitivity profile tells it; None: all lose the same share (``local``), or the
            units that matter least go first (``global``).
        remarks: told how close the answer is.
        origin: who tells it.
    """

    module: Module
    coupling: Coupling
    options: CouplingOptions
    groups: Sequence[Group]
    scores: Sequence[Floats]
    policy: Policy
    damage: Damage | None
    remarks: RemarkLog
    origin: str

    @property
    def clusters(self) -> list[list[int]]:
        """Positions of the groups of each layer."""
        return clusters_of(self.groups)

    @property
    def limits(self) -> str:
        """What keeps units from going, in words."""
        policy = self.policy
        return (
            f"round-to={policy.round_to}, min-channels={policy.min_channels}, max-ratio={policy.max_ratio:g}"
        )

    def allocator(self, bill: Bill, share: float) -> Allocator:
        """Finds out what goes of every layer so that a share of a bill stays."""
        damage = self.damage or uniform_damage(self.groups, self.clusters, self.scores, self.policy)
        layers = layers_of(self.groups, self.clusters, self.policy, damage)
        return Allocator(layers, self.groups, bill, share, per_cost=self.damage is not None)

    def chosen(self, allocator: Allocator) -> list[Units]:
        """Per group the units that go."""
        return choose(self.coupling, self.groups, self.scores, allocator.counts(allocator.allocate()))

    def missed(self, message: str) -> None:
        """Say unasked that a target is missed."""
        self.remarks.missed(
            self.origin,
            message,
            reason=f"no allowed numbers of channels come closer ({self.limits})",
            help="lower `round-to`" if self.policy.round_to > 1 else None,
            urgent=True,
        )


def choose_for(target: Target, question: Question) -> list[Units]:
    """The units to remove so that the model has so many multiply-accumulates or parameters.

    Args:
        target: what it may cost.
        question: what may go.

    Returns:
        Per group the removed units, ascending.

    Raises:
        UserError: the target is out of reach.
    """
    cost = CutCost(question.module.model, question.coupling, question.groups)
    bill = bill_of(target, cost)
    allocator = question.allocator(bill, target.share)
    if not allocator.original:
        raise UserError(f"target={target} means nothing here: the model has no {target.words}")
    _check_reach(allocator, target, question)
    chosen = question.chosen(allocator)
    kept = cost.full - np.array([len(units) for units in chosen], np.int64)
    share = bill.total(kept) / bill.total(cost.full)
    reached = f"{share:.1%} of the {target.words} stay, the target is {target.share:.1%}"
    if abs(share - target.share) <= TOLERANCE:
        question.remarks.passed(question.origin, reached)
    else:
        question.missed(reached)
    return chosen


def bill_of(target: Target, cost: CutCost) -> Bill:
    """What a target counts, as a function of kept units; for a latency, what stands for it: multiply-accumulates."""
    if target.quantity == "params":
        return Bill(total=cost.parameters, touching=cost.parameters_touching, full=cost.full)
    return Bill(total=cost.macs, touching=cost.macs_touching, full=cost.full)


def uniform_damage(
    groups: Sequence[Group], clusters: Sequence[Sequence[int]], scores: Sequence[Floats], policy: Policy
) -> Damage:
    """What stands for damage where none was measured: the next unit of a layer is worth the share that is gone already
    (``local``), or its importance relative to the mean of its group (``global``).
    """
    units = [sum(groups[i].units for i in members) for members in clusters]
    if policy.scope == "local":
        return lambda number, shares: units[number] * np.square(shares) / 2
    relative = [
        np.concatenate([scores[i] / (scores[i].mean() or 1.0) for i in members]) for members in clusters
    ]
    sums = [np.concatenate([[0.0], np.cumsum(np.sort(values))]) for values in relative]
    return lambda number, shares: sums[number][np.rint(shares * units[number]).astype(np.int64)]


def _check_reach(allocator: Allocator, target: Target, question: Question) -> None:
    """See that the least that can stay is not more than the target."""
    least = allocator.least()
    if least > target.share + TOLERANCE:
        raise UserError(
            f"target={target} is out of reach: at least {least:.1%} of the {target.words} stay",
            notes=[
                f"this is what {question.limits} allow; {allocator.pinned():.1%} depend on no group that may be cut"
            ],
            help=[f"ask for {target.quantity}:{least:.2f} or more, raise max-ratio, or lower round-to"],
        )
