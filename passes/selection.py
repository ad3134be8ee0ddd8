"""Which units go: a share of every group, or the least important of all groups.

Limits hold on every tensor axis, not only on groups: no axis is ever emptied, and ``round_to`` counts what a
kernel sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, gcd
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.coupling.solve import Bools

Scope = Literal["local", "global"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How much may go where.

    Attributes:
        ratio: share of units to remove, in [0, 1).
        scope: ``local`` takes the share from every group, ``global`` ranks the units of all groups together.
        round_to: keep a multiple of this many slots on the axis where a unit is widest.
        min_channels: slots that must stay on that axis at least.
        max_ratio: share of a group that may go at most.
    """

    ratio: float
    scope: Scope
    round_to: int
    min_channels: int
    max_ratio: float

    def limit(self, group: Group) -> int:
        """How many units of a group may go at most; at least one stays."""
        stay = max(1, -(-self.min_channels // group.width))
        return max(0, min(group.units - stay, floor(group.units * self.max_ratio + 1e-9)))

    def rounded(self, group: Group, count: int) -> int:
        """The number of units nearest to ``count`` that leaves a multiple of ``round_to`` slots, within the
        limit.
        """
        step = self.round_to // gcd(self.round_to, group.width)
        if step <= 1 or count == 0:
            return min(count, self.limit(group))
        kept = group.units - count
        options = [
            k
            for k in (kept // step * step, -(-kept // step) * step)
            if group.units - self.limit(group) <= k <= group.units
        ]
        return group.units - min(options, key=lambda k: (abs(k - kept), -k)) if options else 0


def select(
    coupling: Coupling, groups: Sequence[Group], scores: Sequence[Floats], policy: Policy
) -> list[NDArray[np.int64]]:
    """Choose the units to remove.

    Args:
        coupling: the analysis that the groups come from.
        groups: the groups to choose from.
        scores: per group the importance of its units.
        policy: how much may go.

    Returns:
        Per group the removed units, ascending.
    """
    if not groups:
        return []
    wanted = _local(coupling, groups, policy) if policy.scope == "local" else _global(groups, scores, policy)
    counts = [policy.rounded(group, count) for group, count in zip(groups, wanted, strict=True)]
    chosen = [
        np.sort(np.argsort(score, kind="stable")[:count]) for score, count in zip(scores, counts, strict=True)
    ]
    return _spare_empty_axes(coupling, groups, scores, chosen)


def _local(coupling: Coupling, groups: Sequence[Group], policy: Policy) -> list[int]:
    """The share of every group.

    Splits and shuffles break an axis into many small groups; rounding each one down would keep far too much.
    So what rounding leaves over is handed on to the next group on the same axes.
    """
    clusters = _clusters(coupling, groups)
    left: dict[int, float] = {}
    counts = []
    for group, cluster in zip(groups, clusters, strict=True):
        exact = group.units * policy.ratio + left.get(cluster, 0.0)
        count = max(0, min(floor(exact + 1e-9), policy.limit(group)))
        left[cluster] = exact - count
        counts.append(count)
    return counts


def _clusters(coupling: Coupling, groups: Sequence[Group]) -> list[int]:
    """A number per group, equal for groups whose first member is the same tensor axis (one producer, split up
    later).
    """
    del coupling
    seen: dict[tuple[object, int], int] = {}
    return [seen.setdefault((g.members[0].operand, g.members[0].axis), len(seen)) for g in groups]


def _global(groups: Sequence[Group], scores: Sequence[Floats], policy: Policy) -> list[int]:
    """Rank all units by importance relative to their group's mean, so that scale never empties a layer."""
    relative = [score / (score.mean() or 1.0) for score in scores]
    order = np.argsort(np.concatenate(relative), kind="stable")
    owner = np.repeat(np.arange(len(groups)), [g.units for g in groups])[order]
    limits = np.array([policy.limit(g) for g in groups])
    target = floor(policy.ratio * len(owner) + 1e-9)
    rank = _rank_within(owner)
    allowed = np.flatnonzero(rank < limits[owner])[:target]
    return [int(n) for n in np.bincount(owner[allowed], minlength=len(groups))]


def _rank_within(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every element how many earlier ones have the same owner."""
    order = np.argsort(owner, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(owner[order])) + 1])
    lengths = np.diff(np.concatenate([starts, [len(owner)]]))
    rank = np.empty(len(owner), np.int64)
    rank[order] = np.arange(len(owner)) - np.repeat(starts, lengths)
    return rank


def _spare_empty_axes(
    coupling: Coupling, groups: Sequence[Group], scores: Sequence[Floats], chosen: list[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """Give back the most important unit of every axis that would lose all its slots (a slice of a larger
    axis, say).
    """
    removed = removed_components(coupling, groups, chosen)
    score = np.full(len(removed), -np.inf)
    for group, values in zip(groups, scores, strict=True):
        score[group.components] = values
    for labels, _ in coupling.axis_sizes():
        if removed[labels].all():
            removed[labels[np.argmax(score[labels])]] = False
    return [np.flatnonzero(removed[group.components]) for group in groups]


def removed_components(
    coupling: Coupling, groups: Sequence[Group], chosen: Sequence[NDArray[np.int64]]
) -> Bools:
    """Per component whether one of the chosen units is it."""
    removed = np.zeros(len(coupling.components.free), bool)
    for group, units in zip(groups, chosen, strict=True):
        removed[group.components[units]] = True
    return removed
