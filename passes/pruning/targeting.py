"""Chooses units so that a model costs what it may; says in one line why where it cannot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from prunec.ir.diagnostics import RemarkLog, UserError
from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.pruning.allocation import TOLERANCE, Allocator, Damage, layers_of
from prunec.passes.pruning.cut_cost import CutCost
from prunec.passes.pruning.selection import Policy, choose, clusters_of
from prunec.passes.pruning.target import Target

Floats = NDArray[np.float64]
Units = NDArray[np.int64]


def choose_for(
    target: Target,
    model: onnx_ir.Model,
    coupling: Coupling,
    groups: Sequence[Group],
    scores: Sequence[Floats],
    policy: Policy,
    damage: Damage | None,
    remarks: RemarkLog,
    origin: str,
) -> list[Units]:
    """The units to remove so that the model costs its target.

    Args:
        target: what it may cost.
        model: the model.
        coupling: its analysis.
        groups: the groups to choose from.
        scores: per group the importance of its units.
        policy: rounding and limits; its scope, where no damage is known.
        damage: of each layer, as a sensitivity profile tells it; None: all lose the same share (``local``), or the
            units that matter least go first (``global``).
        remarks: told how close it is.
        origin: who tells it.

    Returns:
        Per group the removed units, ascending.

    Raises:
        UserError: the target is out of reach.
    """
    clusters = clusters_of(groups)
    cost = CutCost(model, coupling, groups)
    alike = damage or uniform_damage(groups, clusters, scores, policy)
    layers = layers_of(groups, clusters, policy, alike)
    allocator = Allocator(layers, groups, cost, target, per_cost=damage is not None)
    if not allocator.original:
        raise UserError(f"target={target} means nothing here: the model has no {target.words}")
    _check_reach(allocator, policy)
    chosen = choose(coupling, groups, scores, allocator.counts(allocator.allocate()))
    kept = cost.full - np.array([len(units) for units in chosen], np.int64)
    _report(target, _share(cost, target, kept), policy, remarks, origin)
    return chosen


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


def _share(cost: CutCost, target: Target, kept: Units) -> float:
    total = cost.macs if target.quantity == "macs" else cost.parameters
    return total(kept) / total(cost.full)


def _check_reach(allocator: Allocator, policy: Policy) -> None:
    """See that the least that can stay is not more than the target."""
    target, least = allocator.target, allocator.least()
    if least > target.share + TOLERANCE:
        held = (
            f"{_limits(policy)} and layers that keep their channels hold {least:.1%} of the {target.words}; "
            f"{allocator.pinned():.1%} depend on no group that may be cut"
        )
        raise UserError(
            f"target={target} is out of reach: at least {least:.1%} of the {target.words} stay",
            notes=[held],
            help=[f"ask for {target.quantity}:{least:.2f} or more, raise max-ratio, or lower round-to"],
        )


def _report(target: Target, share: float, policy: Policy, remarks: RemarkLog, origin: str) -> None:
    reached = f"{share:.1%} of the {target.words} stay, the target is {target.share:.1%}"
    if abs(share - target.share) <= TOLERANCE:
        remarks.passed(origin, reached)
    else:
        remarks.missed(
            origin,
            reached,
            reason=f"no allowed numbers of channels come closer ({_limits(policy)})",
            help="lower `round-to`" if policy.round_to > 1 else None,
            urgent=True,
        )


def _limits(policy: Policy) -> str:
    return f"round-to={policy.round_to}, min-channels={policy.min_channels}, max-ratio={policy.max_ratio:g}"
