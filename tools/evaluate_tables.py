"""What ``prunec eval`` prints: a row a slice, with intervals, drops and what became of thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from prunec.ir.diagnostics import counted
from prunec.passes.judging.bootstrap import FEW

if TYPE_CHECKING:
    from prunec.passes.judging.baseline import Comparison
    from prunec.passes.judging.bootstrap import Interval
    from prunec.passes.judging.evaluate import Evaluation
    from prunec.passes.judging.rows import Row

STYLES = {
    "holds": "green",
    "stable": "green",
    "undecided": "yellow",
    "notable": "yellow",
    "too few": "yellow",
    "fails": "bold red",
    "worse": "bold red",
    "drifted": "bold red",
}


TOO_FEW = f"too few: less than {FEW} samples, or few that are all alike, say nothing about others"
UNTOLD = "too few: by chance so few samples are as far from the baseline; more would tell"


def render_evaluation(result: Evaluation) -> RenderableType:
    """One model: what it was measured by, and a table of its slices."""
    against = f" against {result.reference}" if result.reference else ""
    better = "higher" if result.metric.higher_is_better else "lower"
    measured = f"{result.metric} of {counted(result.samples, 'sample')} of {result.data} ({better} is better)"
    head = f"{result.model}{against}: {measured}"
    lines = [head, ""] if len(result.rows) > 1 else [head]
    undecided = any(row.status == "undecided" for row in result.rows)
    notes = [f"{result.metric} is measured: {result.why}"] if result.why else []
    notes += (
        ["undecided: the threshold is inside the 95 % interval, or there is none; more samples would decide"]
        if undecided
        else []
    )
    notes += [TOO_FEW] if any(math.isnan(row.interval[0]) for row in result.rows) else []
    return Lines(
        *(Text(line, no_wrap=True, overflow="ignore") for line in lines),
        _table(result.rows),
        *(Text(note, style="dim") for note in notes),
    )


def render_comparison(found: Comparison) -> RenderableType:
    """What changed since a baseline: metrics, then distributions."""
    parts: list[RenderableType] = [Text("against the baseline")]
    if found.changes:
        table = _columns(("metric", "slice"), ("baseline", "95 % interval", "now", "95 % interval"))
        for change in found.changes:
            cells = [change.now.metric, change.now.slice]
            for measured in (change.before, change.now):
                cells += [_number(measured.value), _interval(measured.interval)]
            verdict = "worse" if change.worse else "too few" if change.too_few else "as before"
            table.add_row(*cells, Text(verdict, style=STYLES.get(verdict, "")))
        parts += [Text(), table]
    table = _columns(("distribution",), ("samples", "stability index", "by chance", "KS distance"))
    for drift in found.drifts:
        ks = "" if drift.ks is None else f"{drift.ks:.3f}"
        cells = [drift.name, f"{drift.samples:,}", f"{drift.psi:.3f}", f"{drift.chance:.3f}", ks]
        table.add_row(*cells, Text(drift.status, style=STYLES[drift.status]))
    parts += [Text(), table]
    if any(drift.status == "too few" for drift in found.drifts) or any(c.too_few for c in found.changes):
        parts.append(Text(UNTOLD, style="dim"))
    if found.absent:
        parts.append(Text(f"not in the new samples: {', '.join(found.absent)}", style="dim"))
    return Lines(*parts)


def _columns(words: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table with columns of words, of numbers, and the verdict."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for header in words:
        table.add_column(header, overflow="fold")
    for header in numbers:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    return table


def _table(rows: Sequence[Row]) -> Table:
    compared = any(row.dense is not None for row in rows)
    mixed = len({row.metric for row in rows}) > 1
    judged = any(row.checks for row in rows)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("slice", overflow="fold")
    if mixed:
        table.add_column("metric", no_wrap=True)
    for header in ("samples", *(["dense"] if compared else []), "value", "95 % interval"):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("drop", "95 % interval") if compared else ():
        table.add_column(header, justify="right", no_wrap=True)
    if judged:
        table.add_column("demanded", overflow="fold")
        table.add_column("verdict", no_wrap=True)
    for row in rows:
        cells = [row.name, *([row.metric] if mixed else []), f"{row.size:,}"]
        cells += [_number(row.dense)] if compared else []
        cells += [_number(row.value), _interval(row.interval)]
        share = row.relative
        cells += [_number(row.drop, share), _interval(row.drop_interval, share)] if compared else []
        table.add_row(*cells, *(_verdict(row) if judged else ()))
    return table


def _verdict(row: Row) -> tuple[str, Text]:
    if not row.checks:
        return ("", Text())
    return (
        ", ".join(check.demand for check in row.checks),
        Text(row.status, style=STYLES[row.status]),
    )


def _number(value: float | None, share: bool = False) -> str:
    """A value with as many digits as tell models apart."""
    if value is None:
        return "-"
    if share:
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}"


def _interval(interval: Interval | None, share: bool = False) -> str:
    if interval is None:
        return ""
    if any(map(math.isnan, interval)):
        return "too few"
    return f"[{_number(interval[0], share)}, {_number(interval[1], share)}]"
