"""The masked reference says honestly how strong it is: plain zeros suffice unless an op takes a statistic."""

from __future__ import annotations

import onnx
import pytest

import prunec

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
CHAIN = """
net (float[1,3,6,6] x) => (float[1,5,6,6] y) <float[8,3,1,1] a, float[8] b, float[5,8,1,1] c> {
    first = Conv(x, a, b)
    active = Relu(first)
    %s
    y = Conv(inner, c)
}
"""


def verdict(body: str) -> str:
    graph = onnx.parser.parse_model(HEADER + CHAIN % body)
    for value in graph.graph.value_info:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.name in "abc":
            weights = onnx.numpy_helper.from_array(_weights(dims), value.name)
            graph.graph.initializer.append(weights)
    (proven,) = prunec.run(prunec.load(graph), "prune-channels{ratio=0.5 round-to=1}").verdicts
    return proven.equivalence


def _weights(dims: list[int]):
    import numpy as np

    return np.random.default_rng(len(dims) + sum(dims)).standard_normal(dims).astype(np.float32)


@pytest.mark.parametrize(
    ("body", "equivalence"),
    [
        ("inner = Identity(active)", "masked"),
        ("inner = Tanh(active)", "masked"),
        (
            "mean = ReduceMean<axes: ints = [1]>(active)\n    inner = Sub(active, mean)",
            "masked-kept-statistics",
        ),
        ("inner = Softmax<axis: int = 1>(active)", "masked-kept-statistics"),
    ],
)
def test_only_statistics_restrict_the_reference(body: str, equivalence: str) -> None:
    assert verdict(body) == equivalence
