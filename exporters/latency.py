"""Latency of two models side by side in ONNX Runtime, and whether they differ.

The models take turns, in an order that alternates, so that whatever else the machine does meets both alike; the
ratio is taken pair by pair, and its interval comes from resampling the pairs (Efron and Tibshirani, *An
Introduction to the Bootstrap*, 1993, ch. 13: the percentile interval). Threads do not spin between ops, since those
of the waiting model would take cores from the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError
from prunec.ir.execute import Runner, probe_feeds
from prunec.ir.load import load
from prunec.ir.module import Module

Seconds = NDArray[np.float64]

WARM_UP = 5
"""Runs of each model that are not timed: allocations, caches, clock."""
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds of one inference.

    Attributes:
        p50: median.
        p95: 95th percentile.
        best: the fastest run.
    """

    p50: float
    p95: float
    best: float

    @classmethod
    def of(cls, seconds: Seconds) -> Latency:
        """Percentiles of the seconds of many runs."""
        p50, p95 = np.percentile(seconds, [50, 95])
        return cls(p50=float(p50), p95=float(p95), best=float(seconds.min()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Latency of two models, measured in turns.

    Attributes:
        a: latency of the first model.
        b: latency of the second.
        speedup: median over all pairs of runs of seconds of ``a`` / seconds of ``b``; above 1 where ``b`` is
            faster.
        low: lower end of the 95 % confidence interval of ``speedup``.
        high: its upper end.
        runs: timed runs of each model.
        threads: threads for one op; 0: as many as ONNX Runtime chose.
        batch: size of a symbolic first axis of the inputs.
    """

    a: Latency
    b: Latency
    speedup: float
    low: float
    high: float
    runs: int
    threads: int
    batch: int

    @property
    def verdict(self) -> Literal["faster", "slower", "no difference"]:
        """What ``b`` is compared with ``a``, as far as the interval says."""
        if self.low > 1:
            return "faster"
        return "slower" if self.high < 1 else "no difference"

    def __str__(self) -> str:
        return (
            f"{self.a.p50 * 1e3:.2f} ms -> {self.b.p50 * 1e3:.2f} ms: {self.verdict}, {self.speedup:.2f}x "
            f"[{self.low:.2f}, {self.high:.2f}] (batch {self.batch}, {self.runs} runs each)"
        )


def compare_latency(
    a: Module | str | os.PathLike[str],
    b: Module | str | os.PathLike[str],
    *,
    runs: int = 50,
    threads: int = 1,
    seed: int = 0,
    batch: int = 1,
    feeds: Mapping[str, NDArray[Any]] | None = None,
) -> Comparison:
    """Measure two models in turns on the same inputs, with all optimisations of ONNX Runtime on.

    Args:
        a: the model to compare with, usually the original.
        b: the model in question.
        runs: timed runs of each, after a few that warm up.
        threads: threads for one op; 0 lets ONNX Runtime choose.
        seed: of the inputs and of the resampling.
        batch: size of a symbolic first axis of the inputs.
        feeds: inputs to use instead of random ones.

    Raises:
        UserError: ``runs`` is below 2, a model does not run, or their inputs differ.
    """
    if runs < 2:
        raise UserError(f"latency needs at least 2 runs, got {runs}")
    first, second = load(a), load(b)
    given = feeds or probe_feeds(first, seed=seed, batch=batch)
    if feeds is None:
        _check_inputs(given, probe_feeds(second, seed=seed, batch=batch))
    one, other = _runner(first, threads), _runner(second, threads)
    turns = (lambda: one.run(given), lambda: other.run(given))
    return compare_calls(*turns, runs=runs, threads=threads, seed=seed, batch=batch)


def compare_calls(
    a: Callable[[], object],
    b: Callable[[], object],
    *,
    runs: int,
    batch: int,
    threads: int = 0,
    seed: int = 0,
) -> Comparison:
    """Measure two calls in turns, such as two engines on one GPU.

    Args:
        a: runs the first once, to its end.
        b: runs the second once.
        runs: timed runs of each, after a few that warm up.
        batch: what the batch size is, for the text of the comparison.
        threads: how many threads they use, likewise.
        seed: of the resampling.
    """
    seconds_a, seconds_b = _take_turns((a, b), runs)
    speedup, low, high = paired_ratio(seconds_a, seconds_b, seed=seed)
    return Comparison(
        a=Latency.of(seconds_a),
        b=Latency.of(seconds_b),
        speedup=speedup,
        low=low,
        high=high,
        runs=runs,
        threads=threads,
        batch=batch,
    )


def paired_ratio(a: Seconds, b: Seconds, *, seed: int = 0) -> tuple[float, float, float]:
    """The median of the ratios of pairs, and the ends of its confidence interval.

    Args:
        a: seconds of the first model, [pairs].
        b: seconds of the second model in the same pairs, [pairs].
        seed: of the resampling.

    Returns:
        Median of ``a / b``, lower end, upper end.
    """
    ratios = a / b
    chosen = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[chosen], axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(np.median(ratios)), float(low), float(high)


def _runner(module: Module, threads: int) -> Runner:
    return Runner(module, optimize=True, threads=threads, blame="user")


def _take_turns(
    calls: tuple[Callable[[], object], Callable[[], object]], runs: int
) -> tuple[Seconds, Seconds]:
    """Seconds of every run; each pair swaps the order of the pair before it."""
    seconds = np.empty((2, WARM_UP + runs))
    for turn in range(WARM_UP + runs):
        for which in (0, 1) if turn % 2 else (1, 0):
            started = perf_counter()
            calls[which]()
            seconds[which, turn] = perf_counter() - started
    return seconds[0, WARM_UP:], seconds[1, WARM_UP:]


def _check_inputs(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> None:
    """Both models must take the same arrays."""
    described = [
        {name: f"{array.dtype}{list(array.shape)}" for name, array in feeds.items()} for feeds in (a, b)
    ]
    if described[0] != described[1]:
        texts = [", ".join(f"{name} {what}" for name, what in feeds.items()) for feeds in described]
        raise UserError(
            f"the models take different inputs: {texts[0]}; and {texts[1]}",
            help=["compare a model with what was made from it"],
        )
