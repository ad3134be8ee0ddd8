"""ONNX models that draw random numbers: every session draws the same, and verdicts say so."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest

import prunec
from prunec.ir.execute import run_model

OPS = {
    "RandomNormal": "RandomNormal <shape = [1, 16]> ()",
    "RandomNormalLike": "RandomNormalLike (first)",
    "RandomUniform": "RandomUniform <shape = [16]> ()",
    "Bernoulli": "Bernoulli (half)",
    "Dropout": "Dropout (first, ratio, training)",
}


def noisy(op: str) -> prunec.Module:
    """Linear layers with something random behind the first of them."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[N, 8] x) => (float[N, 4] y) {{
            first = MatMul (x, A)
            half = Sigmoid (first)
            drawn = {OPS[op]}
            sum = Add (first, drawn)
            again = MatMul (sum, B)
            bent = Relu (again)
            y = MatMul (bent, C)
        }}""")
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {"A": (8, 16), "B": (16, 16), "C": (16, 4)}.items()
    }
    arrays |= {"ratio": np.float32(0.5), "training": np.bool_(True)}
    used = arrays if op == "Dropout" else {name: arrays[name] for name in "ABC"}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in used.items())
    return prunec.load(model)


@pytest.mark.parametrize("op", OPS)
def test_sessions_draw_alike(op: str) -> None:
    feeds = {"x": np.ones((2, 8), np.float32)}
    first, second = (run_model(noisy(op), feeds)["y"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("op", OPS)
def test_a_cut_is_verified(op: str) -> None:
    result = prunec.run(noisy(op), "prune-channels{ratio=50% round-to=1}")
    assert result.cost_after.parameters < result.cost_before.parameters
    assert result.verdicts[0].error < 1e-5
    assert ("random draws made the same" in str(result.verdicts[0])) == (op != "Dropout")


def test_a_seed_that_the_file_states_is_kept() -> None:
    model = noisy("RandomNormal")
    drawing = next(node for node in model.graph if node.op_type == "RandomNormal")
    feeds = {"x": np.ones((2, 8), np.float32)}
    results = []
    for seed in (3.0, 4.0):
        drawing.attributes.add(onnx_ir.AttrFloat32("seed", seed))
        results.append(run_model(model, feeds)["y"])
    assert not np.array_equal(*results)
