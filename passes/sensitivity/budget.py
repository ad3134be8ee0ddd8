"""Curves of a profile as the damage that a cut does, layer by layer.

A curve is made monotone, goes through nothing at no cut, is interpolated without overshoot (Fritsch and Carlson,
*Monotone piecewise cubic interpolation*, 1980), and goes on behind its last point as steeply, bent towards the loss of
all that the model is worth: a layer without channels passes nothing on, however flat its curve began. What single
samples make of a curve is no evidence: a small term that grows with the square of the share decides where it is flat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from prunec.ir.diagnostics import Place, UserError
from prunec.ir.module import Source
from prunec.passes.coupling.groups import Group
from prunec.passes.sensitivity.matching import Rows
from prunec.passes.sensitivity.profile import GroupCurve, Profile

Floats = NDArray[np.float64]

_FLOOR = 0.02
"""Of the largest drop of a profile: differences as small as that do not count."""


def check_model(profile: Profile, source: Source, unit: str, file: str) -> None:
    """See that a profile is one of this model, by the same unit.

    Raises:
        UserError: it is of another model, as their hashes say, or what it masked are other units.
    """
    if profile.unit != unit:
        raise UserError(
            f"this sensitivity profile was made with unit={profile.unit}, the pass has unit={unit}",
            place=Place(file=file),
            help=[f"write unit={profile.unit}, or make a profile with --unit {unit}"],
        )
    if profile.model_sha256 and source.sha256 and profile.model_sha256 != source.sha256:
        raise UserError(
            f"this sensitivity profile is of another model: '{profile.model_name}' "
            f"({profile.model_sha256[:12]}), not '{source.name}' ({source.sha256[:12]})",
            place=Place(file=file),
            help=["make one of this model: prunec sensitivity MODEL --data D -o profile.json"],
        )


def curves_for(
    profile: Profile, groups: Sequence[Group], clusters: Sequence[Sequence[int]], file: str
) -> list[GroupCurve | None]:
    """Per layer the curve that shares most tensors with it; None where none does.

    Raises:
        UserError: no layer has a curve.
    """
    rows = Rows([frozenset(curve.tensors) for curve in profile.groups])
    found: list[GroupCurve | None] = []
    for members in clusters:
        mine = {f"{member.name}:{member.axis}" for i in members for member in groups[i].members}
        row = rows.find(mine)
        found.append(None if row is None else profile.groups[row])
    if clusters and not any(found):
        theirs = ", ".join(curve.tensors[0] for curve in profile.groups[:3] if curve.tensors)
        raise UserError(
            "no group of this model is in the sensitivity profile",
            place=Place(file=file),
            notes=[f"tensors of its groups: {theirs}, ..."],
            help=["make the profile of the model as this pass finds it"],
        )
    return found


class Damages:
    """The damage of every layer by the share of its units that goes.

    Args:
        profile: where the curves are from.
        curves: per layer its curve; a layer without one loses nothing.
    """

    def __init__(self, profile: Profile, curves: Sequence[GroupCurve | None]) -> None:
        drops = [profile.drop(point) or 0.0 for curve in profile.groups for point in curve.curve]
        largest = max([0.0, *drops])
        self._floor = max(_FLOOR * largest, abs(profile.dense) / max(profile.samples, 1), 1e-9)
        self._all = max(abs(profile.dense), largest)
        self._profile = profile
        self._curves = curves

    def __call__(self, number: int, shares: Floats) -> Floats:
        """Damage of one layer at some shares, in units of the metric; infinite where nothing was measured, and where
        the metric was no number.
        """
        curve = self._curves[number]
        if curve is None or not curve.curve:
            return np.where(shares > 0, np.inf, 0.0)
        measured, limit = self._points(curve)
        values = _through(measured, shares, self._all) + self._floor * np.square(shares)
        return np.where(shares < limit, values, np.inf)

    def _points(self, curve: GroupCurve) -> tuple[dict[float, float], float]:
        """Share and drop of every point, and the share from which on the metric was no number."""
        points, limit, worst = {0.0: 0.0}, np.inf, 0.0
        for point in sorted(curve.curve, key=lambda p: p.removed):
            share, drop = point.removed / curve.units, self._profile.drop(point)
            if drop is None:
                limit = min(limit, share)
                break
            worst = max(worst, drop)
            points[share] = worst
        return points, limit


def _through(points: dict[float, float], shares: Floats, everything: float) -> Floats:
    """A monotone curve through points, the first at 0; behind the last one bent towards ``everything`` at 1."""
    x, y = np.array(list(points)), np.array(list(points.values()))
    if len(x) == 1:
        return np.zeros_like(shares)
    inside = np.asarray(PchipInterpolator(x, y)(np.minimum(shares, x[-1])), np.float64)
    beyond = np.maximum(shares - x[-1], 0.0)
    slope = max((y[-1] - y[-2]) / (x[-1] - x[-2]), y[-1] / x[-1])
    behind: Floats = slope * beyond + everything * np.square(beyond / (1 - x[-1]))
    return inside + behind
