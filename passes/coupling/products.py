"""Axes that are products of factors, and which factor carries a cut.

``768 = 12 heads x 64`` can lose whole heads or the same position of every head, not a bit of both: if slots
went when their head *or* their position goes, removal would no longer be an equivalence. So of the factors of
one product axis, one at a time carries the cut; the others are pinned. A grouped convolution, a flatten into
a classifier, attention heads: all the same choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np
import onnx_ir

from prunec.ir.rule import Index

Term = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Product axes of one node that compete for factors.

    Attributes:
        cause: the node.
        axes: axis number and factors of every product axis.
        factors: axis number of every factor.
        sizes: size of every factor.
        fixed: factors that cannot carry, with the reason.
        alternatives: the sets of factors that may carry together, none of which share a product axis.
    """

    cause: onnx_ir.Node
    axes: tuple[tuple[int, Term], ...]
    factors: Mapping[str, int]
    sizes: Mapping[str, int]
    fixed: Mapping[str, str]
    alternatives: tuple[frozenset[str], ...]

    @classmethod
    def split(
        cls,
        cause: onnx_ir.Node,
        axes: Sequence[tuple[int, Term]],
        factors: Mapping[str, int],
        fixed: Mapping[str, str],
        sizes: Mapping[str, int],
    ) -> Iterator[Product]:
        """One product for every set of axes that are connected through common factors."""
        rest = list(axes)
        while rest:
            group, names = [rest.pop(0)], set[str]()
            grown = True
            while grown:
                names = {f for _, term in group for f in term}
                more = [a for a in rest if names & set(a[1])]
                rest = [a for a in rest if not names & set(a[1])]
                group += more
                grown = bool(more)
            yield cls(
                cause,
                tuple(group),
                {f: factors[f] for f in names},
                {f: sizes[f] for f in names},
                {f: why for f, why in fixed.items() if f in names},
                tuple(_alternatives([t for _, t in group], names)),
            )

    def coordinates(self, term: Term, factor: str) -> Index:
        """For every slot of a product axis the coordinate of one of its factors."""
        position = term.index(factor)
        inner = prod(self.sizes[f] for f in term[position + 1 :])
        total = prod(self.sizes[f] for f in term)
        return np.arange(total) // inner % self.sizes[factor]


def _alternatives(terms: Sequence[Term], names: set[str]) -> Iterator[frozenset[str]]:
    """The maximal sets of factors no two of which stand in one product axis, largest first."""
    conflicts = {frozenset(pair) for term in terms for pair in combinations(term, 2)}
    found: list[frozenset[str]] = []
    for count in range(len(names), 0, -1):
        for chosen in map(frozenset, combinations(sorted(names), count)):
            independent = not any(frozenset(pair) in conflicts for pair in combinations(chosen, 2))
            if independent and not any(chosen < other for other in found):
                found.append(chosen)
    yield from found


def permutation(source: Term, target: Term, sizes: Mapping[str, int]) -> Index:
    """For every slot of an axis with factors ``target`` the slot of the axis with factors ``source`` that it
    holds.

    Both have the same factors in different orders: ``(a b)`` and ``(b a)`` are the two sides of a channel
    shuffle.
    """
    labels = np.arange(prod(sizes[f] for f in source)).reshape([sizes[f] for f in source])
    return labels.transpose([source.index(f) for f in target]).ravel()
