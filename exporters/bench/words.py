"""What timings mean, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prunec.exporters.bench.results import ModelFacts, Timing
from prunec.ir.timing import Ratio

WIDE = 1.25
"""Upper over lower end of an interval that tells too little."""
PAYS = 1.02
"""A ratio below which a difference is real, perhaps, but hardly worth a deployment."""
FEWER = 1.05
"""Times fewer multiplications from which a model is said to have fewer."""
BUSY = 3.0
"""Times the median, at the 95th percentile, from which it is told that runs were disturbed."""
KEPT = 0.7
"""Share of the promised gain below which it is asked where the rest went."""


def promise(first: ModelFacts, other: ModelFacts) -> float:
    """How much faster a model would be if time followed the multiplications that are not by zero."""
    if not first.nonzero_macs or not other.nonzero_macs:
        return 1.0  # models of nothing but table look-ups, say
    return first.nonzero_macs / other.nonzero_macs


def falls_short(ratio: Ratio, promised: float) -> bool:
    """Whether a model with fewer operations is not faster, or by much less than they promise; or one with as
    many slower.
    """
    if promised > FEWER:
        return ratio.verdict != "faster" or ratio.value - 1 < KEPT * (promised - 1)
    return promised > 1 / FEWER and ratio.verdict == "slower" and ratio.value < 1 / FEWER


def verdicts(models: Sequence[ModelFacts], timings: Sequence[Timing]) -> Iterator[str]:
    """One line for each model and batch size that is compared with the first."""
    by_name = {model.name: model for model in models}
    first = models[0]
    for timing in timings:
        if timing.ratio is not None:
            line = verdict(timing.model, first.name, timing.batch, timing.ratio)
            yield line + _paper(promise(first, by_name[timing.model]))


def verdict(name: str, first: str, batch: int, ratio: Ratio) -> str:
    """One comparison in words, with its interval in the unit of its factor: times faster, or times slower."""
    interval = _interval(ratio.low, ratio.high)
    where = f"{name} is"
    if ratio.verdict == "no difference":
        if ratio.high / ratio.low > WIDE:
            doubt = f"at batch {batch} {name} cannot be told from {first}"
            return f"{doubt}: {ratio.value:.2f}x {interval}; more runs would help"
        return f"at batch {batch} {where} as fast as {first}: {ratio.value:.2f}x {interval}"
    slower = ratio.verdict == "slower"
    factor = 1 / ratio.value if slower else ratio.value
    if factor < PAYS:
        return f"at batch {batch} {where} hardly {ratio.verdict} than {first}: {ratio.value:.2f}x {interval}"
    interval = _interval(1 / ratio.high, 1 / ratio.low) if slower else interval
    return f"at batch {batch} {where} {factor:.2f}x {ratio.verdict} than {first} {interval}"


def _interval(low: float, high: float) -> str:
    return f"(95 % interval {low:.2f}x to {high:.2f}x)"


def _paper(promised: float) -> str:
    """What the count of operations says to it, where it says something else."""
    if promised > FEWER:
        return f"; fewer multiplications promise {promised:.2f}x"
    return f"; it has {1 / promised:.2f}x the multiplications" if promised < 1 / FEWER else ""


def busy(timings: Sequence[Timing]) -> Iterator[str]:
    """A note where runs were disturbed so often that intervals get wide."""
    worst = max(timings, key=lambda timing: timing.latency.p95 / timing.latency.p50)
    spread = worst.latency.p95 / worst.latency.p50
    if spread > BUSY:
        yield f"the machine was busy with other work: at batch {worst.batch} p95 is {spread:.1f} times p50"
