"""Verdicts in words, on ratios that nobody measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench_models import facts, report

from prunec.exporters.bench.words import busy, falls_short, verdict
from prunec.ir.timing import Ratio


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (Ratio(1.5, 1.4, 1.6), "at batch 1 b is 1.50x faster than a (95 % interval 1.40x to 1.60x)"),
        (Ratio(0.5, 0.45, 0.6), "at batch 1 b is 2.00x slower than a (95 % interval 1.67x to 2.22x)"),
        (Ratio(1.0, 0.98, 1.01), "at batch 1 b is as fast as a: 1.00x (95 % interval 0.98x to 1.01x)"),
        (Ratio(0.79, 0.78, 0.8), "at batch 1 b is 1.27x slower than a (95 % interval 1.25x to 1.28x)"),
        (
            Ratio(1.01, 1.005, 1.015),
            "at batch 1 b is hardly faster than a: 1.01x (95 % interval 1.00x to 1.01x)",
        ),
        (
            Ratio(1.1, 0.8, 1.4),
            "at batch 1 b cannot be told from a: 1.10x (95 % interval 0.80x to 1.40x); more runs would help",
        ),
    ],
)
def test_a_verdict_says_no_more_than_its_interval(ratio: Ratio, said: str) -> None:
    assert verdict("b", "a", 1, ratio) == said


def test_zeros_count_as_a_promise() -> None:
    models = {"a": facts("a"), "b": facts("b", nonzero=150)}
    said = report(models, {1: Ratio(1.0, 0.99, 1.01), 64: Ratio(1.2, 1.1, 1.3)}).verdicts
    assert [line.partition("; ")[2] for line in said] == ["fewer multiplications promise 6.67x"] * 2


def test_a_busy_machine_is_told() -> None:
    timings = report({"a": facts("a"), "b": facts("b")}, {8: Ratio(1.0, 0.9, 1.1)}).timings
    slow = replace(timings[1], latency=replace(timings[1].latency, p95=0.009))
    assert list(busy(timings)) == []
    assert list(busy([timings[0], slow])) == [
        "the machine was busy with other work: at batch 8 p95 is 4.5 times p50"
    ]


@pytest.mark.parametrize(
    ("ratio", "promised", "short"),
    [
        (Ratio(1.0, 0.9, 1.1), 2.0, True),
        (Ratio(1.2, 1.1, 1.3), 2.0, True),
        (Ratio(1.9, 1.8, 2.0), 2.0, False),
        (Ratio(1.0, 0.9, 1.1), 1.0, False),  # nothing was promised
        (Ratio(0.5, 0.4, 0.6), 1.0, True),  # as many operations take longer
        (Ratio(0.5, 0.4, 0.6), 0.5, False),  # as do twice as many
    ],
)
def test_it_is_asked_where_a_promise_went(ratio: Ratio, promised: float, short: bool) -> None:
    assert falls_short(ratio, promised) is short
