"""Models small enough to be measured in no time, and times that nobody measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from prunec.exporters.bench.results import BenchReport, Memory, ModelFacts, Timing
from prunec.exporters.bench.words import verdicts
from prunec.ir.timing import Latency, Ratio


def perceptron(
    hidden: int = 32, *, batch: str | int = "N", zeros: float = 0.0, inputs: int = 16
) -> onnx.ModelProto:
    """``x [batch, inputs]`` through a layer of ``hidden`` units to ``y [batch, 4]``; a share of weights may be zero."""
    proto = onnx.parser.parse_model(f"""
    <ir_version: 9, opset_import: ["" : 17]>
    net (float[{batch}, {inputs}] x) => (float[{batch}, 4] y)
        <float[{inputs}, {hidden}] w1, float[{hidden}] b1, float[{hidden}, 4] w2> {{
        [up] h = MatMul (x, w1)
        [bias] b = Add (h, b1)
        [act] a = Relu (b)
        [down] y = MatMul (a, w2)
    }}""")
    generator = np.random.default_rng(0)
    for name, shape in {"w1": (inputs, hidden), "b1": (hidden,), "w2": (hidden, 4)}.items():
        weight = generator.standard_normal(shape).astype(np.float32)
        weight[generator.random(shape) < zeros] = 0
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    return proto


def facts(name: str, *, macs: int = 1000, nonzero: int | None = None) -> ModelFacts:
    """What a report says about a model."""
    return ModelFacts(
        name=name,
        path=f"folder/{name}",
        sha256="0" * 64,
        size=4000,
        parameters=macs,
        macs=macs,
        nonzero_macs=macs if nonzero is None else nonzero,
        fixed_batch=None,
        load=latency(0.01),
        memory=Memory(peak=50 << 20, before=40 << 20),
    )


def latency(p50: float) -> Latency:
    """Seconds around a median."""
    return Latency(p50=p50, p95=1.5 * p50, p99=2 * p50, best=0.9 * p50)


def report(models: Mapping[str, ModelFacts], ratios: Mapping[int, Ratio]) -> BenchReport:
    """A report of two models at the batch sizes of these ratios."""
    first, other = models.values()
    timings = []
    for batch, ratio in ratios.items():
        for model, seconds, given in ((first, 0.002, None), (other, 0.002 / ratio.value, ratio)):
            timings.append(
                Timing(
                    model=model.name,
                    batch=batch,
                    latency=latency(seconds),
                    throughput=batch / seconds,
                    ratio=given,
                    runs=60,
                    rounds=6,
                )
            )
    return BenchReport(
        models=(first, other),
        timings=tuple(timings),
        verdicts=tuple(verdicts((first, other), timings)),
        explanations=(),
        profiles=(),
        machine=None,
        notes=(),
        inputs="random",
        threads=1,
        providers=("CPUExecutionProvider",),
        seed=0,
        versions={"prunec": "0", "onnxruntime": "1.20", "python": "3", "processor": "x", "cores": "2"},
    )
