"""Running models: the numbers are ONNX Runtime's own, and the made inputs fit."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from zoo import zoo_models

from prunec.ir.diagnostics import PassFailure, UserError
from prunec.ir.execute import Runner, probe_feeds, run_model
from prunec.ir.load import load
from prunec.ir.module import Module
from prunec.ir.runtime import clean_message, newest_opset
from prunec.ir.save import save


def text(body: str, *, opset: int = 17) -> Module:
    header = f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    return load(onnx.parser.parse_model(f"{header} net {body}"))


def linear(*, dtype: type = np.float32) -> Module:
    """y = relu(x w), with x [N, 32] and w [32, 16]."""
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((32, 16)).astype(dtype), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    given = helper.make_tensor_value_info("x", weight.data_type, ["N", 32])
    out = helper.make_tensor_value_info("y", weight.data_type, ["N", 16])
    graph = helper.make_graph(nodes, "net", [given], [out], [weight])
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def weight_of(module: Module) -> np.ndarray:
    tensor = module.graph.initializers["w"].const_value
    assert tensor is not None
    return tensor.numpy()


def test_outputs_by_name() -> None:
    x = np.ones((3, 32), dtype=np.float32)
    result = run_model(linear(), {"x": x})
    np.testing.assert_allclose(result["y"], np.maximum(x @ weight_of(linear()), 0), rtol=1e-5)
    assert list(result) == ["y"]


def test_intermediate_values_and_the_module_stays_as_it_was() -> None:
    module = linear()
    x = np.ones((3, 32), dtype=np.float32)
    result = run_model(module, {"x": x}, outputs=["h", "y"])
    np.testing.assert_allclose(result["h"], x @ weight_of(module), rtol=1e-5)
    assert (result["h"] < 0).any() and list(result) == ["h", "y"]
    assert [value.name for value in module.graph.outputs] == ["y"]


def test_model_without_module() -> None:
    assert run_model(linear().model, {"x": np.ones((1, 32), dtype=np.float32)})["y"].shape == (1, 16)


def test_changed_weights_are_used() -> None:
    module = linear()
    module.graph.initializers["w"].const_value = onnx_ir.Tensor(
        np.full((32, 16), 2, dtype=np.float32), name="w"
    )
    result = run_model(module, {"x": np.ones((1, 32), dtype=np.float32)})
    np.testing.assert_array_equal(result["y"], np.full((1, 16), 64, dtype=np.float32))


def test_a_large_weight_that_nothing_reads_stays_out_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(Runner, "_check_size", lambda _, proto: sizes.append(proto.ByteSize()))
    module = text("(float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    tensor = onnx_ir.Tensor(np.ones((1 << 10, 1 << 10), np.float32), name="spare")
    module.graph.register_initializer(onnx_ir.val("spare", const_value=tensor))
    assert list(run_model(module, {"x": np.ones((1, 4), np.float32)})) == ["y"]
    assert sizes[0] < 1000
    assert "spare" in module.graph.initializers


def test_non_contiguous_weights_and_feeds() -> None:
    module = linear()
    wide = np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
    module.graph.initializers["w"].const_value = onnx_ir.Tensor(wide[:, ::2], name="w")
    x = np.ones((32, 4), dtype=np.float32).T
    np.testing.assert_array_equal(run_model(module, {"x": x})["y"], x @ wide[:, ::2])


def test_weights_outlive_their_module() -> None:
    runner = Runner(linear())
    x = np.ones((1, 32), dtype=np.float32)
    first = runner.run({"x": x})["y"]
    for _ in range(20):
        np.full((32, 16), 7, dtype=np.float32)
    np.testing.assert_array_equal(runner.run({"x": x})["y"], first)


def test_optimized_agrees() -> None:
    x = np.ones((3, 32), dtype=np.float32)
    plain, fast = (run_model(linear(), {"x": x}, optimize=optimize)["y"] for optimize in (False, True))
    np.testing.assert_allclose(plain, fast, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(dtype: type) -> None:
    module = linear(dtype=dtype)
    assert run_model(module, probe_feeds(module))["y"].dtype == dtype


def test_bfloat16_in_weights_and_out() -> None:
    array = np.arange(1024).reshape(2, 512).astype(ml_dtypes.bfloat16)
    weight = onnx_ir.to_proto(onnx_ir.Tensor(array, name="w"))
    values = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, ["N", 512]) for name in "xy"]
    nodes = [helper.make_node("Concat", ["x", "w"], ["y"], axis=0)]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], [weight])
    module = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    feeds = probe_feeds(module)
    result = run_model(module, feeds)["y"]
    assert result.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(result, np.concatenate([feeds["x"], array]))


def test_int4_weights() -> None:
    array = np.arange(4096).reshape(64, 64).astype(np.int8) % 8
    weight = onnx_ir.to_proto(onnx_ir.Tensor(array.astype(ml_dtypes.int4), name="w"))
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["y"])]
    graph = helper.make_graph(nodes, "net", [], [out], [weight, scale])
    module = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    np.testing.assert_array_equal(run_model(module, {})["y"], array * np.float32(0.5))


def test_strings() -> None:
    module = text("(string[2] x) => (string[2] y) { y = Identity(x) }")
    assert probe_feeds(module)["x"].tolist() == ["", ""]
    assert run_model(module, {"x": np.array(["a", "b"], dtype=object)})["y"].tolist() == ["a", "b"]


def test_weights_in_external_data(tmp_path: Path) -> None:
    save(linear(), tmp_path / "net.onnx", external_data=True)
    x = np.ones((1, 32), dtype=np.float32)
    expected = run_model(linear(), {"x": x})["y"]
    np.testing.assert_array_equal(run_model(load(tmp_path / "net.onnx"), {"x": x})["y"], expected)


def test_unknown_output_gives_the_nearest_name() -> None:
    module = text("(float[2] x) => (float[2] hidden_state) { hidden_state = Relu(x) }")
    with pytest.raises(UserError, match="no node computes a value `hiden_state`") as caught:
        Runner(module, outputs=["hiden_state"])
    assert "did you mean `hidden_state`?" in str(caught.value)


def test_missing_feed() -> None:
    with pytest.raises(UserError, match="no array is given for graph input `x`"):
        run_model(linear(), {})


def test_blame_decides_the_kind_of_error() -> None:
    module = text("(float[2] x) => (float[2] y) { y = NoSuchOp(x) }")
    with pytest.raises(PassFailure, match=r"ONNX Runtime refuses the model: .*No Op registered for NoSuchOp"):
        Runner(module)
    with pytest.raises(UserError, match=r"ONNX Runtime refuses the model: .*NoSuchOp"):
        Runner(module, blame="user")


def test_failure_while_running_is_one_clean_line() -> None:
    module = text("(float[A] x, float[B] z) => (float[C] y) { y = Add(x, z) }")
    with pytest.raises(PassFailure) as caught:
        run_model(module, {"x": np.zeros(4, np.float32), "z": np.zeros(3, np.float32)})
    message = caught.value.message
    assert message.startswith("the model fails when it runs: ") and "3 by 4" in message
    assert "\n" not in message and "onnxruntime_src" not in message and "::" not in message


def test_feed_of_the_wrong_type_or_rank() -> None:
    for feed in (np.zeros((1, 32), np.float64), np.zeros(32, np.float32)):
        with pytest.raises(PassFailure, match="the model fails when it runs"):
            run_model(linear(), {"x": feed})


def test_clean_message_of_a_template_signature() -> None:
    raw = (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code. Status Message: "
        "/src/onnxruntime/core/a.cc:12 void onnxruntime::F(const std::map<int, int>&) const [with T = float] "
        "size was false. bad size\nStacktrace:\nmore"
    )
    assert clean_message(raw) == "Non-zero status code. Status Message: bad size"


def test_newest_opset_is_one_that_runs() -> None:
    run_model(
        text("(float[2] x) => (float[2] y) { y = Relu(x) }", opset=newest_opset()),
        {"x": np.zeros(2, np.float32)},
    )
    assert 21 <= newest_opset() <= onnx.defs.onnx_opset_version()


def test_feeds_are_deterministic_and_depend_on_the_seed() -> None:
    module = linear()
    first, again, other = (probe_feeds(module, seed=seed)["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_feeds_take_batch_and_named_sizes() -> None:
    module = text(
        "(float[N, T] a, float[N, 3] b, float[2, N, T] c, float[1, 3, H, W] i)"
        " => (float[N, T] y) { y = Relu(a) }"
    )
    shapes = {name: array.shape for name, array in probe_feeds(module, batch=4, sizes={"T": 5}).items()}
    assert shapes == {"a": (4, 5), "b": (4, 3), "c": (2, 4, 5), "i": (1, 3, 64, 64)}
    assert probe_feeds(module)["c"].shape == (2, 1, 1)


def test_initializers_listed_as_inputs_are_not_fed() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["" : 9]> net (float[2] x, float[2] w) => (float[2] y)'
        " <float[2] w = {1, 2}> { y = Add(x, w) }"
    )
    feeds = probe_feeds(load(proto))
    assert list(feeds) == ["x"]
    np.testing.assert_array_equal(run_model(load(proto), feeds)["y"], feeds["x"] + np.float32([1, 2]))


@pytest.mark.parametrize(
    ("body", "bound"),
    [
        ("(int64[99] i, float[7, 3] t) => (float[99, 3] y) { y = Gather(t, i) }", 7),
        ("(int64[99] i, float[7, 3] t) => (float[7, 99] y) { y = Gather<axis = 1>(t, i) }", 3),
        ("(int32[99] i, float[7, 3] t) => (float[99, 3] y) { j = Cast<to = 7>(i) y = Gather(t, j) }", 7),
        ("(int64[99] i) => (float[99, 9] y) <int64 d = {9}, float[2] v = {0, 1}> { y = OneHot(i, d, v) }", 9),
        ("(int64[99] i, float[7] t, float[4] u) => (float[99] a) { b = Gather(t, i) a = Gather(u, i) }", 4),
        ("(int64[99] i, float[3, 7] t) => (float[99, 3] y) { u = Mul(t, t) v = Transpose<perm = [1, 0]>(u) y = Gather(v, i) }", 7),
        ("(int64[99] i) => (int64[99] y) { y = Identity(i) }", 2),
        ("(uint8[9999] i) => (uint8[9999] y) { y = Identity(i) }", 256),
    ],
)  # fmt: skip
def test_integers_stay_inside_the_tables_that_they_index(body: str, bound: int) -> None:
    module = text(body)
    values = probe_feeds(module)["i"]
    assert values.min() == 0 and values.max() == bound - 1
    run_model(module, probe_feeds(module))


def test_single_integers_and_masks_are_one() -> None:
    module = text(
        "(int64 n, int64[9] attention_mask, bool[64] b) => (int64[9] y) { y = Add(attention_mask, n) }"
    )
    feeds = probe_feeds(module)
    assert feeds["n"] == 1 and (feeds["attention_mask"] == 1).all() and feeds["b"].dtype == np.bool_
    assert 0 < feeds["b"].sum() < 64


def test_inputs_without_a_shape_are_the_users_to_give() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> net (float[2] x) => (float[2] y) { y = Relu(x) }'
    )
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UserError, match="graph input `x` has no known type and rank"):
        probe_feeds(load(proto))


NEEDS_MORE = {
    "silero_vad_16k_op15": "an audio window: its STFT pads by reflection, so one sample is too short",
}
"""Models of the zoo whose inputs must fit each other in ways that the graph does not say."""


@pytest.mark.parametrize("path", zoo_models(runs=True))
def test_real_models_run_on_made_inputs_as_from_their_file(path: Path) -> None:
    module = load(path)
    feeds = probe_feeds(module)
    if path.stem in NEEDS_MORE:
        with pytest.raises(UserError, match="the model fails when it runs"):
            run_model(module, feeds, blame="user")
        return
    result = run_model(module, feeds)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for name, expected in zip(result, session.run(None, feeds), strict=True):
        scale = np.abs(expected).max(initial=1) if expected.dtype.kind == "f" else 1
        np.testing.assert_allclose(result[name], expected, rtol=1e-4, atol=1e-5 * float(scale))


AUDIO = [parameter for parameter in zoo_models(runs=True) if parameter.id in (None, "silero_vad_16k_op15")]


@pytest.mark.parametrize("path", AUDIO)
def test_sizes_make_the_audio_model_run(path: Path) -> None:
    module = load(path)
    run_model(module, probe_feeds(module, sizes={"sequence": 512}))
