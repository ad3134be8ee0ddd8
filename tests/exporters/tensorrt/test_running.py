"""Engines on a GPU: results, kernels, and what can go wrong."""

from __future__ import annotations

import numpy as np
import pytest
from core_graphs import graph
from engine_models import model
from fake_gpu import KINDS, FakeDriver, FakeTensorRT, gpu

from prunec.exporters.tensorrt.cuda import open_device
from prunec.exporters.tensorrt.running import EngineRunner
from prunec.ir.diagnostics import PassFailure
from prunec.ir.execute import probe_feeds, run_model
from prunec.ir.module import Module
from prunec.ir.proto import to_proto


def results(trt: FakeTensorRT, module: Module) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    feeds = probe_feeds(module)
    with open_device(gpu()) as device:
        runner = EngineRunner(trt.api, to_proto(module).SerializeToString(), device, feeds)
        runner.run()
        return runner.results()


@pytest.mark.parametrize(
    "module",
    [
        model("cnn"),
        graph("net (bfloat16[2,3] x, int64[2,3] i) => (bfloat16[2,3] y, int64[2,3] j) { y = Identity(x) j = Identity(i) }"),
    ],
    ids=["floats", "bfloat16-and-integers"],
)  # fmt: skip
def test_outputs_come_back(module: Module) -> None:
    expected = run_model(module, probe_feeds(module))
    actual = results(FakeTensorRT(), module)
    assert actual.keys() == expected.keys()
    assert all(np.array_equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("trt", "message"),
    [
        (FakeTensorRT(loads=False), "the engine cannot be loaded"),
        (FakeTensorRT(gives_context=False), "the engine gives no execution context"),
        (FakeTensorRT(takes_shapes=False), r"does not take input `x` of shape \[2, 64, 8, 8\]"),
        (FakeTensorRT(knows_shapes=False), "the shape of output `y` depends on values"),
        (FakeTensorRT(runs=False), "the engine fails when it runs"),
        (FakeTensorRT(kinds={}), "`x` is FP4, which numpy has not"),
    ],
)
def test_what_can_go_wrong(trt: FakeTensorRT, message: str) -> None:
    with pytest.raises(PassFailure, match=message) as caught:
        results(trt, model("cnn"))
    assert trt.loads or caught.value.notes == ("built for another GPU",)


def test_the_inspector_sees_the_shapes_that_run() -> None:
    trt = FakeTensorRT(layers=[{"Name": "fc", "TacticName": "x_sparse_y"}])
    module, driver = model("cnn"), FakeDriver()
    with open_device(gpu(driver)) as device:
        runner = EngineRunner(trt.api, to_proto(module).SerializeToString(), device, probe_feeds(module))
        (layer,) = runner.layers()
        assert runner._inspector.execution_context is runner._context
    assert layer.is_sparse and KINDS
