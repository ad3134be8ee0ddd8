"""What the model cost before and after: the tiles at the top, and a bar for every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunec.exporters.amounts import change, file_size, number
from prunec.exporters.report.evidence import Evidence
from prunec.exporters.report.judged import Judgement

if TYPE_CHECKING:
    from prunec.passes.cost import Cost, LayerCost

SHOWN = 40
"""Layers that are shown at once; those with fewer multiply-accumulates are folded away."""
_RENAMED = ("", "_quant", "_MatMul", "_MatMul_quant")
"""What a quantizer hangs on the name of a node that it rewrites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One quantity before and after.

    Attributes:
        label: what it is.
        before: in words; empty where that was not measured.
        after: in words.
        change: in words.
        share: what is left, in per cent, at most 100; None where there is nothing to compare.
    """

    label: str
    before: str
    after: str
    change: str
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBar:
    """One layer before and after.

    Attributes:
        name: of the node.
        op: its type.
        parameters: in words, before and after.
        macs: in words, before and after.
        change: of the multiply-accumulates, in words.
        was: width of the bar before, in per cent of the largest.
        now: width of the bar after.
    """

    name: str
    op: str
    parameters: tuple[str, str]
    macs: tuple[str, str]
    change: str
    was: float
    now: float


def tiles(evidence: Evidence) -> Iterator[Tile]:
    """Parameters, multiply-accumulates, and bytes of the files."""
    before, after = evidence.result.cost_before, evidence.result.cost_after
    yield _tile("parameters", before.parameters, after.parameters, number)
    batch = f" (batch {before.batch})" if before.batch > 1 else ""
    yield _tile(f"multiply-accumulates{batch}", before.macs, after.macs, number)
    source = evidence.result.module.source.original
    if source.size is not None and evidence.output is not None and evidence.output.size is not None:
        yield _tile("file size", source.size, evidence.output.size, file_size)
    else:
        yield _tile("bytes of weights", before.bytes, after.bytes, file_size)


def metric_tile(judgement: Judgement) -> Tile:
    """The metric on all samples."""
    row = judgement.rows[0]
    return Tile(
        label=judgement.metric,
        before=row.dense,
        after=row.value,
        change="" if row.drop == "none" else row.drop,
        share=row.part,
    )


def _tile(label: str, before: int, after: int, form: Callable[[int], str]) -> Tile:
    share = round(100 * min(after / before, 1.0), 2) if before else None
    return Tile(
        label=label, before=form(before), after=form(after), change=change(before, after), share=share
    )


def layer_bars(before: Cost, after: Cost) -> tuple[list[LayerBar], list[LayerBar]]:
    """The layers that multiply, in graph order: those with most multiply-accumulates, and the others."""
    layers = [layer for layer in before.layers if layer.macs]
    known = {layer.name or layer.output: layer for layer in after.layers}
    largest = max((layer.macs for layer in layers), default=1)
    ranked = sorted(range(len(layers)), key=lambda i: -layers[i].macs)
    shown = set(ranked[:SHOWN])
    bars = [_bar(layer, _found(layer, known), largest) for layer in layers]
    parts: Sequence[list[LayerBar]] = ([], [])
    for position, bar in enumerate(bars):
        parts[position not in shown].append(bar)
    return parts[0], parts[1]


def _found(layer: LayerCost, known: Mapping[str, LayerCost]) -> LayerCost | None:
    name = layer.name or layer.output
    return next((known[name + end] for end in _RENAMED if name + end in known), None)


def _bar(layer: LayerCost, now: LayerCost | None, largest: int) -> LayerBar:
    macs, parameters = (0, 0) if now is None else (now.macs, now.parameters)
    return LayerBar(
        name=layer.name or layer.output,
        op=layer.op_type,
        parameters=(number(layer.parameters), number(parameters)),
        macs=(number(layer.macs), number(macs)),
        change=change(layer.macs, macs),
        was=round(100 * layer.macs / largest, 2),
        now=round(100 * macs / largest, 2),
    )
