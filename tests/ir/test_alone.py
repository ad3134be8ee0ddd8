"""Nodes without shape inference: run by themselves, or with no more of the graph than they need."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest

from prunec.ir import execute, fact_walk
from prunec.ir.alone import run_alone
from prunec.ir.facts import Facts, infer_facts
from prunec.ir.load import load

HEADER = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "com.acme" : 1]>
net (float[2, 4] x, int64[2] n) => (float[2, 4] y)
"""
OPSETS = [("", 17), ("com.microsoft", 1)]


def model(body: str) -> onnx_ir.Model:
    return load(onnx.parser.parse_model(HEADER + body)).model


def shapes(found: Facts) -> dict[str, tuple[int, ...]]:
    return {value.name or "": shape for value, shape in found.shapes.items()}


def test_a_node_gets_its_shape_although_the_model_does_not_run() -> None:
    found = shapes(infer_facts(model("{ a = com.microsoft.FastGelu (x) b = Relu (a) y = com.acme.No (b) }")))
    assert (found["a"], found["b"]) == ((2, 4), (2, 4))
    assert "y" not in found


def test_its_type_is_known_too() -> None:
    found = infer_facts(model("{ a = com.microsoft.FastGelu (x) y = Relu (a) }"))
    types = {value.name: kind for value, kind in found.types.items()}
    assert types["a"] == types["y"] == onnx_ir.DataType.FLOAT


def test_computed_integers_are_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be sizes: a shape from invented ones would be wrong."""
    asked: list[str] = []
    monkeypatch.setattr(fact_walk, "run_alone", lambda node, inputs, opsets: asked.append(node.op_type) or {})
    infer_facts(model("{ a = com.microsoft.ExpandDims (x, n) b = com.microsoft.FastGelu (x) y = Relu (b) }"))
    assert set(asked) == {"FastGelu"}


def test_what_onnx_runtime_does_not_know_has_no_outputs() -> None:
    node = model("{ y = com.acme.No (x) }").graph[0]
    assert run_alone(node, {"x": np.ones((2, 4), np.float32)}, OPSETS) == {}


def test_only_what_an_output_needs_is_run() -> None:
    """A runner for one value accepts a graph whose other half nothing can run."""
    broken = model("{ a = Relu (x) b = com.acme.No (a) y = Add (a, b) }")
    runner = execute.Runner(broken, outputs=["a"])
    assert runner.inputs == ("x",)
    np.testing.assert_array_equal(runner.run({"x": -np.ones((2, 4), np.float32)})["a"], np.zeros((2, 4)))


def test_weights_that_only_the_rest_reads_are_left_out() -> None:
    proto = onnx.parser.parse_model(HEADER + "{ a = Relu (x) b = MatMul (a, a) y = Add (a, b) }")
    proto.graph.node[1].input[1] = "w"
    weight = onnx.numpy_helper.from_array(np.ones((4, 4096), np.float32), "w")
    proto.graph.initializer.append(weight)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 4096]))
    runner = execute.Runner(load(proto), outputs=["a"])
    assert runner.run({"x": np.ones((2, 4), np.float32)})["a"].shape == (2, 4)
