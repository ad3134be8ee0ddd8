"""Latencies: for each batch size a bar for every model, and in words what that means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunec.exporters.report.evidence import Document
from prunec.exporters.report.figures import Scale
from prunec.ir.diagnostics import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One model at one batch size.

    Attributes:
        model: its name.
        first: whether it is the model that others are compared with.
        p50: median, in words.
        p95: 95th percentile, in words.
        ratio: speed-up with its interval, in words; empty for the first.
        at: length of the bar, in per cent.
        far: where the 95th percentile is.
    """

    model: str
    first: bool
    p50: str
    p95: str
    ratio: str
    at: float
    far: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """All of it.

    Attributes:
        batches: batch size, and the models at it.
        verdicts: lines.
        reasons: why models are not faster, each with what to do.
        machine: what it ran on, in words.
    """

    batches: tuple[tuple[int, tuple[Run, ...]], ...]
    verdicts: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]
    machine: str


def latencies(document: Document) -> Latencies:
    """The view of a bench."""
    timings = document["timings"]
    sizes = list(dict.fromkeys(timing["batch"] for timing in timings))
    batches = [(size, [t for t in timings if t["batch"] == size]) for size in sizes]
    versions = document.get("versions", {})
    threads = document.get("threads")
    parts = [counted(threads, "thread") if threads else "threads as ONNX Runtime chooses"]
    parts += [", ".join(document.get("providers", ()))] + [f"{k} {v}" for k, v in versions.items()]
    return Latencies(
        batches=tuple((size, _runs(found)) for size, found in batches),
        verdicts=tuple(document.get("verdicts", ())),
        reasons=tuple(
            (str(reason["message"]), str(reason["help"]))
            for explanation in document.get("explanations", ())
            for reason in explanation["reasons"]
        ),
        machine="; ".join(part for part in parts if part),
    )


def _runs(timings: list[Mapping[str, Any]]) -> tuple[Run, ...]:
    slowest = max(t["latency"]["p50"] for t in timings)
    # A machine that was busy for a moment has a 95th percentile far away; its line then ends at the edge.
    scale = Scale.around((min(t["latency"]["p95"], 2 * slowest) for t in timings), zero=True)
    return tuple(
        Run(
            model=str(timing["model"]),
            first=timing["ratio"] is None,
            p50=seconds(timing["latency"]["p50"]),
            p95=seconds(timing["latency"]["p95"]),
            ratio=_ratio(timing["ratio"]),
            at=scale.percent(timing["latency"]["p50"]),
            far=scale.percent(timing["latency"]["p95"]),
        )
        for timing in timings
    )


def _ratio(ratio: Mapping[str, Any] | None) -> str:
    return "" if ratio is None else f"{ratio['value']:.2f}x ({ratio['low']:.2f} - {ratio['high']:.2f})"


def seconds(value: float) -> str:
    """A time in the unit that gives at least 1.

    >>> seconds(0.0123), seconds(26e-6)
    ('12.3 ms', '26 µs')
    """
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"
