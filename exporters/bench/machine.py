"""The machine that a bench ran on: what it is called, and what it can do."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from prunec.exporters.bench.results import Machine
from prunec.ir.execute import Runner
from prunec.ir.load import load
from prunec.ir.timing import take_turns
from prunec.ir.version import VERSION

EDGE = 512
"""Rows and columns of matrices that keep a core computing."""
STREAMED = 4096
"""Edge of a matrix of 64 MiB, more than the caches of one core hold."""
NODES = 200
RUNS = 50


def versions_and_processor() -> Iterator[tuple[str, str]]:
    """Versions and processor that the numbers hold for; nothing that names the machine."""
    import onnxruntime as ort

    yield from (("prunec", VERSION), ("onnxruntime", ort.__version__))
    yield from (("python", platform.python_version()), ("processor", _processor() or platform.machine()))
    yield "cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def _processor() -> str | None:
    """What Linux calls the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


@lru_cache(maxsize=4)
def measure_machine(threads: int) -> Machine:
    """What this machine can do with so many threads, in about a second; measured once in a process.

    The numbers are those of ONNX Runtime's own kernels: a product of two large matrices for operations, of a vector
    with a large matrix for memory, a chain of ops on single numbers for what starting a node takes.
    """
    product = _seconds(_matrix_product(rows=EDGE, edge=EDGE), threads)
    vector = _seconds(_matrix_product(rows=1, edge=STREAMED), threads)
    return Machine(
        operations=2 * EDGE**3 / product,
        bandwidth=4 * STREAMED**2 / vector,
        node=_seconds(_chain(NODES), threads) / NODES,
    )


def _seconds(proto: onnx.ModelProto, threads: int) -> float:
    """The time of the fastest run."""
    runner = Runner(load(proto), optimize=True, threads=threads)
    feeds = {"x": np.ones([d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim], np.float32)}
    return float(take_turns([lambda: runner.run(feeds)], RUNS, seconds=1.5).min())


def _matrix_product(*, rows: int, edge: int) -> onnx.ModelProto:
    """``rows`` x ``edge`` times a constant of ``edge`` x ``edge``."""
    weight = numpy_helper.from_array(np.full((edge, edge), 0.5, np.float32), "w")
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], [rows, edge], [weight])


def _chain(length: int) -> onnx.ModelProto:
    """Ops on one number, one after the other, that no optimisation takes out."""
    names = ["x", *(f"v{i}" for i in range(1, length)), "y"]
    ops = ("Sin", "Atan")
    nodes = [helper.make_node(ops[i % 2], [names[i]], [names[i + 1]]) for i in range(length)]
    return _model(nodes, [1], [])


def _model(nodes: list[onnx.NodeProto], shape: list[int], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "probe", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
