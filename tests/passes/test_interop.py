"""Our passes in onnx_ir's pipelines, and theirs in ours."""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir
import pytest
from onnx_ir.passes import FunctionalPass, InPlacePass, PassError, PassResult, PreconditionError, Sequential
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass

import prunec
from prunec.ir.diagnostics import PassFailure, UserError, VerificationError
from prunec.ir.load import load
from prunec.passes.canonicalize import Canonicalize
from prunec.passes.interop import OnnxIrPass, from_onnx_ir

TEXT = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N, 4] x) => (float[N, 4] y) {
    i = Identity (x)
    a = Relu (i)
    b = Relu (i)
    y = Add (a, b)
}
"""


def model() -> onnx_ir.Model:
    return onnx_ir.from_proto(onnx.parser.parse_model(TEXT))


def ops(model: onnx_ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


class Swap(InPlacePass):
    """Replace the first Relu by a Neg, which is wrong."""

    def call(self, model: onnx_ir.Model) -> PassResult:
        next(node for node in model.graph if node.op_type == "Relu").op_type = "Neg"
        return PassResult(model, modified=True)


class Fail(InPlacePass):
    """Fail in a way of its own."""

    def call(self, model: onnx_ir.Model) -> PassResult:
        raise KeyError("nothing there")


class Copy(FunctionalPass):
    """Give back a copy without its last node's siblings."""

    def call(self, model: onnx_ir.Model) -> PassResult:
        copy = model.clone()
        CommonSubexpressionEliminationPass()(copy)
        return PassResult(copy, modified=True)


def test_ours_in_theirs() -> None:
    source = model()
    result = Sequential(CommonSubexpressionEliminationPass(), Canonicalize().as_onnx_ir())(source)
    assert result.model is source
    assert result.modified
    assert ops(source) == ["Relu", "Add"]
    assert not Canonicalize().as_onnx_ir()(source).modified


def test_text_of_a_pipeline_in_theirs() -> None:
    source = model()
    step = OnnxIrPass("canonicalize, verify")
    assert step(source).modified
    assert "Identity" not in ops(source)
    assert str(step) == "canonicalize, verify"


def test_our_failure_in_theirs() -> None:
    step = OnnxIrPass(from_onnx_ir(Swap()))
    with pytest.raises(VerificationError, match="is off by"):
        step(model())
    with pytest.raises(PassError) as caught:
        Sequential(step)(model())
    assert isinstance(caught.value.__cause__, VerificationError)


def test_what_is_no_valid_model_is_refused() -> None:
    source = model()
    source.graph.opset_imports.clear()
    with pytest.raises(PreconditionError) as caught:
        Canonicalize().as_onnx_ir()(source)
    assert isinstance(caught.value.__cause__, UserError)


def test_nodes_out_of_order_are_put_in_order() -> None:
    source = model()
    first = source.graph[0]
    source.graph.remove(first)
    source.graph.append(first)
    Canonicalize().as_onnx_ir()(source)
    assert ops(source) == ["Relu", "Relu", "Add"]


def test_verification_can_be_switched_off() -> None:
    source = model()
    assert OnnxIrPass(from_onnx_ir(Swap()), verify=False)(source).modified
    assert ops(source).count("Neg") == 1


def test_theirs_in_ours() -> None:
    module = load(onnx.parser.parse_model(TEXT))
    result = prunec.run(module, from_onnx_ir(CommonSubexpressionEliminationPass()))
    assert ops(result.module.model) == ["Identity", "Relu", "Add"]
    assert len(ops(module.model)) == 4  # the input stays
    (verdict,) = result.verdicts
    assert verdict.pass_name == "common-subexpression-elimination"
    assert str(result.plan.pipeline) == "common-subexpression-elimination"


def test_theirs_between_ours() -> None:
    steps = prunec.passes.pipeline.Pipeline.of(["canonicalize", from_onnx_ir(Copy()), "verify"])
    result = prunec.run(load(onnx.parser.parse_model(TEXT)), steps)
    assert ops(result.module.model) == ["Relu", "Add"]
    assert [v.pass_name for v in result.verdicts] == ["canonicalize", "copy"]
    assert result.changed


def test_theirs_without_effect() -> None:
    result = prunec.run(load(onnx.parser.parse_model(TEXT)), from_onnx_ir(RemoveUnusedNodesPass()))
    assert not result.changed
    assert not result.verdicts


def test_theirs_that_is_wrong_is_found_out() -> None:
    with pytest.raises(VerificationError, match="after `swap`"):
        prunec.run(load(onnx.parser.parse_model(TEXT)), from_onnx_ir(Swap()))


def test_their_failure_in_ours() -> None:
    with pytest.raises(PassFailure, match="onnx_ir pass `Fail` failed: KeyError: 'nothing there'") as caught:
        prunec.run(load(onnx.parser.parse_model(TEXT)), from_onnx_ir(Fail()))
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("RemoveUnusedNodesPass", "remove-unused-nodes"),
        ("ONNXCheckerPass", "onnx-checker"),
        ("_Pass", "pass"),
    ],
)
def test_names(kind: str, name: str) -> None:
    assert from_onnx_ir(type(kind, (Fail,), {})()).name == name
