"""The verdict on a dense and a sparse engine: only what is faster is called so."""

from __future__ import annotations

import pytest
from engine_models import model

from prunec.exporters.latency import Comparison, Latency
from prunec.exporters.target import ExportContext
from prunec.exporters.tensorrt.measure import judge, profile_feeds
from prunec.exporters.tensorrt.profiles import parse_profile


def comparison(low: float, high: float) -> Comparison:
    one = Latency(p50=0.002, p95=0.003, p99=0.004, best=0.001)
    return Comparison(a=one, b=one, speedup=(low + high) / 2, low=low, high=high, runs=9, threads=0, batch=8)


@pytest.mark.parametrize(("low", "high", "faster"), [(1.1, 1.3, True), (0.7, 0.9, False), (0.9, 1.2, False)])
def test_only_what_is_faster_is_an_improvement(low: float, high: float, faster: bool) -> None:
    context = ExportContext()
    said = judge(comparison(low, high), context)
    assert said.startswith("sparse kernels make it faster" if faster else "sparse kernels are no improvement")
    assert len(context.remarks) == (0 if faster else 1)


def test_inputs_have_the_shapes_that_kernels_were_tuned_for() -> None:
    profiles = [parse_profile("x:1x16x8x8:4x16x24x32:8x16x64x64"), parse_profile("extra:1x8:4x8:8x8")]
    feeds = profile_feeds(model("dynamic"), profiles, seed=0)
    assert {name: array.shape for name, array in feeds.items()} == {"x": (4, 16, 24, 32), "extra": (4, 8)}
