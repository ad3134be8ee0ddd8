"""Latency targets, on a clock of the test's own: what is asked is found, what is not faster is left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph

import prunec
from prunec.ir.diagnostics import PassFailure, UserError
from prunec.ir.module import Module
from prunec.ir.timing import Ratio
from prunec.passes.coupling import analyse
from prunec.passes.coupling.options import CouplingOptions
from prunec.passes.pruning import latency, latency_target
from prunec.passes.pruning.cut_cost import CutCost
from prunec.passes.pruning.selection import clusters_of

NET = """net (float[N,16,8,8] x) => (float[N,10,8,8] y)
    <float[64,16,3,3] a, float[64,64,3,3] b, float[64,64,3,3] c, float[10,64,1,1] d> {
        h = Conv<pads = [1, 1, 1, 1]>(x, a)  i = Relu(h)  j = Conv<pads = [1, 1, 1, 1]>(i, b)  k = Relu(j)
        l = Conv<pads = [1, 1, 1, 1]>(k, c)  m = Add(l, i)  r = Relu(m)  y = Conv(r, d) }"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Tables of latencies go into a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "prunec" / "latency"


class Law:
    """A stopwatch that knows a law: latency is a function of the share of multiply-accumulates that stay."""

    def __init__(self, fixed: float, power: float, slowest: float = 1.0) -> None:
        self.fixed, self.power, self.slowest = fixed, power, slowest
        self.asked: list[float] = []

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every stopwatch follow this law."""
        monkeypatch.setattr(
            latency_target.Stopwatch, "ratio", lambda watch, cut, rounds=3: self.ratio(watch.dense, cut)
        )

    def ratio(self, dense: Module, cut: Module) -> Ratio:
        """What it says about a cut."""

        def macs(module: Module) -> int:
            coupling = analyse(module.model)
            return CutCost(module.model, coupling, coupling.prunable).macs(
                np.array([group.units for group in coupling.prunable], np.int64)
            )

        share = macs(cut) / macs(dense)
        value = self.slowest * (self.fixed + (1 - self.fixed) * share**self.power)
        self.asked.append(value)
        return Ratio(value, value * 0.99, value * 1.01)


@pytest.mark.parametrize(("fixed", "power"), [(0.0, 1.0), (0.3, 1.0), (0.0, 0.5), (0.1, 2.0)])
def test_what_is_asked_is_found_whatever_the_law(
    monkeypatch: pytest.MonkeyPatch, fixed: float, power: float
) -> None:
    law = Law(fixed, power)
    law.use(monkeypatch)
    result = prunec.run(graph(NET), "prune-channels{target=latency:0.6}")
    assert law.asked[-1] == pytest.approx(0.6, abs=latency_target.TOLERANCE)
    (told,) = [remark for remark in result.remarks if "latency is" in remark.message]
    assert told.kind == "passed" and "(threads: 1, batch 1), the target is 60.0%" in told.message
    assert len(result.verdicts) == 1


def test_a_model_that_would_be_slower_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    Law(0.9, 1.0, slowest=1.2).use(monkeypatch)
    result = prunec.run(graph(NET), "prune-channels{target=latency:0.9}")
    assert not result.changed and not result.plan.steps
    (told,) = [remark for remark in result.remarks if "nothing is removed" in remark.message]
    assert told.kind == "missed" and told.urgent and "not faster on this machine" in (told.reason or "")


def test_a_target_that_all_channels_together_miss_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    Law(0.5, 1.0).use(monkeypatch)
    with pytest.raises(UserError) as caught:
        prunec.run(graph(NET), "prune-channels{target=latency:0.3 round-to=1}")
    assert caught.value.message.startswith("target=latency:0.3 is out of reach: latency is 5")


def test_the_table_is_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = graph(NET)
    coupling = analyse(module.model)
    clusters = clusters_of(coupling.prunable)

    def table() -> list[latency.LayerLatency]:
        return latency.latency_table(
            module, coupling, coupling.prunable, clusters, CouplingOptions(), threads=1
        )

    first = table()
    (file,) = cache.glob("*.json")
    assert json.loads(file.read_text())["schema"] == "prunec.latency-table/1"
    assert [row.tensor for row in first] == ["a:0", "b:0"] and all(row.seconds > 0 for row in first)
    assert first[1].macs == 64 * (64 * 64 * 9 * 2) // 2
    monkeypatch.setattr(latency, "take_turns", None)  # measuring again would fail
    assert table() == first
    monkeypatch.setattr(latency, "VERSION", "0.0.0")  # another prunec may time other nodes
    with pytest.raises(TypeError):
        table()
    monkeypatch.undo()
    monkeypatch.setattr(latency, "take_turns", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    file.write_text("{")  # of no use: measured again
    with pytest.raises(TypeError):
        table()


def test_layers_that_do_not_run_alone_are_told_and_tried_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PassFailure("ONNX Runtime refuses the model")

    Law(0.0, 1.0).use(monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(latency, "Runner", refused)
        result = prunec.run(graph(NET), "prune-channels{target=latency:0.6}", verify=False)
    (told,) = [remark for remark in result.remarks if "timed alone" in remark.message]
    assert told.message == "2 of 2 layers could not be timed alone, and count as gaining nothing"
    assert told.kind == "missed" and told.reason == "a: ONNX Runtime refuses the model"
    (file,) = cache.glob("*.json")
    assert json.loads(file.read_text())["layers"] == []


def test_a_bug_is_no_layer_that_cannot_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(latency, "extract", wrong)
    with pytest.raises(ValueError, match="a bug"):
        prunec.run(graph(NET), "prune-channels{target=latency:0.6}")


def test_seconds_follow_multiply_accumulates_by_what_each_layer_gains() -> None:
    module = graph(NET)
    coupling = analyse(module.model)
    cost = CutCost(module.model, coupling, coupling.prunable)
    rows = [
        latency.LayerLatency(tensor=tensor, seconds=whole, halved=half, macs=1000)
        for tensor, whole, half in (("a:0", 2.0, 1.0), ("b:0", 1.0, 1.5))
    ]
    seconds = latency.LatencyCost(cost, rows, clusters_of(coupling.prunable), 100_000.0)
    assert seconds.total(cost.full) == pytest.approx(100_000)
    less = cost.full - np.array([32, 0])
    assert seconds.total(less) < seconds.total(cost.full)
    saved = seconds.touching([0], cost.full) - seconds.touching([0], less)
    assert seconds.total(cost.full) - seconds.total(less) == pytest.approx(saved)
    assert rows[1].seconds_a_mac == 0


def test_it_is_measured_end_to_end() -> None:
    """On the machine as it is: a cut of most channels of convolutions that fill a core takes less of its time."""
    module = graph(NET)
    watch = latency_target.Stopwatch(dense=module, threads=1, batch=1)
    cut = prunec.run(module, "prune-channels{ratio=75% round-to=16}", verify=False).module
    assert watch.ratio(cut, rounds=1).value < 0.8
    assert 0 < watch.seconds() < 1


def test_a_cut_model_that_does_not_run_is_no_mistake_of_the_users() -> None:
    module = graph(NET)
    broken = module.clone()
    weight = next(iter(broken.graph.initializers.values()))
    weight.const_value = onnx_ir.tensor(np.ones((3, 5, 7), np.float32))
    with pytest.raises(PassFailure):
        latency_target.Stopwatch(dense=module, threads=1, batch=1).ratio(broken, rounds=1)
    with pytest.raises(UserError):
        latency_target.Stopwatch(dense=broken, threads=1, batch=1).seconds()
