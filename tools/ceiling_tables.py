"""What ``prunec inspect --ceiling`` asks and prints: how much faster sparse kernels can make a model at the most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prunec.ir.diagnostics import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prunec.exporters.bench.ceiling import Ceiling
    from prunec.exporters.bench.results import Machine

HELP = (
    "Predict how much faster 2:4 can make the model at most, from where its time goes: measured (the default), "
    "estimated, or estimated:OPS,BYTES a second of another machine (--ceiling=estimated:125T,0.9T)."
)
FEW = 12
"""Layers that are shown."""
_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
NODE = 3e-6
"""Seconds that starting a kernel takes on a machine of which only operations and bytes are given: that of a GPU."""


def parse_source(text: str) -> tuple[bool, Machine | None]:
    """Whether to estimate, and for which machine.

    Args:
        text: ``measured``, ``estimated``, or ``estimated:OPS,BYTES``, both a second.

    Raises:
        UserError: it is none of these.
    """
    from prunec.exporters.bench.results import Machine

    how, _, numbers = text.partition(":")
    if how not in ("measured", "estimated") or (numbers and how == "measured"):
        help = ["--ceiling=measured, --ceiling=estimated, or --ceiling=estimated:125T,0.9T"]
        raise UserError(f"--ceiling: '{text}' is no way to know where time goes", help=help)
    if not numbers:
        return how == "estimated", None
    words = numbers.split(",")
    if len(words) != 2:
        help = ["for example --ceiling=estimated:125T,0.9T"]
        raise UserError(f"--ceiling: '{numbers}' are not operations and bytes a second", help=help)
    operations, bandwidth = map(_quantity, words)
    return True, Machine(operations=operations, bandwidth=bandwidth, node=NODE)


def _quantity(word: str) -> float:
    """A number with a unit: ``0.9T``."""
    unit = word[-1:] if word[-1:] in _UNITS else ""
    try:
        number = float(word.removesuffix(unit)) * _UNITS.get(unit, 1.0)
    except ValueError as error:
        raise UserError(f"--ceiling: '{word}' is no number", help=["for example 125T or 9e11"]) from error
    if not 0 < number < float("inf"):
        raise UserError(f"--ceiling: {word} is no speed")
    return number


def render_ceiling(found: Ceiling) -> RenderableType:
    """The prediction, and the layers that take longest."""
    from rich.console import Group as Lines
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=True, header_style="dim", expand=True)
    table.add_column("layer", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("op", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("2:4", no_wrap=True)
    table.add_column("alone", justify="right", no_wrap=True)
    table.add_column("why not", ratio=3)
    for layer in found.layers[:FEW]:
        word = "gains" if layer.profitable else "small" if layer.eligible else "no"
        alone = f"{layer.alone:.2f}x" if layer.eligible else ""
        table.add_row(layer.name, layer.op, f"{layer.share:.1%}", word, alone, layer.why_not or "")
    return Lines(
        Text(str(found), style="bold", overflow="fold"),
        table,
        *(Text(f"  {line}", style="dim", overflow="fold") for line in _notes(found)),
    )


def _notes(found: Ceiling) -> Iterator[str]:
    more = found.layers[FEW:]
    if more:
        yield f"... and {len(more)} more with {sum(layer.share for layer in more):.1%} of the time: --json has all"
    if found.share:
        yield f"no more than {found.limit:.2f}x however fast sparse kernels are"
        yield f"{found.worthwhile:.2f}x if only those layers run sparse that are large enough to gain"
    yield "alone: what the model gains if this layer alone runs sparse"
    if found.source == "estimated":
        yield "estimated from operations and bytes; elementwise ops and norms behind a layer count as fused into it"
    else:
        yield "shares of the time on this machine's CPU; for a GPU give its numbers: --ceiling=estimated:OPS,BYTES"
