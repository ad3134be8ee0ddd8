"""Profiles of ONNX Runtime, written here as it writes them, and one that it wrote."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from bench_models import perceptron
from onnx import numpy_helper

import prunec
from prunec.exporters.bench.candidates import Inputs, feeds_of, open_candidates
from prunec.exporters.bench.layers import layer_times
from prunec.exporters.bench.profile import Kernel, Profile, read_profile, run_profiled, without_profiler
from prunec.exporters.bench.sessions import CPU, Setting
from prunec.exporters.bench.work import find_work, named
from prunec.ir.diagnostics import UserError


def event(
    name: str, ts: int, dur: int, *, op: str = "Conv", index: str = "1", **sizes: int
) -> dict[str, Any]:
    """A kernel that ran."""
    arguments = {"op_name": op, "node_index": index, **{key: str(value) for key, value in sizes.items()}}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": arguments}


def profile(*runs: list[dict[str, Any]]) -> str:
    """Runs of a model, 1000 microseconds apart."""
    begins = [
        {"cat": "Session", "name": "model_run", "ts": 1000 * i, "dur": 900, "args": {}}
        for i in range(len(runs))
    ]
    loading = {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5, "args": {}}
    return json.dumps([loading, *begins, *(e for run in runs for e in run)])


def test_warm_up_and_interruptions_do_not_count() -> None:
    first = [event("a", 1, 900)]
    runs = [[event("a", 1000 * i + 1, duration)] for i, duration in enumerate([10, 12, 11, 500], 1)]
    found = read_profile(profile(first, *runs), warm_up=1)
    assert [kernel.seconds for kernel in found.kernels] == pytest.approx([11.5e-6])
    assert found.run == pytest.approx(900e-6, rel=0.02)  # of which one kernel is the least part


def test_gaps_add_up_without_their_interruptions() -> None:
    def run(number: int, late: int) -> list[dict[str, Any]]:
        begin = 1000 * number
        return [event("a", begin + 10, 100), event("b", begin + 120 + late, 880 - 120 - late, index="2")]

    found = read_profile(profile(*(run(i, 300 if i == 2 else 0) for i in range(8))))
    assert [kernel.seconds for kernel in found.kernels] == pytest.approx([100e-6, 760e-6])
    assert found.run == pytest.approx(900e-6)  # 10 before, 10 between, 20 behind


@pytest.mark.parametrize(
    ("latency", "kernels", "run"),
    [
        (120e-6, [72e-6, 24e-6], 120e-6),  # all was slower: in proportion
        (90e-6, [60e-6, 20e-6], 90e-6),  # off the time between kernels
        (70e-6, [55e-6, 15e-6], 70e-6),  # and off the kernels
        (10e-6, [25e-5 / 27, 2e-5 / 27], 10e-6),  # which keep a part of their time
    ],
)
def test_what_the_profiler_takes_is_taken_off(latency: float, kernels: list[float], run: float) -> None:
    measured = Profile(
        kernels=tuple(Kernel(name=f"k{s}", op="Conv", seconds=s, bytes=0) for s in (60e-6, 20e-6)), run=100e-6
    )
    found = without_profiler(measured, latency)
    assert [kernel.seconds for kernel in found.kernels] == pytest.approx(kernels)
    assert found.run == pytest.approx(run)


def test_iterations_of_a_loop_add_up() -> None:
    runs = [[event("a", 1000 * i + k, 4) for k in range(3)] for i in range(2)]
    (kernel,) = read_profile(profile(*runs)).kernels
    assert kernel.seconds == pytest.approx(12e-6)


def test_kernels_know_what_they_moved_and_how() -> None:
    sizes = {"activation_size": 100, "output_size": 20, "parameter_size": 8}
    run = [event("a_nchwc", 1, 5, **sizes), event("b", 7, 5, op="Gemm", index="2")]
    blocked, plain = read_profile(profile(run)).kernels
    assert (blocked.name, blocked.bytes, blocked.blocked) == ("a_nchwc", 128, True)
    assert (plain.op, plain.bytes, plain.blocked) == ("Gemm", 0, False)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"a": 1}', "[]"])
def test_what_is_no_profile_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match=r"this is no profile of ONNX Runtime|the profile holds 0 runs"):
        read_profile(text, file="profile.json")


def convolutions() -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu; a matrix product, a sum, a Gelu: ONNX Runtime fuses and renames all of them."""
    generator = np.random.default_rng(0)
    proto = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 20]>
    net (float[N, 16, 8, 8] x) => (float[N, 8] y) <int64[2] flat = {0, -1}> {
        [conv] c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
        [norm] n = BatchNormalization (c, ones, zeros, zeros, ones)
        [relu] r = Relu (n)
        f = Reshape (r, flat)
        [linear] m = MatMul (f, v)
        s = Add (m, b)
        y = Gelu (s)
    }""")
    shapes = {"w": (16, 16, 3, 3), "v": (1024, 8), "b": (8,), "ones": (16,), "zeros": (16,)}
    for name, shape in shapes.items():
        array = np.abs(generator.standard_normal(shape)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return proto


@pytest.mark.parametrize("level", ["all", "basic"])
def test_fused_kernels_come_back_to_their_layers(tmp_path: Any, level: str) -> None:
    (candidate,) = open_candidates([prunec.load(convolutions())], tmp_path)
    feeds = feeds_of(candidate, 2, Inputs())
    module = named(candidate.module)
    found = run_profiled(
        candidate, feeds, Setting(threads=1, providers=(CPU,), timeout=60), batch=2, runs=3, level=level
    )
    layers = {
        layer.name: layer
        for layer in layer_times(found.kernels, module, find_work(module, feeds[0]))
        if layer.macs
    }
    assert {name: layer.macs for name, layer in layers.items()} == {
        "conv": 2 * 64 * 16 * 16 * 9,
        "linear": 2 * 1024 * 8,
    }
    assert (layers["conv"].channels, layers["linear"].channels) == ((16, 16), (1024, 8))


def test_work_counts_zeros_bytes_and_batches() -> None:
    module = named(prunec.load(perceptron(64, zeros=0.75)))
    work = find_work(module, {"x": np.zeros((8, 16), np.float32)})
    up = work["up"]
    assert (up.macs, up.weight_bytes, up.activation_bytes) == (8 * 16 * 64, 4 * 16 * 64, 4 * 8 * (16 + 64))
    assert up.zeros == pytest.approx(0.75, abs=0.05)
    assert up.nonzero_macs == pytest.approx(up.macs / 4, rel=0.2)
    assert (work["act"].macs, work["act"].zeros, work["act"].channels) == (0, None, None)


def test_nodes_without_names_get_some() -> None:
    proto = perceptron()
    for node in proto.graph.node:
        node.name = ""
    names = [node.name for node in named(prunec.load(proto)).graph]
    assert names == ["MatMul:h", "Add:b", "Relu:a", "MatMul:y"]
    assert not any(node.name for node in proto.graph.node)  # the user's model is as it was
