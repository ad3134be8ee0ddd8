"""A sensitivity profile as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from prunec.exporters.amounts import number

if TYPE_CHECKING:
    from prunec.passes.sensitivity.profile import GroupCurve, Profile

SHOWN = 30
"""Rows of a table at most; the file has all of them."""
LONGEST = 34
"""Characters of a layer's name."""


def render_profile(profile: Profile) -> RenderableType:
    """One line a layer, from input to output, with the drop at each ratio."""
    better = "higher" if profile.higher_is_better else "lower"
    title = (
        f"{profile.metric} of the model as it is: {profile.dense:.4g} ({better} is better; "
        f"{profile.samples:,} samples)"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("group", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    table.add_column("units", justify="right", no_wrap=True)
    table.add_column("MACs/unit", justify="right", no_wrap=True)
    for ratio in profile.ratios:
        table.add_column(f"-{ratio:.0%}", justify="right", no_wrap=True)
    for group in profile.groups[:SHOWN]:
        table.add_row(*_cells(profile, group))
    hidden = len(profile.groups) - SHOWN
    more = [Text(f"and {hidden} more groups, in the file")] if hidden > 0 else []
    return Group(Text(title), Text("drop where a share of one layer's channels goes:"), table, *more)


def _cells(profile: Profile, group: GroupCurve) -> list[str]:
    name = group.layers[0] if group.layers else group.tensors[0]
    shown = name if len(name) <= LONGEST else f"...{name[3 - LONGEST :]}"
    drops = {point.ratio: profile.drop(point) for point in group.curve}
    texts = ["" if ratio not in drops else _drop(drops[ratio]) for ratio in profile.ratios]
    return [group.id, shown, f"{group.units:,}", number(group.macs_per_unit), *texts]


def _drop(drop: float | None) -> str:
    """A drop with three decimals; a value that is no number is told apart."""
    if drop is None:
        return "NaN"
    return "0" if abs(drop) < 5e-4 else f"{drop:.3f}"
