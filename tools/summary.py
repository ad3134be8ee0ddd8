"""The last thing that a compile says: what the model cost before and after, and what was proved about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from prunec.exporters.amounts import change, file_size, number
from prunec.passes.pruning.pinned import PINNED

if TYPE_CHECKING:
    from prunec.exporters.target import Export
    from prunec.passes.manager import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Facts about one compile.

    Attributes:
        output: the model that was written.
        parameters: number before and after.
        macs: multiply-accumulates of one inference, before and after.
        size: bytes of the files, before and after; None where the model was made in memory.
        verify: whether verification was on.
        checked: what was proved, one line for each transform that changed something.
        gates: what gates let pass, a line each.
        worst_error: largest relative error of the transforms that had to change nothing, None where nothing
            was compared.
        remarks: number of remarks of each kind that have not been shown.
        pruned: whether anything was removed, or nothing was meant to be.
        why_not: the first reasons that pruning passes gave.
        exported: what the target says of the artefact, a line each.
        beside: files that were written beside the output, and reports that were asked for.
        batch: samples of that one inference.
    """

    output: str
    parameters: tuple[int, int]
    macs: tuple[int, int]
    size: tuple[int | None, int | None]
    verify: bool = True
    checked: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    worst_error: float | None = None
    remarks: Mapping[str, int]
    pruned: bool = True
    why_not: tuple[str, ...] = ()
    exported: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    batch: int = 1

    @classmethod
    def of(
        cls,
        result: Result,
        *,
        export: Export,
        verify: bool,
        remarks_shown: bool,
        pruning: Collection[str] = (),
        also: tuple[str, ...] = (),
    ) -> Summary:
        """The facts of a finished run.

        Args:
            result: what ``prunec.run`` returned.
            export: what was written.
            verify: whether verification was on.
            remarks_shown: whether the user has seen the remarks already.
            pruning: names of the passes of the pipeline that are to remove something.
            also: reports that were written.
        """
        missed = [r for r in result.remarks if r.kind == "missed" and r.origin in pruning]
        missed = [r for r in missed if not (r.reason or "").startswith(PINNED)]
        hidden = [] if remarks_shown else [remark.kind for remark in result.remarks]
        return cls(
            output=str(export.files[0]),
            parameters=(result.cost_before.parameters, result.cost_after.parameters),
            macs=(result.cost_before.macs, result.cost_after.macs),
            batch=result.cost_before.batch,
            size=(result.module.source.original.size, export.size),
            verify=verify,
            checked=tuple(map(str, result.verdicts)),
            gates=tuple(r.message for r in result.remarks if (r.kind, r.origin) == ("passed", "gate")),
            worst_error=max((v.error for v in result.verdicts if v.exact), default=None),
            remarks={kind: hidden.count(kind) for kind in sorted(set(hidden))},
            pruned=not pruning or any(step.groups or step.masks for step in result.plan.steps),
            why_not=tuple(dict.fromkeys(f"{r.message} ({r.reason})" for r in missed)),
            exported=export.lines,
            beside=(*(_like(path, export.files[0]) for path in export.files[1:]), *also),
        )


def _like(path: Path, output: Path) -> str:
    """A path written as the output's is: from the working directory, where that is relative."""
    inside = not output.is_absolute() and path.is_absolute() and path.is_relative_to(Path.cwd())
    return str(path.relative_to(Path.cwd()) if inside else path)


def render_summary(summary: Summary) -> RenderableType:
    """The summary as a table with its lines beneath."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for header in ("before", "after", "change"):
        table.add_column(header, justify="right")
    table.add_row("parameters", *_cells(*summary.parameters, number))
    batch = f" (batch {summary.batch})" if summary.batch > 1 else ""
    table.add_row(f"multiply-accumulates{batch}", *_cells(*summary.macs, number))
    table.add_row("file size", *_cells(*summary.size, file_size))
    # Lines are not wrapped (the caller must not crop either): a log is searched line by line.
    return Group(table, *(Text(line, no_wrap=True, overflow="ignore") for line in _lines(summary)))


def _lines(summary: Summary) -> list[str]:
    nothing = "nothing to verify: no pass changed the model" if summary.verify else "not verified"
    lines = [f"verified: {check}" for check in summary.checked] or [nothing]
    if not summary.pruned:
        more = len(summary.why_not) - 1
        why = "".join(f": {text}" for text in summary.why_not[:1]) + (
            f", and {more} more" if more > 0 else ""
        )
        lines.insert(0, f"nothing was removed{why}")
    if summary.worst_error is not None and len(summary.checked) > 1:
        lines.append(f"worst relative error: {summary.worst_error:.1e}")
    lines += [f"gate: {gate}" for gate in summary.gates]
    if summary.remarks:
        counts = ", ".join(f"{count} {kind}" for kind, count in summary.remarks.items())
        lines.append(f"remarks: {counts} (show them with -R)")
    return [*lines, *summary.exported, f"wrote {', '.join([summary.output, *summary.beside])}"]


def _cells(before: int | None, after: int | None, form: Callable[[int], str]) -> tuple[str, str, str]:
    was, now = ("?" if count is None else form(count) for count in (before, after))
    return was, now, change(before, after)
