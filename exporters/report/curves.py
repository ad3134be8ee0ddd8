"""Sensitivity: a small chart for every channel group, all on the same axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunec.exporters.amounts import percent
from prunec.exporters.report.evidence import Document
from prunec.exporters.report.figures import Box, Scale, polyline
from prunec.ir.diagnostics import counted
from prunec.passes.judging.bootstrap import FEW
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
    metric, data, groups = document["metric"], document["data"], document["groups"]
    few = ", too few to say anything about others" if int(data["samples"]) < FEW else ""
    axes, cuts = _Axes.of(float(metric["dense"]), groups), _cuts(plan, groups)
    return Curves(
        metric=str(metric["name"]),
        data=f"{counted(int(data['samples']), 'sample')} of {data['name']}{few}",
        dense=axes.words(axes.dense),
        dense_at=axes.points([(0.0, axes.dense)])[0][1],
        low=axes.words(axes.low),
        high=axes.words(axes.high),
        most=percent(axes.most),
        curves=tuple(axes.curve(group, cuts.get(number)) for number, group in enumerate(groups)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    """What all charts share: how much is removed, across, and the metric, upwards.

    Attributes:
        dense: the metric of the model as it is.
        low: its lowest value.
        high: its highest.
        most: the largest share removed.
    """

    dense: float
    low: float
    high: float
    most: float

    @classmethod
    def of(cls, dense: float, groups: Sequence[Mapping[str, Any]]) -> _Axes:
        """Axes on which all groups have room."""
        points = [point for group in groups for point in group["curve"]]
        values = [dense, *(point["value"] for point in points if point["value"] is not None)]
        most = max((float(point["ratio"]) for point in points), default=1.0)
        return cls(dense=dense, low=min(values), high=max(values), most=most)

    def points(self, measured: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Shares and values in units of the view box."""
        x, y = Scale(low=0.0, high=self.most), Scale.around((self.low, self.high))
        return BOX.points(x, y, measured)

    def words(self, value: float) -> str:
        """A value of the metric: in per cent where all are shares."""
        return f"{100 * value:.4g} %" if self.low >= 0 and self.high <= 1 else f"{value:.4g}"

    def curve(self, group: Mapping[str, Any], cut: float | None) -> Curve:
        """One group, of which this share is cut."""
        measured = [(p["ratio"], p["value"]) for p in group["curve"] if p["value"] is not None]
        points = self.points([(0.0, self.dense), *measured])
        tensors = group.get("tensors") or []
        layers = group.get("layers") or tensors or [group["id"]]
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        return Curve(
            name=f"{layers[0]}{more}",
            tensor=str(tensors[0]).rpartition(":")[0] if tensors else "",
            units=int(group["units"]),
            line=polyline(points),
            dots=tuple(points),
            end=self.words(measured[-1][1]) if measured else "not a number",
            cut=None if cut is None else percent(cut),
            cut_at=None if cut is None else self.points([(cut, self.dense)])[0][0],
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
