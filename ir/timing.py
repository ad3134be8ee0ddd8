"""Timing of calls side by side: who runs when, percentiles, and the ratio of two with its interval.

The calls take turns, in orders that balance (Williams, *Experimental designs balanced for the estimation of residual
effects of treatments*, 1949), so that whatever else the machine does meets all alike; ratios are taken turn by turn.
The interval of their median comes from resampling turns (Efron and Tibshirani, *An Introduction to the Bootstrap*,
1993, ch. 13). Two sessions of one model differ by how their memory happens to lie, which no number of runs averages
out; so runs may come in rounds, each with sessions of its own, and the interval is then Student's over the rounds
(Kalibera and Jones, *Rigorous benchmarking in reasonable time*, 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Seconds = NDArray[np.float64]
Verdict = Literal["faster", "slower", "no difference"]

WARM_UP = 5
"""Runs of each call that are not timed: allocations, caches, clock."""
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds of one run.

    Attributes:
        p50: median.
        p95: 95th percentile.
        p99: 99th percentile.
        best: the fastest run.
    """

    p50: float
    p95: float
    p99: float
    best: float

    @classmethod
    def of(cls, seconds: Seconds) -> Latency:
        """Percentiles of the seconds of many runs, of any shape."""
        p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
        return cls(p50=float(p50), p95=float(p95), p99=float(p99), best=float(seconds.min()))


class Ratio(NamedTuple):
    """Seconds of a first call over seconds of a second: above 1 where the second is faster.

    Attributes:
        value: the typical ratio.
        low: lower end of its 95 % confidence interval.
        high: the upper end.
    """

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """What the second is, compared with the first, as far as the interval says."""
        if self.low > 1:
            return "faster"
        return "slower" if self.high < 1 else "no difference"


def take_turns(
    calls: Sequence[Callable[[], object]],
    runs: int,
    *,
    warm_up: int = WARM_UP,
    seconds: float | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Seconds:
    """Run every call once a turn, and take the time of each.

    Args:
        calls: what is timed.
        runs: timed turns.
        warm_up: turns before them that are not timed.
        seconds: end early after so long, warm-up included, once there are two timed turns.
        clock: gives the time in seconds.

    Returns:
        Seconds, [calls, turns].
    """
    orders = balanced_orders(len(calls))
    taken = np.empty((len(calls), warm_up + runs))
    began = clock()
    for turn in range(warm_up + runs):
        if seconds is not None and turn >= warm_up + 2 and clock() - began > seconds:
            return taken[:, warm_up:turn]
        for which in orders[turn % len(orders)]:
            started = clock()
            calls[which]()
            taken[which, turn] = clock() - started
    return taken[:, warm_up:]


def balanced_orders(count: int) -> list[list[int]]:
    """Orders of ``count`` calls in which each comes at every position, and behind every other, equally often."""
    first = [-(i // 2) % count if i % 2 == 0 else i // 2 + 1 for i in range(count)]
    orders = [[(which + shift) % count for which in first] for shift in range(count)]
    return orders + [order[::-1] for order in orders] if count % 2 and count > 1 else orders


def paired_ratio(a: Seconds, b: Seconds, *, seed: int = 0) -> Ratio:
    """The typical ratio of pairs, and the ends of its confidence interval.

    Args:
        a: seconds of the first call, [pairs], or [rounds, pairs] with sessions of their own in each round.
        b: seconds of the second in the same pairs.
        seed: of the resampling, of pairs that are in no rounds.

    Returns:
        Median of ``a / b``; of rounds the geometric mean of their medians. With the ends of its interval.
    """
    return _typical(np.atleast_2d(a / b), seed)


def ratio_of_rounds(rounds: Sequence[Seconds], a: int, b: int, *, seed: int = 0) -> Ratio:
    """The typical ratio of two calls that took turns in rounds, which may differ in length.

    Args:
        rounds: seconds, [calls, turns] of each round; no turn is left out.
        a: which call is the first.
        b: which is the second.
        seed: of the resampling, where there is one round.

    Returns:
        As :func:`paired_ratio`.
    """
    return _typical([taken[a] / taken[b] for taken in rounds], seed)


def _typical(ratios: Sequence[Seconds] | Seconds, seed: int) -> Ratio:
    """The typical ratio of rounds of pairs, [pairs] each."""
    if len(ratios) > 1:
        return _of_rounds(np.log([np.median(part) for part in ratios]))
    flat = ratios[0]
    chosen = np.random.default_rng(seed).integers(0, len(flat), (RESAMPLES, len(flat)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(flat[chosen], axis=1), [tail, 1 - tail])
    return Ratio(float(np.median(flat)), float(low), float(high))


def _of_rounds(logs: NDArray[np.float64]) -> Ratio:
    """Mean and interval of the logarithms of ratios, one a round, as ratios."""
    rounds = len(logs)
    half = special.stdtrit(rounds - 1, (1 + CONFIDENCE) / 2) * logs.std(ddof=1) / np.sqrt(rounds)
    value, low, high = np.exp(logs.mean() + half * np.array([0, -1, 1]))
    return Ratio(float(value), float(low), float(high))
