"""How good the model still is: the metric on all samples and on slices of them, and what quantising adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from prunec.exporters.report.evidence import Document
from prunec.exporters.report.figures import Scale


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRow:
    """One slice, in words and as places on a common axis (per cent).

    Attributes:
        name: of the slice.
        where: which samples, or what was done to them.
        size: samples.
        value: of the metric.
        interval: of the value.
        dense: of the dense model.
        drop: against it.
        thresholds: what is demanded, each with what became of it.
        status: ``holds``, ``undecided`` or ``fails``; empty where nothing is demanded.
        at: place of the value.
        ends: places of the ends of the interval.
        dense_at: place of the dense model's value, or None.
        limits: places of thresholds.
        part: the value in per cent where it is a share, else None.
    """

    name: str
    where: str
    size: int
    value: str
    interval: str
    dense: str
    drop: str
    thresholds: tuple[tuple[str, str], ...]
    status: str
    at: float
    ends: tuple[float, float]
    dense_at: float | None
    limits: tuple[float, ...]
    part: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A metric on samples and slices.

    Attributes:
        metric: what was measured.
        data: the samples.
        samples: their number.
        status: the worst that became of a threshold; empty where nothing is demanded.
        rows: the whole set, then the slices.
        ticks: of the axis, places and words.
    """

    metric: str
    data: str
    samples: int
    status: str
    rows: tuple[SliceRow, ...]
    ticks: tuple[tuple[float, str], ...]


def judgement(document: Document) -> Judgement:
    """The view of an evaluation."""
    rows = _rows(document)
    share = all(_is_share(value) for row in rows for value in _values(row))
    scale = Scale.around(value for row in rows for value in (*_values(row), *_limits(row)))
    words = _Words(share)
    worst = {"": 0, "holds": 1, "undecided": 2, "fails": 3}
    views = tuple(_view(row, scale, words) for row in rows)
    return Judgement(
        metric=str(document["metric"]),
        data=str(document["data"]),
        samples=int(document["samples"]),
        status=max((view.status for view in views), key=lambda status: worst[status], default=""),
        rows=views,
        ticks=tuple((scale.percent(tick), words.limit(tick)) for tick in scale.ticks()),
    )


def _rows(document: Document) -> list[Mapping[str, Any]]:
    """The rows; an evaluation without slices is one row."""
    whole = {"name": "all", "where": "", "size": document["samples"], "value": document.get("value")}
    whole |= {
        "interval": document.get("interval"),
        "dense": document.get("dense"),
        "drop": None,
        "checks": [],
    }
    return list(document.get("rows") or document.get("slices") or [whole])


@dataclass(frozen=True, slots=True)
class _Words:
    share: bool

    def of(self, value: float | None) -> str:
        if value is None:
            return ""
        return f"{100 * value:.2f} %" if self.share else f"{value:.4g}"

    def limit(self, value: float) -> str:
        """A round number, as of a threshold, without the decimals of what is measured."""
        return f"{100 * value:.4g} %" if self.share else f"{value:.4g}"

    def between(self, low: float | None, high: float | None) -> str:
        if low is None or high is None:
            return "not known"
        if self.share:
            return f"{100 * low:.2f} - {100 * high:.2f} %"
        return f"{low:.4g} - {high:.4g}"

    def lost(self, value: float | None, *, relative: bool = False) -> str:
        """A loss in points or in the metric's unit; a ``relative`` one is a share of the dense model's value."""
        if value is None:
            return ""
        if relative:
            return f"{100 * value:+.2f} % of the dense model's" if round(100 * value, 2) else "none"
        if abs(value) < 5e-5 or (self.share and not round(100 * value, 2)):
            return "none"
        return f"{100 * value:+.2f} points" if self.share else f"{value:+.3g}"


def _is_share(value: float) -> bool:
    return 0 <= value <= 1


def _values(row: Mapping[str, Any]) -> Iterator[float]:
    """What the row has on the axis, without what is not a number."""
    yield from (value for value in (row["value"], *row["interval"], row.get("dense")) if value is not None)


def _limits(row: Mapping[str, Any]) -> Iterator[float]:
    """Thresholds as values of the metric."""
    for check in row.get("checks", ()):
        if check["name"] in ("min", "max"):
            yield check["limit"]


def _view(row: Mapping[str, Any], scale: Scale, words: _Words) -> SliceRow:
    low, high = row["interval"]
    dense, checks, relative = row.get("dense"), row.get("checks", ()), bool(row.get("relative"))

    def place(value: float | None) -> float:
        return 0.0 if value is None else scale.percent(value)

    statuses = {check["status"] for check in checks}
    return SliceRow(
        name=str(row["name"]),
        where=str(row.get("where") or ""),
        size=int(row["size"]),
        value=words.of(row["value"]) or "not a number",
        interval=words.between(low, high),
        dense=words.of(dense),
        drop=words.lost(None if row.get("drop") is None else -row["drop"], relative=relative),
        thresholds=tuple((_demand(check, words, relative), str(check["status"])) for check in checks),
        status=next((s for s in ("fails", "undecided", "holds") if s in statuses), ""),
        at=place(row["value"]),
        ends=(place(low), place(high)),
        dense_at=None if dense is None else scale.percent(dense),
        limits=tuple(scale.percent(limit) for limit in _limits(row)),
        part=round(100 * row["value"], 2) if words.share and row["value"] is not None else None,
    )


def _demand(check: Mapping[str, Any], words: _Words, relative: bool) -> str:
    limit = check["limit"]
    match check["name"]:
        case "min":
            return f"at least {words.limit(limit)}"
        case "max":
            return f"at most {words.limit(limit)}"
        case "min-size":
            return f"at least {limit:,} samples"
        case _:
            return f"drop at most {words.lost(limit, relative=relative).lstrip('+')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossBar:
    """What one model loses against the dense one.

    Attributes:
        name: of the model.
        kind: ``model``, or ``added`` for the sum of what two models lose.
        value: of the metric, in words; empty for a sum.
        lost: in words.
        length: of the bar, in per cent; nothing where the model is better.
    """

    name: str
    kind: str
    value: str
    lost: str
    length: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compounding:
    """Dense, pruned, quantised and both.

    Attributes:
        metric: what was measured.
        samples: on how many samples, and of what.
        bars: the models, with the sum of what pruning and quantising lose by themselves before the last.
        words: what is lost beyond what each loses by itself.
        warning: or None.
    """

    metric: str
    samples: str
    bars: tuple[LossBar, ...]
    words: str
    warning: str | None


def compounding(document: Document) -> Compounding:
    """The view of a quantisation table."""
    from prunec.passes.judging.quantization_table import QuantizationTable

    table = QuantizationTable(**{field.name: document[field.name] for field in fields(QuantizationTable)})
    words = _Words(table.is_share)
    drops = {name: table.drop(getattr(table, name)) for name in ("dense", "pruned", "quantised", "both")}
    added = drops["pruned"] + drops["quantised"]
    scale = Scale.around((*drops.values(), added, table.limit), zero=True, margin=0)

    def bar(name: str, lost: float, value: str = "", kind: str = "model") -> LossBar:
        return LossBar(name=name, kind=kind, value=value, lost=table.amount(lost), length=scale.percent(lost))

    more = "more" if table.interaction >= 0 else "less"
    return Compounding(
        metric=table.metric,
        samples=f"{table.samples:,} samples of {table.data}",
        bars=(
            *(
                bar(name, drops[name], words.of(getattr(table, name)))
                for name in ("dense", "pruned", "quantised")
            ),
            bar("both added up", added, kind="added"),
            bar("pruned and quantised", drops["both"], words.of(table.both)),
        ),
        words=f"Together they lose {table.amount(abs(table.interaction))} {more} than each by itself",
        warning=table.warning,
    )
