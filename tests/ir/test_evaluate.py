"""Single nodes computed with ONNX's reference kernels."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest

from prunec.ir.evaluate import evaluate


def node(
    op_type: str, inputs: int, attributes: dict[str, object] | None = None, **more: object
) -> onnx_ir.Node:
    return onnx_ir.node(op_type, [onnx_ir.val(f"x{i}") for i in range(inputs)], attributes, **more)  # type: ignore[arg-type]


def test_computes_every_output() -> None:
    parts = evaluate(node("Split", 1, {"axis": 0}, num_outputs=2), [np.arange(4)], 13)
    assert parts is not None
    assert [p.tolist() for p in parts if p is not None] == [[0, 1], [2, 3]]


def test_absent_operands_are_none() -> None:
    result = evaluate(node("Clip", 3), [np.array([-3.0, 3.0], np.float32), None, np.float32(1)], 13)
    assert result is not None and result[0] is not None
    assert result[0].tolist() == [-3, 1]


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
def test_an_op_with_an_older_meaning_is_not_computed(op_type: str) -> None:
    """Before opset 13 these normalised all axes from the second on; the kernels know one axis."""
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert evaluate(node(op_type, 1), [x], 13) is not None
    assert evaluate(node(op_type, 1), [x], 12) is None


@pytest.mark.parametrize("op_type", ["HardSwish", "Mish"])
def test_an_op_that_is_only_a_function_is_no_failure(op_type: str) -> None:
    result = evaluate(node(op_type, 1), [np.ones(2, np.float32)], 18)
    assert result is None or len(result) == 1


def test_integer_division_rounds_toward_zero() -> None:
    result = evaluate(node("Div", 2), [np.array([-7, 7]), np.array([2, -2])], 14)
    assert result is not None and result[0] is not None
    assert result[0].tolist() == [-3, -3]


@pytest.mark.parametrize("op_type", ["RandomNormalLike", "Bernoulli", "Multinomial", "RandomUniformLike"])
def test_random_ops_are_not_computed(op_type: str) -> None:
    assert evaluate(node(op_type, 1), [np.full((2, 2), 0.5, np.float32)], 15) is None


def test_what_cannot_be_computed_is_none() -> None:
    two = [np.ones((2, 3)), np.ones((2, 3))]
    assert evaluate(node("MatMul", 2), two, 13) is None  # shapes do not fit
    assert evaluate(node("MatMul", 2, domain="com.acme"), two, 13) is None
    assert evaluate(node("NoSuchOp", 2), two, 13) is None
    assert evaluate(node("SequenceConstruct", 2), two, 13) is None  # makes no tensor


def test_a_node_with_a_nested_graph_is_not_computed() -> None:
    body = onnx_ir.Graph([], [onnx_ir.val("y")], nodes=[], name="body")
    branches = {"then_branch": body, "else_branch": body}
    assert evaluate(node("If", 1, branches), [np.array(True)], 16) is None
