"""A sensitivity profile as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from prunec.exporters.amounts import number, percent, short_drop
from prunec.ir.diagnostics import counted
from prunec.passes.judging.bootstrap import FEW

if TYPE_CHECKING:
    from prunec.passes.sensitivity.profile import GroupCurve, Profile

SHOWN = 30
"""Rows of a table at most; the file has all of them."""
LONGEST, SHORTEST = 34, 12
"""Characters of a layer's name, where there is room and where there is not."""
_GAP = 2
"""Columns between two cells of a table."""


def render_profile(profile: Profile) -> RenderableType:
    """One line a layer, from input to output, with the drop at each ratio."""
    better = "higher" if profile.higher_is_better else "lower"
    title = (
        f"{profile.metric} of the model as it is: {profile.dense:.4g} ({better} is better; "
        f"{counted(profile.samples, 'sample')})"
    )
    hidden = len(profile.groups) - SHOWN
    more = [Text(f"and {hidden} more groups, in the file")] if hidden > 0 else []
    if profile.samples < FEW:
        more.append(Text(f"less than {FEW} samples say nothing about others: give hundreds", style="dim"))
    what = Text("drop where a share of one layer's channels goes:")
    return Group(Text(title), what, _Drops(profile), *more)


class _Drops:
    """The drops, in as many tables below each other as the width asks for: a number that is cut is another number.

    Args:
        profile: of which they are.
    """

    def __init__(self, profile: Profile) -> None:
        groups = profile.groups[:SHOWN]
        self._layers = [group.layers[0] if group.layers else group.tensors[0] for group in groups]
        self._facts = [
            ["group", *(group.id for group in groups)],
            ["units", *(f"{group.units:,}" for group in groups)],
            ["MACs/unit", *(number(group.macs_per_unit) for group in groups)],
        ]
        self._drops = [
            [f"-{percent(ratio, '')}", *(_drop(profile, group, ratio) for group in groups)]
            for ratio in profile.ratios
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The tables, in the width of a console."""
        room = options.max_width - sum(map(_width, self._facts)) - _GAP * len(self._facts)
        widest = max(map(_width, self._drops)) + _GAP
        longest = max(SHORTEST, min(LONGEST, room - widest))
        names = ["layer", *(_shortened(name, longest) for name in self._layers)]
        group, *facts = self._facts
        for drops in _fitting(self._drops, room - _width(names)):
            yield _table([group, names], [*facts, *drops])


def _fitting(columns: Sequence[list[str]], room: int) -> Iterator[list[list[str]]]:
    """As many columns at a time as there is room for, at least one."""
    taken: list[list[str]] = []
    for column in columns:
        if taken and sum(_width(c) + _GAP for c in (*taken, column)) > room:
            yield taken
            taken = []
        taken.append(column)
    yield taken


def _table(words: Sequence[list[str]], numbers: Sequence[list[str]]) -> Table:
    """A table of columns, each with its header first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in words:
        table.add_column(column[0], no_wrap=True)
    for column in numbers:
        table.add_column(column[0], justify="right", no_wrap=True)
    for row in zip(*(column[1:] for column in (*words, *numbers)), strict=True):
        table.add_row(*row)
    return table


def _width(column: Sequence[str]) -> int:
    return max(map(len, column))


def _shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"...{name[3 - longest :]}"


def _drop(profile: Profile, group: GroupCurve, ratio: float) -> str:
    """A drop; empty where nothing was measured, and a value that is no number is told apart."""
    point = next((point for point in group.curve if point.ratio == ratio), None)
    if point is None:
        return ""
    drop = profile.drop(point)
    return "NaN" if drop is None else short_drop(drop)
