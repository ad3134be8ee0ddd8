"""From relations to components: which slots go together, and which cannot go at all.

Whole axes are already merged; what is left are slots of the classes that meet data movement or products. They
are numbered in one array, and connected components over it (scipy) do the rest. Products are decided one
round at a time: a factor whose slots are all pinned cannot carry, which often leaves one choice; where
several are left, attention heads come first, then the choice with the most units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prunec.ir.rule import Index
from prunec.passes.coupling.axes import Reason, node_label
from prunec.passes.coupling.collect import Filling, IndexTie, Relations
from prunec.passes.coupling.options import Unit
from prunec.passes.coupling.products import Product, Term

Bools = NDArray[np.bool_]

_BY_WAY = ", by way of "
_ONLY_SLOT = Reason(text="the only slot of an axis of size 1", rank=6)


@dataclass(frozen=True, slots=True)
class Components:
    """The solution at the level of slots.

    Attributes:
        start: first slot of every class that is not pinned as a whole, by root.
        labels: component of every slot.
        free: per component whether it may go.
        reasons: why a component may not, by its number.
    """

    start: dict[int, int]
    labels: Index
    free: Bools
    reasons: dict[int, Reason]


def solve(relations: Relations, unit: Unit = "head") -> Components:
    """Decide all products and find the components.

    Args:
        relations: what the collector found; its table and ties are extended by the decisions.
        unit: which factor carries where attention heads are one of the choices.
    """
    pending, fillings = list(relations.products), list(relations.fillings)
    while True:
        state = _components(relations)
        if stay := [f for f in fillings if _pinned_slots(relations, state, f.around).all()]:
            fillings = [f for f in fillings if f not in stay]
            relations.ties += map(_bind, stay)
        elif pending:
            decided = _decide_round(relations, state, pending, unit)
            pending = [product for i, product in enumerate(pending) if i not in decided]
        else:
            return state


def _bind(filling: Filling) -> IndexTie:
    """Padding of an axis that keeps its slots stays, too: positions of an image are no channels to choose from."""
    slots = filling.slots
    return IndexTie(filling.axis, slots, filling.around, np.zeros_like(slots), filling.cause)


def _decide_round(
    relations: Relations, state: Components, pending: Sequence[Product], unit: Unit
) -> set[int]:
    """Decide every product that has one choice left; where there is none, all with heads; else the first ones
    that cannot touch each other. Returns their positions.
    """
    live = [{f: _live(relations, state, p, f) for f in p.factors} for p in pending]
    choices = [_choices(product, counts) for product, counts in zip(pending, live, strict=True)]
    decided = {i for i, sets in enumerate(choices) if len(sets) <= 1}
    for i in sorted(decided):
        _carry(relations, state, pending[i], next(iter(choices[i]), frozenset()))
    if decided:
        return decided
    parallel = {relations.table.find(axis) for axis in relations.parallel}
    heads = [{f for f, axis in p.factors.items() if relations.table.find(axis) in parallel} for p in pending]
    chosen = {i for i, names in enumerate(heads) if names} or _apart(relations, state, pending)
    for i in sorted(chosen):
        _carry(relations, state, pending[i], _preferred(pending[i], live[i], heads[i], unit))
    return chosen


def _apart(relations: Relations, state: Components, products: Sequence[Product]) -> set[int]:
    """Products, the first ones first, no two of which touch one component.

    What a decision ties and pins are components that its product touches, so that these do not see each
    other's. Deciding them in one round keeps the number of rounds small where hundreds of products follow
    each other (a chain of grouped convolutions).
    """
    taken = np.zeros(len(state.free), bool)
    chosen = set()
    for i, product in enumerate(products):
        axes = [*(axis for axis, _ in product.axes), *product.factors.values()]
        labels = [_labels(relations, state, axis) for axis in axes]
        touched = np.concatenate([found[state.free[found]] for found in labels if found is not None])
        if not taken[touched].any():
            taken[touched] = True
            chosen.add(i)
    return chosen


def _labels(relations: Relations, state: Components, axis: int) -> Index | None:
    """Component of every slot of an axis, None for one that is pinned as a whole."""
    start = state.start.get(relations.table.find(axis))
    return None if start is None else state.labels[start : start + relations.table.sizes[axis]]


def _choices(product: Product, live: Mapping[str, int]) -> set[frozenset[str]]:
    """The largest sets of factors that could carry together and have slots that may go."""
    sets = {frozenset(f for f in alternative if live[f]) for alternative in product.alternatives} - {
        frozenset()
    }
    return {s for s in sets if not any(s < other for other in sets)}


def _preferred(product: Product, live: Mapping[str, int], heads: set[str], unit: Unit) -> frozenset[str]:
    """The alternative that has heads, among those the one that pins the fewest axes (where batch and heads are
    one axis, head size would pin it), and then the most units; for ``unit=head-dim`` one without heads, and
    without the groups of a convolution.
    """
    groups = set.intersection(*(set(term) for _, term in product.axes)) if unit == "head-dim" else set()
    whole = heads or groups

    def score(alternative: frozenset[str]) -> tuple[bool, int, int]:
        carriers = {f for f in alternative if live[f]}
        carried = sum(not carriers.isdisjoint(term) for _, term in product.axes)
        return carriers.isdisjoint(whole) == (unit == "head-dim"), carried, sum(live[f] for f in carriers)

    return frozenset(f for f in max(product.alternatives, key=score) if live[f])


def _live(relations: Relations, state: Components, product: Product, factor: str) -> int:
    """How many slots of a factor could go if it carried."""
    if factor in product.fixed:
        return 0
    blocked = _pinned_slots(relations, state, product.factors[factor])
    for axis, term in product.axes:
        if factor in term:
            slots = _pinned_slots(relations, state, axis)
            blocked = blocked | (np.bincount(product.coordinates(term, factor), slots, len(blocked)) > 0)
    return int((~blocked).sum())


def _pinned_slots(relations: Relations, state: Components, axis: int) -> Bools:
    labels = _labels(relations, state, axis)
    return np.ones(relations.table.sizes[axis], bool) if labels is None else ~state.free[labels]


def _carry(relations: Relations, state: Components, product: Product, carriers: frozenset[str]) -> None:
    """Tie product axes to the factors that carry, pin what does not."""
    table, cause = relations.table, node_label(product.cause)
    for axis, term in product.axes:
        carrier = next((f for f in term if f in carriers), None)
        if carrier is None:
            table.pin(axis, _blocked_by(relations, state, product, term))
            continue
        index = product.coordinates(term, carrier)
        relations.ties.append(
            IndexTie(axis, np.arange(len(index)), product.factors[carrier], index, product.cause)
        )
    for factor, axis in product.factors.items():
        if factor not in carriers:
            text = f"`{cause}` makes it a part of a larger axis, whose other part is cut instead"
            table.pin(axis, Reason(text=product.fixed.get(factor) or text, rank=6, node=cause))


def _blocked_by(relations: Relations, state: Components, product: Product, term: Term) -> Reason:
    """Why no factor of a product axis can carry: what pins its factors, the plainest of their reasons."""
    cause = node_label(product.cause)
    found = [_pin_of(relations, state, product.factors[f]) for f in term if f not in product.fixed]
    known = [reason for reason in found if reason is not None]
    if not known:
        return Reason(text=f"`{cause}` holds all parts of the axis", rank=6, node=cause)
    plainest = min(known, key=lambda reason: reason.rank)
    if _BY_WAY in plainest.text:  # the product nearest to the cause is enough
        return plainest
    return Reason(text=f"{plainest.text}{_BY_WAY}`{cause}`", rank=6, node=cause, help=plainest.help)


def _pin_of(relations: Relations, state: Components, axis: int) -> Reason | None:
    """Why the slots of an axis are pinned, None where some are free."""
    root = relations.table.find(axis)
    if root in relations.table.pinned:
        return relations.table.pinned[root]
    labels = _labels(relations, state, axis)
    if labels is None:
        return _ONLY_SLOT
    reasons = [state.reasons[label] for label in labels.tolist() if label in state.reasons]
    return min(reasons, key=lambda reason: reason.rank) if len(reasons) == len(labels) else None


def _components(relations: Relations) -> Components:
    table = relations.table
    start, total = _number_slots(relations)
    rows, columns, pins = [], [], []
    for tie in relations.ties:
        a, b = table.find(tie.a), table.find(tie.b)
        if a in start and b in start:
            rows.append(start[a] + tie.a_index)
            columns.append(start[b] + tie.b_index)
        elif a in start:
            pins.append((start[a] + tie.a_index, table.pinned.get(b, _ONLY_SLOT)))
        elif b in start:
            pins.append((start[b] + tie.b_index, table.pinned.get(a, _ONLY_SLOT)))
    row, column = (np.concatenate(part) if part else np.zeros(0, np.int64) for part in (rows, columns))
    graph = coo_array((np.ones(len(row), np.int8), (row, column)), shape=(total, total))
    count, labels = connected_components(graph, directed=False) if total else (0, np.zeros(0, np.int64))
    reasons: dict[int, Reason] = {}
    for slots, reason in sorted(pins, key=lambda pin: pin[1].rank):
        for component in np.unique(labels[slots]).tolist():
            reasons.setdefault(component, reason)
    free = np.ones(count, bool)
    free[list(reasons)] = False
    return Components(start, np.asarray(labels, np.int64), free, reasons)


def _number_slots(relations: Relations) -> tuple[dict[int, int], int]:
    """A range of slot numbers for every class that is not pinned as a whole."""
    table = relations.table
    start: dict[int, int] = {}
    total = 0
    for axis, size in enumerate(table.sizes):
        if table.find(axis) == axis and axis not in table.pinned and size > 1:
            start[axis] = total
            total += size
    return start, total
