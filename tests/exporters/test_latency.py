"""Two models side by side: the inputs, the turns, and a difference that no noise hides."""

from __future__ import annotations

import onnx
import pytest

import prunec
from prunec.exporters import latency
from prunec.exporters.latency import Comparison, Latency, compare_latency
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
    one = Latency(p50=0.002, p95=0.003, p99=0.004, best=0.001)
    return Comparison(a=one, b=one, speedup=1.0, low=low, high=high, runs=9, threads=1, batch=1)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.1, 1.5, "faster"), (0.5, 0.9, "slower"), (0.9, 1.1, "no difference"), (1.0, 1.2, "no difference")],
)
def test_verdict_follows_the_interval(low: float, high: float, verdict: str) -> None:
    assert comparison(low, high).verdict == verdict


def test_text_says_the_numbers() -> None:
    text = "2.00 ms -> 2.00 ms: slower, 1.00x [0.50, 0.90] (batch 1, 9 runs each)"
    assert str(comparison(0.5, 0.9)) == text


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
