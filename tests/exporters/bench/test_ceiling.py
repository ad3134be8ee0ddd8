"""Amdahl's law over layers: what sparse kernels can gain at the most."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bench_models import perceptron

import prunec
from prunec.exporters.bench.ceiling import amdahl, layer_shares, roofline, summarize
from prunec.exporters.bench.results import Machine
from prunec.exporters.bench.work import Work, find_work, named
from prunec.ir.diagnostics import UserError

MACHINE = Machine(operations=1e12, bandwidth=1e11, node=1e-6)


def work(hidden: int = 512, batch: int = 512) -> dict[str, Work]:
    module = named(prunec.load(perceptron(hidden, inputs=512)))
    return find_work(module, {"x": np.zeros((batch, 512), np.float32)})


@pytest.mark.parametrize(
    ("share", "kernel", "whole"), [(0.0, 2, 1.0), (1.0, 2, 2.0), (0.55, 2, 1.38), (0.6, 1.9, 1.397)]
)
def test_amdahl(share: float, kernel: float, whole: float) -> None:
    assert amdahl(share, kernel) == pytest.approx(whole, abs=0.005)


def test_only_layers_that_can_run_sparse_get_faster() -> None:
    # `down` has 4 outputs, which is no multiple of 8: no sparse kernel takes it
    times = [("up", "Gemm", 6e-3), ("down", "MatMul", 1e-3), ("bias", "Add", 2e-3), ("act", "Relu", 1e-3)]
    layers = layer_shares(times, work(), 2.0)
    assert [(layer.name, round(layer.share, 2)) for layer in layers] == [
        ("up", 0.6),
        ("Add", 0.2),
        ("down", 0.1),
        ("Relu", 0.1),
    ]
    assert [layer.eligible for layer in layers] == [True, False, False, False]
    assert layers[0].alone == pytest.approx(1 / 0.7)
    assert "4 output channels" in (layers[2].why_not or "")
    assert layers[1].why_not == "multiplies nothing"
    found = summarize(layers, model="net.onnx", batch=1, kernel=2.0, estimated=False)
    assert str(found) == (
        "2:4 can make net.onnx at most 1.43x faster at batch 1: 60% of the time is in layers that can run "
        "sparse, 2x faster at most"
    )
    assert (found.limit, found.worthwhile) == (pytest.approx(2.5), pytest.approx(1 / 0.7))


def test_kernels_of_several_layers_are_named_as_such() -> None:
    (layer,) = layer_shares([("Attention", "Attention", 1.0)], work(), 2.0)
    assert layer.why_not == "several layers in one kernel"


def test_a_roofline_is_the_longest_of_computing_moving_and_starting() -> None:
    times = {name: seconds for name, _, seconds in roofline(work(), MACHINE)}
    assert times["up"] == pytest.approx(2 * 512**3 / 1e12)  # computes
    assert times["down"] == pytest.approx(4 * 512 * (512 + 4 + 4) / 1e11)  # moves bytes
    assert {name: s for name, _, s in roofline(work(8, 1), MACHINE)}["down"] == 1e-6  # starts
    assert times.keys() == {"up", "down"}  # the bias and the activation are fused into `up`


def test_a_model_from_beginning_to_end() -> None:
    module = prunec.load(perceptron(512, inputs=512))
    measured = prunec.ceiling(module, batch=16)
    estimated = prunec.ceiling(module, batch=16, estimate=True, machine=MACHINE)
    for found in (measured, estimated):
        assert 0 < found.share <= 1 < found.speedup <= 2
        assert sum(layer.share for layer in found.layers) == pytest.approx(1)
        assert json.loads(json.dumps(found.to_json()))["batch"] == 16
    assert "of the estimated time" in str(estimated)


def test_a_model_without_eligible_layers() -> None:
    found = prunec.ceiling(prunec.load(perceptron(4, inputs=6)), estimate=True, machine=MACHINE)
    assert str(found) == "2:4 cannot make <memory> faster: no layer can run sparse"


def test_a_kernel_that_is_slower_is_none() -> None:
    with pytest.raises(UserError, match=r"a kernel that is 0\.5x faster is none"):
        prunec.ceiling(prunec.load(perceptron()), kernel=0.5)
