"""`quantize`: what ends in 8 bits, what stays in float and why, what is proven of it, and what is refused."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir
import pytest
from core_graphs import graph, weights
from documents import ROOT
from numpy.typing import NDArray
from sabotage import armed, edited

import prunec
from prunec.ir.diagnostics import PassFailure, PrunecError, UserError, VerificationError
from prunec.ir.execute import run_model
from prunec.ir.module import Module
from prunec.ir.proto import to_proto
from prunec.passes.base import Context, Contract, Outcome, Pass
from prunec.passes.manager import Result
from prunec.passes.quantize import Quantize

Array = NDArray[Any]

PAIR = (
    "net (float[N,8] x) => (float[N,4] y) <float[8,16] first, float[4,16] last, float[4] bias> "
    "{ [one] h = MatMul(x, first) r = Relu(h) [two] y = Gemm<transB = 1>(r, last, bias) }"
)
CONV = (
    "net (float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] kernel, float[4] bias> "
    "{ [conv] y = Conv(x, kernel, bias) }"
)


def samples(module: Module, count: int = 64) -> dict[str, Array]:
    """Normal deviates for every input, whose first axis must be open."""
    rng = np.random.default_rng(0)
    shapes = {v.name or "": v.shape for v in module.graph.inputs}
    return {
        name: rng.standard_normal(
            (count, *(int(size) for size in shape[1:] if isinstance(size, int)))
        ).astype(np.float32)
        for name, shape in shapes.items()
        if shape is not None
    }


def quantised(module: Module, options: str = "") -> Result:
    return prunec.run(module, f"quantize{{{options}}}", data=samples(module))


def stay(result: Result) -> dict[str | None, str | None]:
    """By node, why a layer stays in float."""
    return {r.node: r.reason for r in result.remarks if "stays in float" in r.message}


def types(module: Module) -> list[str]:
    return sorted({node.op_type for node in module.graph})


@pytest.fixture(scope="module")
def digits() -> Module:
    return prunec.load(ROOT / "examples" / "digits.onnx")


@pytest.fixture(scope="module")
def calibration() -> dict[str, Array]:
    with np.load(ROOT / "examples" / "digits_calibration.npz") as file:
        return dict(file)


def accuracy(module: Module) -> float:
    with np.load(ROOT / "examples" / "digits.npz") as file:
        logits = run_model(module, {"image": file["image"]}, optimize=True)["logits"]
        return float((logits.argmax(1) == file["label"]).mean())


@pytest.mark.parametrize(
    "mode", ["static", "dynamic", "static calibrate=entropy", "static calibrate=percentile"]
)
def test_the_pruned_example_is_quantised_and_stays_as_accurate(
    digits: Module, calibration: dict[str, Array], mode: str, tmp_path: Path
) -> None:
    pipeline = f"fold-norm, prune-channels{{ratio=50%}}, quantize{{mode={mode}}}"
    result = prunec.run(digits, pipeline, data=calibration)
    small = [t for t in weights(result.module).values() if t.dtype == np.int8 and t.ndim > 1]
    assert sum(t.size for t in small) == 21_160  # every weight of the eleven layers
    assert accuracy(result.module) > accuracy(digits) - 0.01
    verdict = result.verdicts[-1]
    assert verdict.quantised is not None
    assert verdict.quantised.worst <= 0.501
    assert verdict.quantised.checked == verdict.quantised.total >= 11
    assert not verdict.exact
    assert 0 < verdict.error < 0.2
    result.save(tmp_path / "q.onnx")
    assert (tmp_path / "q.onnx").stat().st_size < 50_000
    assert accuracy(prunec.load(tmp_path / "q.onnx")) == accuracy(result.module)


def test_ranges_are_those_of_the_model_as_it_stands(digits: Module, calibration: dict[str, Array]) -> None:
    pruned = prunec.run(digits, "fold-norm, prune-channels{ratio=50%}")
    alone = prunec.run(pruned.module, "quantize", data=calibration)
    behind = prunec.run(digits, "fold-norm, prune-channels{ratio=50%}, quantize", data=calibration)
    np.testing.assert_equal(weights(alone.module), weights(behind.module))
    assert to_proto(alone.module) == to_proto(behind.module)


def test_held_out_samples_and_those_beyond_the_limit_give_no_range() -> None:
    module = graph(CONV)
    data = samples(module)

    def scale(options: str) -> float:
        return float(weights(prunec.run(module, f"quantize{{{options}}}", data=data).module)["x_scale"])

    data["x"][-1] = 100
    usual = scale("")
    data["x"][40] = 50
    assert scale("") > 5 * usual
    assert scale("samples=32") == pytest.approx(usual, rel=0.2)


@pytest.mark.parametrize("text", [PAIR, CONV], ids=["matmul", "conv"])
@pytest.mark.parametrize(
    "options", ["", "per-channel=false", "mode=dynamic", "weights=uint8 activations=uint8"]
)
def test_layers_compute_nearly_what_they_did(text: str, options: str) -> None:
    result = quantised(graph(text), options)
    assert stay(result) == {}
    verdict = result.verdicts[0]
    assert verdict.error < 0.1
    assert verdict.held_out
    assert verdict.quantised is not None
    assert verdict.quantised.checked == verdict.quantised.total


def test_every_channel_has_a_scale_of_its_own_where_the_opset_allows() -> None:
    def scales(opset: int, options: str = "") -> tuple[int, ...]:
        return weights(quantised(graph(CONV, opset=opset), options).module)["kernel_scale"].shape

    assert scales(13) == (4,)
    assert scales(13, "per-channel=false") == ()
    assert scales(12) == ()
    (remark,) = [r for r in quantised(graph(CONV, opset=12)).remarks if r.kind == "missed"]
    assert remark.reason == "the model is of opset 12, and DequantizeLinear takes several from 13 on"


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ("ignore=last", {"two": "option 'ignore' names it"}),
        ("ignore=one", {"one": "option 'ignore' names it"}),
        ("ops=Gemm", {"one": "option 'ops' has no `MatMul`"}),
        ("mode=dynamic ops=MatMul", {"two": "option 'ops' has no `Gemm`"}),
    ],
)
def test_what_is_to_stay_in_float_does(options: str, reasons: dict[str, str]) -> None:
    result = quantised(graph(PAIR), options)
    assert stay(result) == reasons
    before = weights(graph(PAIR))
    kept = "last" if "two" in reasons else "first"
    np.testing.assert_array_equal(np.sort(weights(result.module)[kept], None), np.sort(before[kept], None))


def test_what_has_no_form_in_8_bits_stays_and_says_so() -> None:
    text = (
        "net (float[N,4] x, float[N,4] z) => (float[N,N] y) <float[4,4] w> "
        '{ [one] a = MatMul(x, w) b = Transpose<perm = [1, 0]>(z) [two] c = MatMul(a, b) [odd] y = Einsum<equation = "ij,jk->ik">(c, c) }'
    )
    module = graph(text)
    assert stay(prunec.run(module, "quantize{mode=dynamic}")) == {
        "two": "it multiplies two computed values",
        "odd": "ONNX Runtime has no form of `Einsum` that takes its range from each run",
    }


def test_a_weight_that_is_computed_is_left_alone_by_the_dynamic_quantizer() -> None:
    text = (
        "net (float[N,3,8,8] x) => (float[N,4,6,6] y) <float[4,3,3,3] w, float[4,3,3,3] v> "
        "{ sum = Neg(w) [odd] a = Conv(x, sum) [plain] b = Conv(x, v) y = Add(a, b) }"
    )
    assert stay(quantised(graph(text), "mode=dynamic")) == {"odd": "its weight is computed"}


MIXED = (
    "net (float[N,6] x) => (float[N,5] y) <float[6,8] w, float16[8,5] v> "
    "{ [one] a = MatMul(x, w) h = Cast<to = 10>(a) r = Relu(h) [two] b = MatMul(r, v) y = Cast<to = 1>(b) }"
)
HALF = (
    "net (float16[N,6] x) => (float16[N,5] y) <float16[6,8] w, float16[5] t, float16[8,5] v> "
    "{ [one] a = MatMul(x, w) r = Relu(a) [two] y = Gemm(r, v, t) }"
)
DYNAMIC = "it computes in float16, and DynamicQuantizeLinear takes float32 alone"
STATIC = "it computes in float16, which QuantizeLinear takes from opset 19 on"


@pytest.mark.parametrize(
    ("opset", "options", "reason"),
    [(17, "mode=dynamic", DYNAMIC), (21, "mode=dynamic", DYNAMIC), (17, "", STATIC)],
)
def test_layers_of_float16_stay_where_that_is_not_taken(opset: int, options: str, reason: str) -> None:
    assert stay(quantised(graph(MIXED, opset=opset), options)) == {"two": reason}
    module = graph(HALF, opset=opset)
    data = {"x": samples(module)["x"].astype(np.float16)}
    nothing = prunec.run(module, f"quantize{{{options}}}", data=data)
    assert not nothing.changed
    (remark,) = [remark for remark in nothing.remarks if remark.origin == "quantize"]
    assert (remark.message, remark.reason, remark.help) == (
        "nothing is quantised",
        reason,
        "start from the model in float32",
    )


def test_static_takes_float16_where_the_opset_does() -> None:
    assert stay(quantised(graph(MIXED, opset=19))) == {}


def test_a_model_without_such_layers_stays_as_it_is() -> None:
    module = graph("net (float[N,4] x) => (float[N,4] y) { y = Erf(x) }")
    result = prunec.run(module, "quantize{mode=dynamic}")
    assert not result.changed
    (remark,) = result.remarks
    assert remark.urgent
    assert str(remark).startswith(
        "remark[missed]: quantize: nothing is quantised\n  = reason: ONNX Runtime's"
    )


def test_constants_in_nodes_and_nodes_without_names_are_no_obstacle() -> None:
    module = graph(
        "net (float[N,2] x) => (float[N,2] y) { w = Constant<value = float[2,2] {1, 2, 3, 4}>() y = MatMul(x, w) }"
    )
    result = quantised(module, "mode=dynamic")
    assert "w_quantized" in weights(result.module)
    assert result.verdicts[0].quantised is not None
    assert result.verdicts[0].quantised.checked == 1


def test_a_matrix_that_a_gemm_and_another_op_share_is_not_transposed_for_both() -> None:
    text = (
        "net (float[N,6] x) => (float[N,6] y) <float[6,6] w> "
        "{ a = MatMul(x, w) s = Sigmoid(a) y = Gemm<transB = 1>(s, w) }"
    )
    result = quantised(graph(text), "mode=dynamic")
    assert stay(result) == {}
    assert result.verdicts[0].error < 0.05
    assert quantised(graph(text), "mode=dynamic ops=MatMul").verdicts[0].error < 0.05


def test_a_shared_bias_gets_no_name_that_another_value_has() -> None:
    text = (
        "net (float[N,4,5,5] x) => (float[N,4,5,5] y) <float[4,4,1,1] v, float[4,4,1,1] w, float[4] b> "
        "{ b2 = Conv(x, v, b) r = Sigmoid(b2) y = Conv(r, w, b) }"
    )
    assert quantised(graph(text)).verdicts[0].error < 0.05


def test_metadata_inputs_and_outputs_stay() -> None:
    module = graph(PAIR)
    module.model.producer_name, module.model.metadata_props["team"] = "acme", "blue"
    made = quantised(module).module
    assert (made.model.producer_name, dict(made.model.metadata_props)) == ("acme", {"team": "blue"})
    assert [v.name for v in (*made.graph.inputs, *made.graph.outputs)] == ["x", "y"]
    assert made.source.original is module.source


def test_the_quantizer_keeps_its_chatter_to_itself(capfd: pytest.CaptureFixture[str]) -> None:
    handlers, filters = list(logging.getLogger().handlers), list(logging.getLogger().filters)
    quantised(graph(CONV), "calibrate=entropy")
    assert capfd.readouterr() == ("", "")
    assert (list(logging.getLogger().handlers), list(logging.getLogger().filters)) == (handlers, filters)


def test_the_quantizer_leaves_no_trace_on_the_path() -> None:
    before = list(sys.path)
    quantised(graph(CONV))
    assert sys.path == before


# -- what is refused ---------------------------------------------------------------


def refusal(kind: type[PrunecError], run: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        run()
    return str(caught.value)


def test_static_needs_data_and_dynamic_does_not() -> None:
    text = refusal(UserError, lambda: prunec.run(graph(PAIR), "quantize"))
    assert text.startswith("error: `quantize` needs calibration data, and none are given\n")
    assert types(prunec.run(graph(PAIR), "quantize{mode=dynamic}").module)[3] == "MatMulInteger"


def test_a_quantised_model_is_not_quantised_again() -> None:
    module = quantised(graph(PAIR)).module
    assert refusal(UserError, lambda: quantised(module)) == (
        "error: <memory>: the model is quantised already: 9 of its nodes quantise or dequantise\n"
        "  = help: take `quantize` out of the pipeline, or start from the model in float"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            "ops=Covn",
            "error: option 'ops' of `quantize`: ONNX Runtime's quantizer has no 8-bit form of `Covn`\n"
            "  = help: it takes Add, ArgMax, AveragePool, ",
        ),
        (
            "mode=dynamic ops=ConvTranspose",
            "error: option 'ops' of `quantize`: ONNX Runtime has no form of `ConvTranspose` that takes its range from "
            "each run\n  = help: it takes Attention, Conv, EmbedLayerNormalization, Gather, Gemm, LSTM, MatMul, Transpose",
        ),
    ],
)
def test_an_op_that_is_never_quantised_is_a_mistake(options: str, text: str) -> None:
    assert refusal(UserError, lambda: quantised(graph(PAIR), options)).startswith(text)


def test_a_name_that_nothing_has_is_remarked_on_unasked() -> None:
    remarks = [str(r) for r in quantised(graph(PAIR), "ignore=frist").remarks if r.urgent]
    assert remarks == [
        "remark[missed]: quantize: pattern 'frist' matches no node or tensor\n"
        "  = reason: no such name in the graph\n  = help: did you mean 'first'?"
    ]


def test_a_failure_of_the_quantizer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise ValueError("no such thing\nTraceback of theirs")

    monkeypatch.setattr("onnxruntime.quantization.quantize_dynamic", fail)
    text = refusal(PassFailure, lambda: prunec.run(graph(PAIR), "quantize{mode=dynamic}"))
    assert text.splitlines()[0] == "error: <memory>: ONNX Runtime's quantizer fails: no such thing"


# -- what the verifier finds ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken(Pass):
    """Quantises, then lets a fault loose on the module."""

    name: ClassVar[str] = "broken"
    contract: ClassVar[Contract] = "quantised"
    fault: ClassVar[Callable[[Module], None]]

    def run(self, module: Module, context: Context) -> Outcome:
        outcome = Quantize(mode="dynamic", ignore=("two",)).run(module, context)
        self.fault(module)
        return outcome


def rewired(module: Module) -> None:
    next(node for node in module.graph if node.op_type == "Relu").op_type = "Log"


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (edited("first_quantized", lambda w: w // 2), "V020", "weight `first` is off by"),
        (edited("first_scale", lambda w: w * 1.1), "V020", "steps after `broken`, allowed is one"),
        (
            edited("last", lambda w: w + 1),
            "V016",
            "`broken` changed tensor `last`, which it did not quantise",
        ),
        (rewired, "V018", "output `y` has another shape or other non-finite values after `broken`"),
    ],
)
def test_the_verifier_finds_what_is_wrong(fault: Callable[[Module], None], code: str, words: str) -> None:
    assert_found(PAIR, fault, code, words)


def assert_found(text: str, fault: Callable[[Module], None], code: str, words: str) -> None:
    broken = armed(Broken, fault=fault)
    with pytest.raises(VerificationError) as caught:
        prunec.run(graph(text), broken)
    assert caught.value.code == code
    assert words in caught.value.message


SQUARE = (
    "net (float[N,6] x) => (float[N,6] y) <float[6,6] first, float[6,6] last, float[6] bias> "
    "{ [one] h = Gemm<transB = 1>(x, first, bias) r = Relu(h) [two] y = MatMul(r, last) }"
)


def renamed(name: str, new: str) -> Callable[[Module], None]:
    def rename(module: Module) -> None:
        value = module.graph.initializers.pop(name)
        value.name = new
        module.graph.register_initializer(value)

    return rename


def another(module: Module) -> None:
    """Give a layer another bias than it had, and leave the old one where nothing reads it."""
    new = onnx_ir.Value(name="bias_2", const_value=onnx_ir.tensor(np.ones(6, np.float32)))
    module.graph.register_initializer(new)
    module.graph.initializers["bias"].replace_all_uses_with(new)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (edited("last", np.transpose), "V016", "`broken` changed tensor `last`, which it did not quantise"),
        (edited("first_quantized", np.transpose), "V020", "weight `first` is off by"),
        (renamed("bias", "other"), "V016", "`broken` lost tensor `bias`"),
        (another, "V016", "`broken` made tensor `bias_2`, which is none of before"),
    ],
)
def test_a_square_weight_is_not_transposed_and_none_is_lost(
    fault: Callable[[Module], None], code: str, words: str
) -> None:
    assert_found(SQUARE, fault, code, words)
