"""Two models side by side: the statistics, the inputs, and a difference that no noise hides."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import prunec
from prunec.exporters import latency
from prunec.exporters.latency import Comparison, Latency, compare_latency, paired_ratio
from prunec.ir.diagnostics import UserError
from prunec.ir.module import Module


def chain(multiplications: int, *, size: int = 64, name: str = "x") -> Module:
    """``multiplications`` products of a [size, size] input with itself, one after the other."""
    steps = [f"v{i + 1} = MatMul (v{i}, {name})" for i in range(multiplications)]
    text = (
        '<ir_version: 9, opset_import: ["" : 17]> '
        f"net (float[{size}, {size}] {name}) => (float[{size}, {size}] y) "
        f"{{ v0 = Identity ({name}) {' '.join(steps)} y = Identity (v{multiplications}) }}"
    )
    return prunec.load(onnx.parser.parse_model(text))


def comparison(low: float, high: float) -> Comparison:
    one = Latency(p50=0.002, p95=0.003, best=0.001)
    return Comparison(a=one, b=one, speedup=1.0, low=low, high=high, runs=9, threads=1, batch=1)


def test_ratio_of_pairs_ignores_what_slows_both_down() -> None:
    machine = np.random.default_rng(0).uniform(1, 10, 100)  # the machine's mood, the same for both of a pair
    assert paired_ratio(3 * machine, machine) == pytest.approx((3, 3, 3))


def test_interval_holds_the_median_and_narrows_with_more_pairs() -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.2, (2, 1000))
    few = paired_ratio(noise[0, :20], noise[1, :20])
    many = paired_ratio(noise[0], noise[1])
    for ratio, low, high in (few, many):
        assert low < ratio < high
    assert many[2] - many[1] < (few[2] - few[1]) / 2
    assert many[1] < 1 < many[2]


def test_same_seed_same_interval() -> None:
    a, b = np.random.default_rng(0).lognormal(0, 0.2, (2, 30))
    assert paired_ratio(a, b, seed=1) == paired_ratio(a, b, seed=1) != paired_ratio(a, b, seed=2)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.1, 1.5, "faster"), (0.5, 0.9, "slower"), (0.9, 1.1, "no difference"), (1.0, 1.2, "no difference")],
)
def test_verdict_follows_the_interval(low: float, high: float, verdict: str) -> None:
    assert comparison(low, high).verdict == verdict


def test_text_says_the_numbers() -> None:
    text = "2.00 ms -> 2.00 ms: slower, 1.00x [0.50, 0.90] (batch 1, 9 runs each)"
    assert str(comparison(0.5, 0.9)) == text


def test_percentiles() -> None:
    found = Latency.of(np.arange(1, 102, dtype=float))
    assert (found.p50, found.p95, found.best) == (51, 96, 1)


def test_models_take_turns_in_alternating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Recorder:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, feeds: object) -> None:
            order.append(self.name)

    names = iter("ab")
    monkeypatch.setattr(latency, "_runner", lambda module, threads: Recorder(next(names)))
    compare_latency(chain(1), chain(1), runs=4)
    timed = order[2 * latency.WARM_UP :]
    assert timed in (list("abbaabba"), list("baabbaab"))


def test_forty_times_the_work_is_slower() -> None:
    found = compare_latency(chain(1, size=128), chain(40, size=128), runs=15)
    assert found.verdict == "slower"
    assert found.speedup < 0.5
    assert found.a.best <= found.a.p50 <= found.a.p95


def test_models_with_different_inputs_are_refused() -> None:
    message = r"the models take different inputs: x float32\[64, 64\]; and z float32\[64, 64\]"
    with pytest.raises(UserError, match=message):
        compare_latency(chain(1), chain(1, name="z"), runs=2)


def test_one_run_is_refused() -> None:
    with pytest.raises(UserError, match="at least 2 runs, got 1"):
        compare_latency(chain(1), chain(1), runs=1)
