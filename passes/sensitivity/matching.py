"""Which rows of a profile tell of which channel groups of a model that may have changed since (``fold-norm``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet


class Rows:
    """The rows of a profile, found again by the tensors that lose channels.

    A weight that reads the channels of several rows, as that of a layer behind a concatenation, tells none of them
    apart; it counts only where rows have next to nothing else.

    Args:
        axes: per row the axes that lose channels, each ``name:axis``.
    """

    def __init__(self, axes: Sequence[AbstractSet[str]]) -> None:
        self._axes = axes
        owners = Counter(axis for row in axes for axis in row)
        self._shared = {axis for axis, count in owners.items() if count > 1}

    def find(self, axes: AbstractSet[str]) -> int | None:
        """The position of the row that has most of some axes, or None.

        Args:
            axes: those of a channel group, or of several that are looked at together.
        """
        own, common = axes - self._shared, [len(row & axes) for row in self._axes]
        found = max(range(len(common)), key=lambda n: (len(self._axes[n] & own), common[n]), default=None)
        if found is None or not (self._axes[found] & own or 2 * common[found] > len(self._axes[found])):
            return None
        return found
