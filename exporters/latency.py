"""Latency of two models side by side in ONNX Runtime, and whether they differ.

How they take turns and how their ratio gets its interval: ``prunec.ir.timing``. Threads do not spin between ops, since
those of the waiting model would take cores from the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from prunec.ir.diagnostics import UserError
from prunec.ir.execute import Runner, probe_feeds
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.ir.timing import WARM_UP, Latency, Ratio, Verdict, paired_ratio, take_turns

__all__ = ["WARM_UP", "Comparison", "Latency", "compare_calls", "compare_latency", "paired_ratio"]


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
    def verdict(self) -> Verdict:
        """What ``b`` is compared with ``a``, as far as the interval says."""
        return Ratio(self.speedup, self.low, self.high).verdict

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
    seconds_a, seconds_b = take_turns((a, b), runs)
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


def _runner(module: Module, threads: int) -> Runner:
    return Runner(module, optimize=True, threads=threads, blame="user")


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
