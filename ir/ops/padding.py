"""Pad: slots before and after an axis.

Slots that hold a constant are slots like others: a channel that is zero on one side of a sum can go together with
its partner on the other side (the shortcuts of ResNets for CIFAR), and the amount of padding shrinks. Slots that
mirror others stay, and so does an axis of which only a run tells how much it is padded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.ir.op import Cut
from prunec.ir.ops.movement import ANYWHERE, Movement
from prunec.ir.registry import register
from prunec.ir.rule import Index, Pin, Rule, RuleError
from prunec.ir.site import Site

Amount = tuple[int, int]
"""Slots before and after; negative ones crop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad(Movement):
    """Slots before and after an axis, constant or taken from the axis itself."""

    def vectors(self, site: Site, output: int) -> Mapping[int, Index]:
        """The index vector padded as the data would be; cropping where a pad is negative."""
        del output
        shape, mode = site.shape(0), site.text_attribute("mode", "constant")
        amounts, _ = self._amounts(site)
        return {axis: _pad(np.arange(shape[axis]), amount, mode) for axis, amount in amounts.items()}

    def rule(self, site: Site) -> Rule:
        """As movement; an axis that is mirrored or padded by an unknown amount keeps its slots."""
        rule = Movement.rule(self, site)
        amounts, unknown = self._amounts(site)
        mode, op = site.text_attribute("mode", "constant"), site.node.op_type
        mirrored = amounts if mode != "constant" else ()
        whys = (
            dict.fromkeys(amounts, f"{op} pads it by an amount that is only known at run time")
            if unknown
            else {}
        )
        whys |= dict.fromkeys(mirrored, f"{op} repeats some of its slots (mode '{mode}')")
        whys |= {
            a: "an axis of size 1, which has nothing to lose"
            for a in amounts
            if site.shape(0)[a] == 1 and a not in whys
        }
        pins = [
            Pin(operand=(side, 0), axis=a, reason=why) for a, why in whys.items() for side in ("in", "out")
        ]
        maps = tuple(m for m in rule.maps if m.axis not in whys)
        return Rule(inputs=rule.inputs, outputs=rule.outputs, sizes=rule.sizes, maps=maps, pins=tuple(pins))

    def _amounts(self, site: Site) -> tuple[dict[int, Amount], bool]:
        """Amounts of the axes that are padded, and whether only a run tells some of them.

        Raises:
            RuleError: only a run tells which axes are padded.
        """
        rank = len(site.shape(0))
        pads, known = self._pads(site)
        axes = site.integers(3) if site.has(3) else list(range(rank))
        half = len(pads) // 2
        pairs = zip(axes or (), pads[:half], pads[half:], known[:half] & known[half:], strict=True)
        found = {a % rank: (int(before), int(after), bool(k)) for a, before, after, k in pairs}
        amounts = {a: (before, after) for a, (before, after, k) in found.items() if before or after or not k}
        return amounts, not known.all()

    def _pads(self, site: Site) -> tuple[Index, NDArray[np.bool_]]:
        """All amounts at the sizes tried, and which of them are the same at every size."""
        if "pads" in site.attributes:
            pads = np.array(site.integers(1, "pads"), np.int64)
            return pads, np.ones(len(pads), bool)
        entries = site.entries(1)
        if entries is None:
            raise RuleError("how much it pads is only known at run time")
        return entries

    def rewrite(self, site: Site, cut: Cut) -> None:
        """As many slots before and after as are left of them."""
        amounts, unknown = self._amounts(site)
        shape, axes = site.shape(0), self._listed(site)
        pads = self._pads(site)[0].copy()
        changed = False
        for axis, amount in amounts.items():
            old, new = cut.kept(("in", 0), axis), cut.kept(("out", 0), axis)
            if unknown or (old is None and new is None):
                continue
            inside = np.arange(shape[axis]) if old is None else old
            outside = np.arange(shape[axis] + sum(amount)) if new is None else new
            at = axes.index(axis)
            pads[[at, at + len(axes)]] = _left(amount, shape[axis], inside, outside)
            changed = True
        if changed and "pads" in site.attributes:
            cut.set_attributes({"pads": pads.tolist()})
        elif changed:
            cut.set_input(1, pads)

    def _listed(self, site: Site) -> list[int]:
        """The axis of every pair of amounts."""
        rank = len(site.shape(0))
        listed = site.integers(3) if site.has(3) else None
        return [axis % rank for axis in (range(rank) if listed is None else listed)]


def _left(amount: Amount, size: int, inside: Index, outside: Index) -> list[int]:
    """The amounts of an axis after a cut.

    Args:
        amount: the amounts before it.
        size: size of the input axis.
        inside: slots of the input axis that stay.
        outside: slots of the output axis that stay.

    >>> _left((2, 1), 4, np.array([0, 2, 3]), np.array([1, 2, 4, 5]))  # one before, three of the input, none after
    [1, 0]
    """
    before, after = amount
    counts = (outside < before).sum(), (outside >= size + before).sum()
    cropped = (inside < -before).sum(), (inside >= size + after).sum()
    return [int(c) if n > 0 else -int(k) for n, c, k in zip(amount, counts, cropped, strict=True)]


def _pad(vector: Index, amount: Amount, mode: str) -> Index:
    before, after = amount
    vector = vector[max(0, -before) : len(vector) + min(0, after)]
    widths = (max(0, before), max(0, after))
    if mode == "constant":
        return np.pad(vector, widths, constant_values=ANYWHERE)
    return np.pad(vector, widths, mode={"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode])  # type: ignore[call-overload, no-any-return]


def register_ops() -> None:
    """Register the family's ops."""
    for domain in ("", "com.microsoft"):
        register("Pad", Pad(zeroed=frozenset({0})), domain=domain)
