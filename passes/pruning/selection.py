"""Which units go: a share of every axis, or the least important of all.

Splits and shuffles break the channels of one layer into many small groups. What a kernel sees is the layer's
axis, so shares, rounding and limits are those of the *cluster* of groups that one producing axis was broken
into (mostly a single group). No axis is ever emptied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, gcd
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunec.passes.coupling.groups import Coupling, Group
from prunec.passes.coupling.solve import Bools
from prunec.passes.plan.schema import Step
from prunec.passes.plan.steps import uses_of

Scope = Literal["local", "global"]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_EXACT = 1e-9  # 0.29 * 100 is 28.999999999999996


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How much may go where.

    Attributes:
        ratio: share of units to remove, in [0, 1).
        scope: ``local`` takes the share from every cluster, ``global`` ranks the units of all groups
            together.
        round_to: keep a multiple of this many channels of the layers (see ``Group.channels``).
        min_channels: channels that must stay at least.
        max_ratio: share of a cluster that may go at most.
    """

    ratio: float
    scope: Scope
    round_to: int
    min_channels: int
    max_ratio: float

    def limit(self, units: int, width: int) -> int:
        """How many of ``units`` units may go at most, each ``width`` channels wide; at least one stays."""
        stay = max(1, ceil(self.min_channels / width))
        return max(0, min(units - stay, floor(units * self.max_ratio + _EXACT)))

    def rounded(self, count: int, units: int, width: int) -> int:
        """The number nearest to ``count``, within the limit, that leaves a multiple of ``round_to`` channels."""
        limit = self.limit(units, width)
        step = self.round_to // gcd(self.round_to, width)
        count = min(count, limit)
        if step == 1 or count == 0:
            return count
        kept = units - count
        options = [k for k in (kept // step * step, -(-kept // step) * step) if units - limit <= k <= units]
        return units - min(options, key=lambda k: (abs(k - kept), -k)) if options else 0

    def levels(self, units: int, width: int) -> Counts:
        """All numbers of units that may go, ascending from 0."""
        limit = self.limit(units, width)
        step = self.round_to // gcd(self.round_to, width)
        kept = np.arange(units - limit, units)
        removed = units - kept[kept % step == 0]
        return np.sort(np.append(removed, 0)).astype(np.int64)


def select(
    coupling: Coupling,
    groups: Sequence[Group],
    scores: Sequence[Floats],
    policy: Policy,
    earlier: Sequence[Step] = (),
) -> list[NDArray[np.int64]]:
    """Choose the units to remove.

    Args:
        coupling: the analysis that the groups come from.
        groups: the groups to choose from.
        scores: per group the importance of its units.
        policy: how much may go.
        earlier: steps made before, together with which the shares are reached.

    Returns:
        Per group the removed units, ascending.
    """
    if not groups:
        return []
    clusters = clusters_of(groups)
    gone = _gone(groups, clusters, earlier)
    wanted = _global(groups, _relative(scores), clusters, gone, policy) if policy.scope == "global" else None
    counts = np.zeros(len(groups), np.int64)
    for members, before in zip(clusters, gone.tolist(), strict=True):
        units = np.array([groups[i].units for i in members])
        whole = int(units.sum()) + before
        shares = units * policy.ratio if wanted is None else wanted[members].astype(float)
        total = whole * policy.ratio if wanted is None else shares.sum() + before
        count = policy.rounded(floor(total + _EXACT), whole, groups[members[0]].channels)
        counts[members] = _apportion(max(0, count - before), shares, units)
    return choose(coupling, groups, scores, counts)


def choose(
    coupling: Coupling, groups: Sequence[Group], scores: Sequence[Floats], counts: Counts
) -> list[NDArray[np.int64]]:
    """The least important units of every group; no axis is emptied, so that fewer may go than are asked for.

    Args:
        coupling: the analysis that the groups come from.
        groups: the groups to choose from.
        scores: per group the importance of its units.
        counts: per group how many units go.

    Returns:
        Per group the removed units, ascending.
    """
    chosen = [np.sort(np.argsort(s, kind="stable")[:n]) for s, n in zip(scores, counts, strict=True)]
    return _spare_empty_axes(coupling, groups, _relative(scores), chosen)


def apportion(counts: Counts, groups: Sequence[Group], clusters: Sequence[Sequence[int]]) -> Counts:
    """Per group how many units go, where it is known how many go of every cluster (in proportion to units)."""
    result = np.zeros(len(groups), np.int64)
    for count, members in zip(counts, clusters, strict=True):
        units = np.array([groups[i].units for i in members])
        result[list(members)] = _apportion(int(count), units.astype(np.float64), units)
    return result


def _relative(scores: Sequence[Floats]) -> list[Floats]:
    return [score / (score.mean() or 1.0) for score in scores]


def clusters_of(groups: Sequence[Group]) -> list[list[int]]:
    """Positions of the groups that share their first member: one producing axis, broken up later."""
    clusters: dict[tuple[object, int], list[int]] = {}
    for position, group in enumerate(groups):
        clusters.setdefault((group.members[0].operand, group.members[0].axis), []).append(position)
    return list(clusters.values())


def _gone(groups: Sequence[Group], clusters: Sequence[Sequence[int]], earlier: Sequence[Step]) -> Counts:
    """Per cluster how many units earlier steps have removed."""
    cuts: Counter[tuple[str, int, tuple[str, ...]]] = Counter()
    for cut in (group for step in earlier for group in step.groups if group.tensors):
        first = cut.tensors[0]
        cuts[first.name, first.axis, first.uses] += len(cut.removed)
    firsts = [groups[members[0]].members[0] for members in clusters]
    return np.array([cuts[m.name, m.axis, uses_of(m.operand)] for m in firsts], np.int64)


def _apportion(count: int, shares: Floats, units: Counts) -> Counts:
    """Distribute ``count`` over groups in proportion to their shares, by largest remainders."""
    total = shares.sum()
    exact = shares * (count / total) if total else shares
    result = np.minimum(np.floor(exact + _EXACT).astype(np.int64), units)
    while (missing := count - int(result.sum())) > 0:
        room = np.flatnonzero(result < units)
        result[room[np.argsort((result - exact)[room], kind="stable")[:missing]]] += 1
    return result


def _global(
    groups: Sequence[Group],
    relative: Sequence[Floats],
    clusters: Sequence[Sequence[int]],
    gone: Counts,
    policy: Policy,
) -> Counts:
    """Rank all units by importance relative to their group's mean, so that scale never empties a layer."""
    sizes = np.array([g.units for g in groups])
    cluster_of = np.empty(len(groups), np.int64)
    limits = np.empty(len(clusters), np.int64)
    for number, members in enumerate(clusters):
        cluster_of[members] = number
        whole = int(sizes[members].sum() + gone[number])
        limits[number] = policy.limit(whole, groups[members[0]].channels) - gone[number]
    order = np.argsort(np.concatenate(relative), kind="stable")
    owner = np.repeat(np.arange(len(groups)), sizes)[order]
    target = max(0, floor(policy.ratio * (len(owner) + gone.sum()) + _EXACT) - int(gone.sum()))
    allowed = np.flatnonzero(_rank_within(cluster_of[owner]) < limits[cluster_of[owner]])[:target]
    return np.bincount(owner[allowed], minlength=len(groups)).astype(np.int64)


def _rank_within(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every element how many earlier ones have the same owner."""
    order = np.argsort(owner, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(owner[order])) + 1])
    lengths = np.diff(np.concatenate([starts, [len(owner)]]))
    rank = np.empty(len(owner), np.int64)
    rank[order] = np.arange(len(owner)) - np.repeat(starts, lengths)
    return rank


def _spare_empty_axes(
    coupling: Coupling, groups: Sequence[Group], scores: Sequence[Floats], chosen: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """Give back the most important unit of every axis that would lose all its slots (a slice of one, say)."""
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
