"""The graph as TensorRT gets it: prepared, in another precision, and still computing the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from core_graphs import graph
from engine_models import MODELS, model

from prunec.exporters.tensorrt.candidates import find_candidates
from prunec.exporters.tensorrt.precision import Precision, convert
from prunec.exporters.tensorrt.prepare import Prepared, prepare
from prunec.ir.diagnostics import UserError
from prunec.ir.equality import TOLERANCE, relative_error
from prunec.ir.execute import probe_feeds, run_model
from prunec.ir.load import load
from prunec.ir.proto import to_proto

F, H, B, D = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"))


def kinds(prepared: Prepared) -> set[int]:
    return {tensor.data_type for tensor in prepared.proto.graph.initializer}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("precision", "tolerance"), [("keep", 1e-6), ("fp16", TOLERANCE["float16"])])
def test_what_it_computes_stays(name: str, precision: Precision, tolerance: float) -> None:
    module = model(name)
    prepared = load(prepare(module, precision).proto)
    feeds = probe_feeds(module, batch=2)
    expected, actual = run_model(module, feeds), run_model(prepared, feeds)
    assert all(relative_error(actual[key], expected[key]) < tolerance for key in expected)
    assert all(one.is_sparse for one in find_candidates(prepared) if one.shape)


@pytest.mark.parametrize(("precision", "kind"), [("fp16", H), ("bf16", B)])
def test_weights_change_and_inputs_and_outputs_do_not(precision: Precision, kind: int) -> None:
    prepared = prepare(model("cnn"), precision)
    values = (*prepared.proto.graph.input, *prepared.proto.graph.output)
    assert kinds(prepared) == {kind}
    assert {value.type.tensor_type.elem_type for value in values} == {F}
    name = {H: "float16", B: "bfloat16"}[kind]
    assert prepared.actions[-1] == f"4 of 4 float32 tensors became {name}"


def test_bfloat16_is_rounded_from_the_original_weights() -> None:
    huge = np.full((4, 4), 3e38, np.float32)  # more than float16 holds
    module = graph("net (float[2,4] x) => (float[2,4] y) { y = MatMul(x, w) }", w=huge)
    (tensor,) = prepare(module, "bf16").proto.graph.initializer
    assert onnx.numpy_helper.to_array(tensor).astype(np.float32) == pytest.approx(huge, rel=1e-2)


def test_an_opset_without_bfloat16() -> None:
    old = graph("net (float[2,4] x) => (float[2,4] y) <float[4,4] w> { y = MatMul(x, w) }", opset=11)
    with pytest.raises(UserError, match="opset 11 has no bfloat16; 13 is the first that has"):
        prepare(old, "bf16")


def test_a_model_without_float32_stays_as_it_is() -> None:
    proto = to_proto(graph("net (float16[2,4] x) => (float16[2,4] y) <float16[4,4] w> { y = MatMul(x, w) }"))
    assert convert(proto, "fp16") == (proto, None)


def test_every_node_has_a_name_of_its_own() -> None:
    text = "net (float[2,4] x) => (float[2,4] y) { [a] u = Relu(x) [a] v = Sigmoid(u) w = Tanh(v) [Tanh_2] y = Exp(w) }"
    prepared = prepare(graph(text), "keep")
    names = [node.name for node in prepared.proto.graph.node]
    assert names[0] == "a" and names[3] == "Tanh_2"
    assert len(set(names)) == 4 and all(names)
    assert any(
        line.startswith("nodes that had no name of their own were named: ") for line in prepared.actions
    )


def test_constants_are_folded_but_not_what_says_that_a_layer_is_quantised() -> None:
    text = """net (float[2,4] x) => (float[2,4] y) <float[4,4] w, int8[4,4] q, float s = {0.1}, int8 z = {0}> {
        a = Transpose <perm = [1, 0]> (w)  b = MatMul (x, a)  c = DequantizeLinear (q, s, z)  y = MatMul (b, c) }"""
    prepared = prepare(graph(text), "keep")
    assert [node.op_type for node in prepared.proto.graph.node] == ["MatMul", "DequantizeLinear", "MatMul"]
    assert prepared.actions[0] == "constant or unused nodes were folded: 1"


def test_attributes_without_a_meaning_in_inference_go() -> None:
    text = """net (float[2,4,3] x) => (float[2,4,3] y) <float[4] s, float[4] b, float[4] m, float[4] v> {
        [norm] y = BatchNormalization <epsilon = 0.01, momentum = 0.5> (x, s, b, m, v) }"""
    prepared = prepare(graph(text), "keep")
    assert [attribute.name for attribute in prepared.proto.graph.node[0].attribute] == ["epsilon"]
    assert prepared.actions == (
        "attributes without a meaning in inference were dropped: BatchNormalization.momentum (1)",
    )


def test_float64_becomes_float32() -> None:
    text = """net (float[2,4] x) => (float[2,4] y) <double[4,4] w> {
        a = Cast <to = 11> (x)  b = MatMul (a, w)  y = Cast <to = 1> (b) }"""
    module = graph(text)
    prepared = prepare(module, "keep")
    assert kinds(prepared) == {F}
    feeds = probe_feeds(module)
    actual = run_model(load(prepared.proto), feeds)
    assert relative_error(actual["y"], run_model(module, feeds)["y"]) < 1e-5


def test_an_input_of_a_type_that_tensorrt_has_not() -> None:
    with pytest.raises(UserError, match="graph input `x` is double, which TensorRT has not"):
        prepare(graph("net (double[2] x) => (double[2] y) { y = Relu(x) }"), "fp16")


NESTED = """net (float[2,4] x, bool c) => (float[2,4] y) <float[4,4] w> {
    a = MatMul (x, w)
    y = If (c) <then_branch = yes () => (float[2,4] t) { t = Add (a, a) }, else_branch = no () => (float[2,4] e) { e = Relu (a) }> }"""


def test_nested_graphs_keep_their_types_and_it_says_so() -> None:
    module = graph(NESTED)
    prepared = prepare(module, "fp16")
    assert kinds(prepared) == {F}
    assert prepared.actions[-1] == "float32 stays: the converter does not follow values into the graphs of If"
    feeds = probe_feeds(module)
    assert np.array_equal(run_model(load(prepared.proto), feeds)["y"], run_model(module, feeds)["y"])


def test_preparing_says_nothing_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    prepare(graph(NESTED), "fp16")
    assert capfd.readouterr() == ("", "")
