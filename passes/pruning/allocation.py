"""How many units every layer loses, so that the model costs what it may.

Units go in small steps, each from the layer where the next step does the least damage (for what it saves, where damage
is measured), until the cost is reached; then single steps are taken back or added until it is hit closely. Damage is
made convex in the units removed, so that this greedy order is the best one for a separable cost (Fox, *Discrete
optimization via marginal analysis*, 1966). The cost itself is exact at every step: what a step saves depends on what
the layers around have lost, and is asked anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.passes.coupling.groups import Group
from prunec.passes.pruning.selection import Policy, apportion

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

TOLERANCE = 0.02
"""How far a result may be from its target, as a share of the original cost."""
CLOSE = 0.01
"""So close, nothing more is tried."""
_STEPS = 48
"""Steps of one layer from nothing to all that it may lose, before single units are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A cluster of groups, and what it may lose.

    Attributes:
        members: positions of its groups.
        levels: numbers of units that may go, ascending from 0.
        damage: what each level costs in quality, ascending from 0 and convex.
    """

    members: tuple[int, ...]
    levels: Counts
    damage: Floats


Damage = Callable[[int, Floats], Floats]
"""Takes the number of a cluster and shares of its units, and gives the damage when they go, infinite where none may."""


def layers_of(
    groups: Sequence[Group], clusters: Sequence[Sequence[int]], policy: Policy, damage: Damage
) -> list[Layer]:
    """The layers with all that they may lose.

    Args:
        groups: the groups that may lose units.
        clusters: positions of the groups that make up each layer.
        policy: rounding and limits.
        damage: of each layer.
    """
    found = []
    for number, members in enumerate(clusters):
        units = sum(groups[i].units for i in members)
        levels = policy.levels(units, groups[members[0]].channels)
        values = np.maximum.accumulate(damage(number, levels / units))
        allowed = np.isfinite(values)
        levels, values = levels[allowed], values[allowed]
        found.append(Layer(members=tuple(members), levels=levels, damage=_convex(levels, values)))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A cost as a function of kept units, counts per group.

    Attributes:
        total: of the whole model.
        touching: the part that depends on some groups (by position).
        full: units of each group.
    """

    total: Callable[[Counts], float]
    touching: Callable[[Collection[int], Counts], float]
    full: Counts


class Allocator:
    """Finds out how many units each layer loses.

    Args:
        layers: the layers.
        groups: the groups that they are made of.
        bill: what the model costs.
        share: how much of that may stay.
        per_cost: judge a step by its damage for what it saves, not by its damage a unit.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        groups: Sequence[Group],
        bill: Bill,
        share: float,
        *,
        per_cost: bool,
    ) -> None:
        self.layers = layers
        self.groups = groups
        self.wanted = share
        self._clusters = [layer.members for layer in layers]
        self._bill = bill
        self._per_cost = per_cost
        self.original = bill.total(bill.full)

    def allocate(self) -> Counts:
        """Per layer the level at which the cost is nearest to the target."""
        at = np.zeros(len(self.layers), np.int64)
        share = self.share(at)
        heap = [(self._priority(n, at), n) for n in range(len(self.layers)) if self._next(n, at) > at[n]]
        heapq.heapify(heap)
        while heap and share > self.wanted:
            _, number = heapq.heappop(heap)
            now = self._priority(number, at)
            if heap and now > heap[0][0]:  # what it saves has shrunk with its neighbours
                heapq.heappush(heap, (now, number))
                continue
            share -= self._saved(number, at, self._next(number, at)) / self.original
            at[number] = self._next(number, at)
            if self._next(number, at) > at[number]:
                heapq.heappush(heap, (self._priority(number, at), number))
        return self._nudged(at)

    def share(self, at: Counts) -> float:
        """The share of the cost that is left at some levels."""
        return self._bill.total(self._kept(at)) / (self.original or 1)

    def least(self) -> float:
        """The smallest share that can be reached."""
        return self.share(np.array([len(layer.levels) - 1 for layer in self.layers], np.int64))

    def pinned(self) -> float:
        """The share that no group has a part in."""
        return self._bill.total(np.zeros_like(self._bill.full)) / (self.original or 1)

    def counts(self, at: Counts) -> Counts:
        """Per group how many units go."""
        removed = [layer.levels[level] for layer, level in zip(self.layers, at, strict=True)]
        return apportion(np.array(removed, np.int64), self.groups, self._clusters)

    def _kept(self, at: Counts) -> Counts:
        return self._bill.full - self.counts(at)

    def _next(self, number: int, at: Counts) -> int:
        """The level that one step leads to."""
        last = len(self.layers[number].levels) - 1
        return min(int(at[number]) + max(1, last // _STEPS), last)

    def _saved(self, number: int, at: Counts, level: int) -> float:
        other = at.copy()
        other[number] = level
        members = self.layers[number].members
        return self._bill.touching(members, self._kept(at)) - self._bill.touching(members, self._kept(other))

    def _priority(self, number: int, at: Counts) -> float:
        layer, level = self.layers[number], self._next(number, at)
        worse = float(layer.damage[level] - layer.damage[at[number]])
        units = float(layer.levels[level] - layer.levels[at[number]])
        return worse / max(self._saved(number, at, level) if self._per_cost else units, 1e-9)

    def _nudged(self, at: Counts) -> Counts:
        """Single levels up or down until the cost is close to the target, those of the least damage first."""
        share = self.share(at)
        while (distance := abs(share - self.wanted)) > CLOSE:
            moves = [
                (max(abs(left - self.wanted), CLOSE), worse, number, level, left)
                for number, layer in enumerate(self.layers)
                for level in (int(at[number]) - 1, int(at[number]) + 1)
                if 0 <= level < len(layer.levels)
                for left in [share - self._saved(number, at, level) / self.original]
                for worse in [float(layer.damage[level] - layer.damage[at[number]])]
            ]
            best = min(moves, default=None)
            if best is None or best[0] >= distance - 1e-12:
                break
            _, _, number, level, share = best
            at[number] = level
        return at


def _convex(levels: Counts, values: Floats) -> Floats:
    """The largest convex function that is nowhere above the values."""
    hull: list[int] = []
    for i in range(len(levels)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (values[b] - values[a]) * (levels[i] - levels[b]) < (values[i] - values[b]) * (
                levels[b] - levels[a]
            ):
                break
            hull.pop()
        hull.append(i)
    return np.interp(levels, levels[hull], values[hull]).astype(np.float64)
