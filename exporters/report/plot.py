"""A profile as a figure: layers from input to output, the drop at each ratio, and where the cost is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.exporters.amounts import percent, short_drop
from prunec.ir.diagnostics import Place, UserError
from prunec.ir.files import write_bytes

if TYPE_CHECKING:
    from prunec.passes.sensitivity.profile import GroupCurve, Profile

FORMATS = (".svg", ".png")
_LONGEST = 38
_NUMBERS = 60
"""Rows up to which every cell holds its number."""
_INK = "#333333"
_DARK = 0.05
"""A drop by this share of the metric is dark in any case; where all drops are smaller, none is."""
_UNSEEN = 5e-4
"""Of the darkest drop: what is lighter looks white."""
_TICKS = (0, 1 / 16, 1 / 4, 1)
"""Ticks of the colour bar, as shares of the darkest drop; under a scale of square roots no two of them touch."""


def check_plot(path: Path) -> None:
    """See that a figure can be drawn, before anything is measured.

    Raises:
        UserError: the name ends in neither .svg nor .png, or matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"a plot ends in {' or '.join(FORMATS)}, not '{path.suffix}'", place=Place(file=str(path))
        )
    try:
        import matplotlib  # noqa: F401  (only whether it is there)
    except ImportError as error:
        help = ["install it: pip install 'prunec[judge]'"]
        raise UserError("a plot needs matplotlib, which is not installed", help=help) from error


def write_plot(profile: Profile, path: str | Path) -> None:
    """Draw a profile into a file.

    Args:
        profile: the profile.
        path: ends in ``.svg`` or ``.png``.

    Raises:
        UserError: as :func:`check_plot`, or the file cannot be written.
    """
    target = Path(path)
    check_plot(target)
    write_bytes(target, render_plot(profile, target.suffix.lower().removeprefix(".")), "plot")


def render_plot(profile: Profile, form: str) -> bytes:
    """The figure as the bytes of a file of form ``svg`` or ``png``; the same for the same profile."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 8.5,
        "svg.hashsalt": "prunec",
        "svg.fonttype": "none",
    }
    rows, ratios = len(profile.groups), len(profile.ratios)
    with mpl.rc_context(style):
        figure = Figure(figsize=(6.4 + 0.48 * ratios, 1.75 + 0.235 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        heat, cost = figure.subplots(
            1, 2, sharey=True, gridspec_kw={"width_ratios": [max(1.4, 0.55 * ratios), 1.5], "wspace": 0.02}
        )
        _draw_heat(figure, heat, profile)
        _draw_cost(cost, profile)
        figure.suptitle(_title(profile), x=0.01, ha="left", fontsize=10, color=_INK)
        stream = io.BytesIO()
        plain: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(stream, format=form, dpi=144, metadata=plain)
    return stream.getvalue()


def _title(profile: Profile) -> str:
    model = Path(profile.model_name).name
    return (
        f"{model}: what {profile.metric} loses when a share of one layer's channels goes\n"
        f"as it is {profile.dense:.4g}, {profile.samples:,} samples, least important channels by {profile.criterion}"
    )


def drops(profile: Profile) -> NDArray[np.float64]:
    """The drops, [groups, ratios]; NaN where nothing was measured, infinite where the metric is no number."""
    table = np.full((len(profile.groups), len(profile.ratios)), np.nan)
    columns = {ratio: column for column, ratio in enumerate(profile.ratios)}
    for row, group in enumerate(profile.groups):
        for point in group.curve:
            drop = profile.drop(point)
            table[row, columns[point.ratio]] = np.inf if drop is None else drop
    return table


def _draw_heat(figure: Any, axes: Any, profile: Profile) -> None:
    """One row a layer, one column a ratio: white where nothing is lost, dark where much is."""
    import matplotlib as mpl
    from matplotlib.colors import PowerNorm

    table = drops(profile)
    finite = table[np.isfinite(table)]
    top = max(float(finite.max(initial=0.0)), _DARK * abs(profile.dense), 1e-6)
    shown = np.clip(np.where(np.isinf(table), top, table), 0, top)
    colours = mpl.colormaps["OrRd"].with_extremes(bad="#e4e4e4")
    scale = PowerNorm(0.5, vmin=0, vmax=top)  # small drops are to be seen beside one large one
    image = axes.imshow(shown, cmap=colours, norm=scale, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(profile.ratios)), [percent(ratio, "") for ratio in profile.ratios])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("share of the channels masked", color=_INK)
    axes.set_yticks(range(len(profile.groups)), [_label(group) for group in profile.groups])
    axes.set_ylabel("input  →  output", color=_INK, rotation=270, labelpad=12)
    axes.tick_params(length=0, colors=_INK)
    axes.set_xticks(np.arange(-0.5, len(profile.ratios)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(profile.groups)), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if len(profile.groups) <= _NUMBERS:
        _write_numbers(axes, table, top)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.9, aspect=28, pad=0.01)
    bar.set_ticks([top * part for part in _TICKS], labels=[f"{top * part:.2g}" for part in _TICKS])
    bar.minorticks_off()
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, colors=_INK)
    bar.set_label(f"drop of {profile.metric}", color=_INK)


def _write_numbers(axes: Any, table: NDArray[np.float64], top: float) -> None:
    for (row, column), drop in np.ndenumerate(table):
        if np.isnan(drop):
            continue
        text = "NaN" if np.isinf(drop) else _number(drop, top)
        dark = np.isinf(drop) or drop > 0.35 * top
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else _INK)


def _number(drop: float, top: float) -> str:
    """A drop in as many digits as tell it from its neighbours; where no colour is to be seen, a dot."""
    return "·" if abs(drop) < _UNSEEN * top else short_drop(drop).replace("0.", ".", 1)


def _draw_cost(axes: Any, profile: Profile) -> None:
    """Bars: the share of all that can be cut which a layer's channels stand for."""
    macs = np.array([group.units * group.macs_per_unit for group in profile.groups], np.float64)
    shares = 100 * macs / max(macs.sum(), 1.0)
    rows = np.arange(len(shares))
    axes.barh(rows, shares, height=0.62, color="#9db4c6")
    for row, share in zip(rows, shares, strict=True):
        axes.text(share, row, f" {share:.1f}", va="center", fontsize=7, color=_INK)
    axes.set_xlim(0, 1.22 * max(float(shares.max(initial=0)), 1.0))
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("multiply-accumulates that\nits channels take along, %", color=_INK)
    axes.tick_params(which="both", length=0, labelleft=False)
    axes.set_xticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _label(group: GroupCurve) -> str:
    name = group.layers[0] if group.layers else group.tensors[0]
    more = f" +{len(group.layers) - 1}" if len(group.layers) > 1 else ""
    room = _LONGEST - len(more)
    shown = name if len(name) <= room else f"…{name[1 - room :]}"
    return f"{shown}{more}  {group.id}"
