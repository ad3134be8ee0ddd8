"""What ``prunec bench`` prints: the models, a table of times, verdicts, and reasons."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from prunec.exporters.amounts import file_size, number
from prunec.exporters.bench.results import (
    BenchReport,
    Explanation,
    LayerTime,
    ModelFacts,
    ModelProfile,
    Timing,
)
from prunec.exporters.bench.words import busy
from prunec.ir.diagnostics import counted

FEW = 15
"""Kernels of a profile that are shown."""


def render_report(report: BenchReport, *, profiles: bool = False) -> RenderableType:
    """The whole report; verdicts and reasons last.

    Args:
        report: what was found.
        profiles: show where the time goes, too.
    """
    return Lines(
        render_models(report),
        Text(),
        render_timings(report),
        *(_line(f"  {line}", style="dim") for line in _conditions(report)),
        *(_line(f"note: {note}") for note in (*report.notes, *busy(report.timings))),
        *(part for profile in report.profiles if profiles for part in render_profile(profile)),
        *([Text()] if report.verdicts else []),
        *(_line(line, style="bold") for line in report.verdicts),
        *(part for explanation in report.explanations for part in render_explanation(explanation)),
    )


def render_models(report: BenchReport) -> RenderableType:
    """One row for each model: what it costs before it runs."""
    table = Table(box=None, pad_edge=True, header_style="dim")
    table.add_column("model", overflow="fold")
    for header in ("params", "MACs", "without zeros", "file", "load ms", "memory"):
        table.add_column(header, justify="right", no_wrap=True)
    for model in report.models:
        table.add_row(
            model.name,
            number(model.parameters),
            number(model.macs),
            number(model.nonzero_macs),
            file_size(model.size),
            f"{model.load.p50 * 1e3:.1f}",
            _memory(model),
        )
    return table


def render_timings(report: BenchReport) -> RenderableType:
    """One row for each batch size and model."""
    table = Table(box=None, pad_edge=True, header_style="dim")
    table.add_column("batch", justify="right")
    table.add_column("model", overflow="fold")
    for header in ("p50 ms", "p95 ms", "p99 ms", "samples/s", "speed-up", "95 % interval"):
        table.add_column(header, justify="right", no_wrap=True)
    for timing in report.timings:
        first = timing.ratio is None
        table.add_row(str(timing.batch) if first else "", timing.model, *_cells(timing))
    return table


def render_profile(profile: ModelProfile) -> Iterator[RenderableType]:
    """The kernels that take longest."""
    rows = sorted(profile.layers, key=lambda layer: -layer.seconds)
    table = Table(box=None, pad_edge=True, header_style="dim", expand=True)
    table.add_column("layer", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("op", no_wrap=True)
    for header in ("share", "ms", "MACs", "GMAC/s", "ops/byte", "zeros", "channels"):
        table.add_column(header, justify="right", no_wrap=True)
    for layer in rows[:FEW]:
        table.add_row(layer.name, f"{layer.op} {layer.layout}".strip(), *_layer_cells(layer, profile.kernels))
    yield Text()
    yield _line(f"where the time of {profile.model} goes at batch {profile.batch}", style="bold")
    yield table
    if len(rows) > FEW:
        rest = sum(layer.seconds for layer in rows[FEW:]) / profile.kernels
        yield _line(
            f"  ... and {len(rows) - FEW} more kernels with {rest:.1%} of the time: --json has all",
            style="dim",
        )


def _layer_cells(layer: LayerTime, total: float) -> Iterator[str]:
    yield f"{layer.seconds / max(total, 1e-12):.1%}"
    yield f"{layer.seconds * 1e3:.3g}"
    yield number(layer.macs) if layer.macs else ""
    yield f"{layer.macs / layer.seconds / 1e9:.1f}" if layer.macs and layer.seconds else ""
    yield f"{2 * layer.macs / layer.bytes:.1f}" if layer.macs and layer.bytes else ""
    yield f"{layer.zeros:.0%}" if layer.zeros else ""
    yield "" if layer.channels is None else f"{layer.channels[0]}x{layer.channels[1]}"


def render_explanation(explanation: Explanation) -> Iterator[RenderableType]:
    """Why a model is not as fast as its operations promise."""
    yield Text()
    yield _line(explanation.title, style="bold")
    for reason in explanation.reasons:
        yield _line(f"  {reason.message}")
        yield _line(f"    = help: {reason.help}", style="dim")


def _memory(model: ModelFacts) -> str:
    return "-" if model.memory is None else file_size(model.memory.model)


def _cells(timing: Timing) -> Iterator[str]:
    latency, ratio = timing.latency, timing.ratio
    yield from (f"{seconds * 1e3:.3g}" for seconds in (latency.p50, latency.p95, latency.p99))
    yield f"{timing.throughput:,.0f}" if timing.throughput >= 10 else f"{timing.throughput:.2g}"
    yield "" if ratio is None else f"{ratio.value:.2f}x"
    yield "" if ratio is None else f"{ratio.low:.2f} to {ratio.high:.2f}"


def _conditions(report: BenchReport) -> Iterator[str]:
    inputs = "random inputs" if report.inputs == "random" else f"inputs from {report.inputs}"
    threads = counted(report.threads, "thread") if report.threads else "threads as ONNX Runtime chooses"
    providers = ", ".join(report.providers)
    runs = {(timing.runs, timing.rounds) for timing in report.timings}
    most = max(runs)
    yield (
        f"{inputs}, {threads}, {providers}, onnxruntime {report.versions['onnxruntime']}; "
        f"{most[0]} runs each in {most[1]} rounds of new sessions"
    )
    yield "load: to create a session; memory: peak of a process of its own, less what it held before"


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, overflow="fold")
