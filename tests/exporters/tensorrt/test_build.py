"""Engines, really built: every kind of model, dense and sparse, and what cannot be built."""

from __future__ import annotations

from pathlib import Path

import pytest
from core_graphs import graph
from engine_models import MODELS, Steps, model

from prunec.exporters.tensorrt.api import load_api
from prunec.exporters.tensorrt.build import Builder, Engine
from prunec.exporters.tensorrt.log import parse_layers, parse_sparsity
from prunec.exporters.tensorrt.precision import Precision
from prunec.exporters.tensorrt.prepare import prepare
from prunec.exporters.tensorrt.profiles import choose_profiles
from prunec.ir.diagnostics import PassFailure, UserError
from prunec.ir.module import Module

API = load_api("tensorrt_rtx")


def build(
    module: Module, *, precision: Precision = "fp16", sparse: bool = True, steps: Steps | None = None
) -> Engine:
    profiles, _ = choose_profiles(module.graph, ())
    told = (steps or Steps()).told.append
    builder = Builder(api=API, profiles=profiles, file="net.onnx")
    return builder.build(prepare(module, precision).proto, sparse=sparse, progress=told)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["keep", "fp16", "bf16"])
def test_every_model_in_every_precision(name: str, precision: Precision) -> None:
    engine = build(model(name), precision=precision)
    assert len(engine.content) > 1000
    assert engine.log.texts("ERROR", "INTERNAL_ERROR") == []


@pytest.mark.parametrize("name", MODELS)
def test_the_log_lists_what_computes_every_layer(name: str) -> None:
    module = model(name)
    layers = parse_layers(build(module).log.lines)
    computed = {onnx_layer for layer in layers for onnx_layer in layer.onnx_layers(())}
    named = {
        str(node.name) for node in module.graph if node.name and node.op_type in ("Conv", "MatMul", "Gemm")
    }
    assert named <= computed


def test_tensorrt_rtx_says_nothing_about_sparse_kernels() -> None:
    found = parse_sparsity(build(model("cnn")).log.lines)
    assert (found.eligible, found.picked) == (None, None)


def test_dense_and_sparse_are_told_apart() -> None:
    steps = Steps()
    for sparse in (True, False):
        build(model("cnn"), sparse=sparse, steps=steps)
    assert [step for step in steps.told if step.startswith("building")] == [
        f"building with {API}, sparse kernels allowed",
        f"building with {API}, sparse kernels off",
    ]


def test_ops_that_it_cannot_parse_are_named_with_their_nodes() -> None:
    text = "net (float[2,4] x) => (float[2,4] y) { [first] a = com.acme.Fancy(x)  b = Relu(a)  [second] y = com.acme.Odd(b) }"
    with pytest.raises(UserError, match=r"cannot parse this Fancy: ") as caught:
        build(graph(text))
    error = caught.value
    assert error.place is not None and str(error.place) == "net.onnx: node `first`"
    assert error.notes[0].startswith("nor node `second` (Odd)")
    assert error.exit_code == 2


def test_a_network_that_it_cannot_build() -> None:
    # A profile for too few of the inputs: the parser takes the model, the builder does not.
    module = model("dynamic")
    with pytest.raises(PassFailure, match="cannot build the engine: ") as caught:
        Builder(api=API, file="net.onnx").build(
            prepare(module, "fp16").proto, sparse=True, progress=lambda _: None
        )
    assert "profile" in caught.value.message


def test_options_of_the_builder_are_taken(tmp_path: Path) -> None:
    builder = Builder(api=API, workspace=64, level=1, timing_cache=tmp_path / "cache")
    assert builder.build(prepare(model("cnn"), "fp16").proto, sparse=True, progress=lambda _: None).content
    assert not (tmp_path / "cache").exists(), "TensorRT-RTX has no timings to keep"
