"""Where the time of a compile went: a tree of the pipeline's passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from prunec.passes.base import Outcome, Pass
from prunec.passes.instruments import Instrument, Stage
from prunec.passes.manager import Timing
from prunec.passes.pipeline import Pipeline

MIB = 1 << 20

CAPTION = "seconds; MiB: largest memory of the process up to there"


@dataclass(slots=True)
class PeakMemory(Instrument):
    """Notes, after each pass, the largest memory that the process has held so far.

    Attributes:
        peaks: bytes, one for each pass that ran.
    """

    peaks: list[int] = field(default_factory=list)

    def after_pass(self, stage: Stage, outcome: Outcome) -> None:
        """Ask the system."""
        del stage, outcome
        self.peaks.append(peak_memory())


def peak_memory() -> int:
    """Bytes of memory that the process has held at most; 0 on systems that do not tell."""
    try:
        import resource
    except ImportError:
        return 0
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(slots=True, kw_only=True)
class Spent:
    """Seconds of one pass of the pipeline; rounds of a repetition are added up.

    Attributes:
        name: the pass.
        children: the passes of its body.
        runs: how often it ran.
        seconds: by kind: ``own``, ``verify``, and each analysis.
        peak: largest memory of the process after a run, in bytes.
    """

    name: str
    children: list[Spent] = field(default_factory=list)
    runs: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    peak: int = 0

    @property
    def total(self) -> float:
        """Seconds of everything."""
        return sum(self.seconds.values()) + sum(child.total for child in self.children)

    def add(self, timing: Timing, peak: int) -> None:
        """One more run."""
        analyses = sum(timing.analyses.values())
        own = {"own": max(0.0, timing.seconds - analyses), "verify": timing.verify_seconds}
        for kind, seconds in {**own, **timing.analyses}.items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        self.runs += 1
        self.peak = max(self.peak, peak)


def time_tree(pipeline: Pipeline, timings: Sequence[Timing], peaks: Sequence[int]) -> list[Spent]:
    """The passes of a pipeline with their times, the passes of a body beneath the one that runs them.

    Args:
        pipeline: what ran.
        timings: of every pass that ran, in order; passes that were held back have none.
        peaks: bytes, one for each timing.
    """
    runs = deque(zip(timings, peaks, strict=True))
    return [_spent(item, runs) for item in pipeline]


def _spent(item: Pass, runs: deque[tuple[Timing, int]]) -> Spent:
    line = Spent(name=item.name)
    if not item.takes_body:
        if runs and runs[0][0].pass_name == item.name:
            line.add(*runs.popleft())
        return line
    body: Pipeline = getattr(item, "body", Pipeline())
    rounds = len(item.expand()) // max(1, sum(len(inner.expand()) for inner in body))
    for _ in range(rounds):
        for position, inner in enumerate(_spent(inner, runs) for inner in body):
            if position == len(line.children):
                line.children.append(inner)
            else:
                _merge(line.children[position], inner)
    line.runs, line.peak = rounds, max((child.peak for child in line.children), default=0)
    return line


def _merge(line: Spent, other: Spent) -> None:
    """Add the times of another round of the same passes."""
    line.runs, line.peak = line.runs + other.runs, max(line.peak, other.peak)
    for kind, seconds in other.seconds.items():
        line.seconds[kind] = line.seconds.get(kind, 0.0) + seconds
    for child, later in zip(line.children, other.children, strict=True):
        _merge(child, later)


def render_times(lines: Sequence[Spent]) -> Table:
    """The tree as a table: what each pass took by itself, and what was done for it."""
    whole = sum(line.total for line in lines) or 1.0
    kinds = list(dict.fromkeys(kind for line in _flat(lines) for kind in line[1].seconds))
    table = Table("pass", "runs", *kinds, "total", "share", "MiB", box=None, caption=CAPTION)
    for column in table.columns[1:]:
        column.justify = "right"
    for depth, line in _flat(lines):
        seconds = [f"{line.seconds[kind]:.3f}" if kind in line.seconds else "" for kind in kinds]
        share = f"{line.total / whole:.0%}"
        peak = f"{line.peak / MIB:,.0f}" if line.peak else ""
        table.add_row("  " * depth + line.name, str(line.runs), *seconds, f"{line.total:.3f}", share, peak)
    return table


def _flat(lines: Sequence[Spent], depth: int = 0) -> Iterator[tuple[int, Spent]]:
    for line in lines:
        yield depth, line
        yield from _flat(line.children, depth + 1)
