"""Sensitivity: a small chart for every channel group, all on the same axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunec.exporters.amounts import percent
from prunec.exporters.report.evidence import Document
from prunec.exporters.report.figures import Box, Scale, polyline
from prunec.passes.sensitivity.matching import Rows

if TYPE_CHECKING:
    from prunec.passes.plan import Plan

BOX = Box()


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The metric of one group as more and more of it is removed.

    Attributes:
        name: of its first layer, and how many there are besides.
        tensor: the first one that loses channels, by which cuts are named too; ids are those of another analysis.
        units: channels that it has.
        line: points of the line, in units of the view box.
        dots: the same, one by one.
        end: the metric with the largest share gone, in words.
        cut: share that this compile removed, in words; None where nothing was.
        cut_at: where that is on the horizontal axis, in units of the view box.
    """

    name: str
    tensor: str
    units: int
    line: str
    dots: tuple[tuple[float, float], ...]
    end: str
    cut: str | None
    cut_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """All groups.

    Attributes:
        metric: what was measured.
        data: on what samples.
        dense: of the model as it is, in words.
        dense_at: height of the line of the dense model.
        low: the lowest value on the axis, in words.
        high: the highest one.
        most: the largest share removed, in words.
        curves: one for each group.
        box: of the charts.
    """

    metric: str
    data: str
    dense: str
    dense_at: float
    low: str
    high: str
    most: str
    curves: tuple[Curve, ...]
    box: Box = BOX


def curves(document: Document, plan: Plan) -> Curves:
    """The view of a sensitivity profile, with what a plan removed marked in it."""
    metric, data = document["metric"], document["data"]
    dense = float(metric["dense"])
    groups = document["groups"]
    values = [point["value"] for group in groups for point in group["curve"] if point["value"] is not None]
    most = max((point["ratio"] for group in groups for point in group["curve"]), default=1.0)
    share = all(0 <= value <= 1 for value in (dense, *values))
    x, y = Scale(low=0.0, high=float(most)), Scale.around((dense, *values))
    cuts = _cuts(plan, groups)

    def words(value: float) -> str:
        return f"{100 * value:.4g} %" if share else f"{value:.4g}"

    def curve(number: int, group: Mapping[str, Any]) -> Curve:
        measured = [(p["ratio"], p["value"]) for p in group["curve"] if p["value"] is not None]
        points = BOX.points(x, y, [(0.0, dense), *measured])
        cut = cuts.get(number)
        tensors = group.get("tensors") or []
        layers = group.get("layers") or tensors or [group["id"]]
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        return Curve(
            name=f"{layers[0]}{more}",
            tensor=str(tensors[0]).rpartition(":")[0] if tensors else "",
            units=int(group["units"]),
            line=polyline(points),
            dots=tuple(points),
            end=words(measured[-1][1]) if measured else "not a number",
            cut=None if cut is None else percent(cut),
            cut_at=None if cut is None else BOX.points(x, y, [(cut, dense)])[0][0],
        )

    return Curves(
        metric=str(metric["name"]),
        data=f"{int(data['samples']):,} samples of {data['name']}",
        dense=words(dense),
        dense_at=BOX.points(x, y, [(0.0, dense)])[0][1],
        low=words(min((dense, *values))),
        high=words(max((dense, *values))),
        most=percent(float(most)),
        curves=tuple(curve(number, group) for number, group in enumerate(groups)),
    )


def _cuts(plan: Plan, groups: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """By position of a row the share of its units that all steps together removed; rows that lost nothing are not
    in it.
    """
    rows = Rows([frozenset(map(str, group.get("tensors", ()))) for group in groups])
    removed: Counter[int] = Counter()
    units = {number: int(group["units"]) for number, group in enumerate(groups)}
    for step in plan.steps:
        had: Counter[int] = Counter()
        for cut in step.groups:
            row = rows.find({f"{tensor.name}:{tensor.axis}" for tensor in cut.tensors})
            if row is not None:
                removed[row] += len(cut.removed)
                had[row] += cut.units
        units |= {row: max(units[row], count) for row, count in had.items()}  # heads here, positions there
    return {row: count / units[row] for row, count in removed.items() if count and units[row]}
