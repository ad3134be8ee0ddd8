"""The target ``ort`` and sessions made of its recipes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from core_graphs import graph
from engine_models import MODELS, Steps, model, reasons

from prunec.exporters.onnxruntime import OnnxRuntime, session
from prunec.exporters.session import OpenedSession
from prunec.exporters.target import Export, ExportContext
from prunec.ir.diagnostics import UserError, VerificationError
from prunec.ir.equality import relative_error
from prunec.ir.execute import probe_feeds, run_model
from prunec.ir.load import load
from prunec.ir.module import Module

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


def write(
    path: Path, module: Module | None = None, context: ExportContext | None = None, **options: Any
) -> Export:
    target = OnnxRuntime(**options)
    target.check()
    return target.write(module or model("cnn"), path, context or ExportContext())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
def test_the_artefact_computes_the_same_from_its_recipe(name: str, level: str, tmp_path: Path) -> None:
    module = model(name)
    done = write(tmp_path / "net.ort.onnx", module, level=level)
    assert [file.name for file in done.files] == ["net.ort.onnx", "net.ort.onnx.json"]
    feeds = probe_feeds(module, seed=5, batch=3)
    opened = session(done.files[1])
    expected = run_model(module, feeds)
    assert opened.provider == CPU
    assert all(relative_error(array, expected[key]) < 1e-4 for key, array in opened.run(feeds).items())
    assert done.lines[1].startswith("artefact: outputs equal the module's (relative error ")


@pytest.mark.parametrize(("level", "fused"), [("none", False), ("basic", False), ("extended", True)])
def test_only_extended_fuses_into_ops_of_its_own(level: str, fused: bool, tmp_path: Path) -> None:
    text = """net (float[2,8,6,6] x) => (float[2,8,6,6] y) <float[8,8,3,3] w> {
        c = Constant <value = float {2.0}> ()  a = Conv <pads = [1, 1, 1, 1]> (x, w)  b = Relu (a)  y = Identity (b) }"""
    done = write(tmp_path / "net.onnx", graph(text), level=level)
    nodes = onnx.load(done.files[0]).graph.node
    assert any(node.op_type == "FusedConv" for node in nodes) == fused
    assert (len(nodes) < 4) == (level != "none")


def test_the_recipe_names_providers_with_options_in_order(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", providers=("cuda", "tensorrt", "tensorrt-rtx", "cpu"), threads=2)
    recipe = json.loads((tmp_path / "net.onnx.json").read_text())
    assert (recipe["schema"], recipe["model"], recipe["intra_op_num_threads"]) == (
        "prunec.session/1",
        "net.onnx",
        2,
    )
    names = [provider["name"] for provider in recipe["providers"]]
    assert names == [CUDA, TENSORRT, "NvTensorRTRTXExecutionProvider", CPU]
    options = recipe["providers"][1]["options"]
    assert (
        options["trt_sparsity_enable"]
        == options["trt_fp16_enable"]
        == options["trt_engine_cache_enable"]
        == "1"
    )
    assert options["trt_engine_cache_path"] == "net.onnx.cache"
    assert recipe["providers"][2]["options"] == {"nv_runtime_cache_path": "net.onnx.cache"}


def test_a_recipe_without_float16_and_cache(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", fp16=False, cache=False)
    first, second, *_ = json.loads((tmp_path / "net.onnx.json").read_text())["providers"]
    assert (first["options"]["trt_fp16_enable"], second["options"]) == ("0", {})
    assert "trt_engine_cache_path" not in first["options"]


def test_zeros_are_no_gain_on_the_cpu_and_it_says_so(tmp_path: Path) -> None:
    for dense, expected in ((False, 1), (True, 0)):
        context = ExportContext()
        write(tmp_path / "net.onnx", model("cnn", dense=dense), context)
        said = [r for r in context.remarks if r.message == "on the CPU the zeros of 3 weights save no time"]
        assert len(said) == expected
        assert all("slower below 95 %" in str(r.reason) and "prune-channels" in str(r.help) for r in said)


def test_levels_that_do_not_suit_every_provider(tmp_path: Path) -> None:
    context = ExportContext()
    write(tmp_path / "net.onnx", context=context, level="all")
    assert "CUDA or the CPU" in reasons(context)("level=all fuses into ops that TensorRT does not take")
    assert any(
        r.message == "level=all fits the file to the processor of this machine" for r in context.remarks
    )
    silent = ExportContext()
    write(tmp_path / "net.onnx", model("cnn", dense=True), silent, level="extended", providers=("cpu",))
    assert not len(silent.remarks)


def test_steps_are_told_and_verification_can_be_left_out(tmp_path: Path) -> None:
    steps = Steps()
    done = write(tmp_path / "net.onnx", context=steps.context(verify=False))
    assert steps.told == ["optimising in ONNX Runtime, level basic"]
    assert done.lines[-1] == "artefact: not compared: verification is off"


def test_an_artefact_that_computes_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = OpenedSession.run
    monkeypatch.setattr(
        OpenedSession, "run", lambda self, feeds: {k: 2 * v for k, v in honest(self, feeds).items()}
    )
    with pytest.raises(VerificationError, match="the optimised model computes something else"):
        write(tmp_path / "net.onnx")


@pytest.mark.parametrize("providers", [(), ("cpu", "cpu")])
def test_providers_are_named_once(providers: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="option 'providers' names each provider once"):
        OnnxRuntime(providers=providers).check()  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its folder does not exist"):
        write(tmp_path / "none" / "net.onnx")


RECIPE = {"schema": "prunec.session/1", "model": "net.onnx", "providers": [{"name": CPU}]}


def with_providers(
    monkeypatch: pytest.MonkeyPatch, *available: str, fail: str = "", drop: str = ""
) -> list[Any]:
    """An ONNX Runtime with other providers, of which one may fail and one be left out in silence."""
    tried: list[Any] = []
    real = ort.InferenceSession

    def make(model: str, settings: Any, providers: list[Any]) -> Any:
        name, options = providers[0]
        tried.append((name, options))
        if name == fail:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : no libnvinfer.so")
        opened = real(model, settings, providers=[CPU])
        names = [CPU] if name == drop else [name, CPU]
        return SimpleNamespace(run=opened.run, get_providers=lambda: names)

    monkeypatch.setattr(ort, "get_available_providers", lambda: list(available))
    monkeypatch.setattr(ort, "InferenceSession", make)
    return tried


def test_it_falls_back_in_order_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write(tmp_path / "net.onnx").files[1]
    tried = with_providers(monkeypatch, TENSORRT, CUDA, CPU, fail=TENSORRT, drop=CUDA)
    opened = session(recipe)
    assert [name for name, _ in tried] == [TENSORRT, CUDA, CPU]
    assert tried[0][1]["trt_engine_cache_path"] == str(tmp_path / "net.onnx.cache")
    assert opened.provider == CPU
    assert opened.rejected == {
        TENSORRT: "no libnvinfer.so",
        "NvTensorRTRTXExecutionProvider": f"not in onnxruntime {ort.__version__} as installed here",
        CUDA: "ONNX Runtime could not load it",
    }
    assert str(opened).startswith(f"{CPU} ({TENSORRT}: no libnvinfer.so; ")


def test_the_first_provider_is_taken_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write(tmp_path / "net.onnx").files[1]
    with_providers(monkeypatch, TENSORRT, CPU)
    assert str(session(recipe)) == TENSORRT


def test_no_provider_opens_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write(tmp_path / "net.onnx").files[1]
    with_providers(monkeypatch)
    with pytest.raises(UserError, match="no provider of the recipe opens the model") as caught:
        session(recipe)
    assert len(caught.value.notes) == 4


def test_a_recipe_can_be_given_as_content(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx")
    assert session(RECIPE, folder=tmp_path).provider == CPU
    with pytest.raises(UserError, match="no provider of the recipe opens the model"):
        session(RECIPE, folder=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the recipe is no JSON: "),
        ("[]", "its schema is not prunec.session/1"),
        ('{"schema": "prunec.session/1"}', "it names no model"),
        ('{"schema": "prunec.session/1", "model": "net.onnx", "providers": []}', "it names no providers"),
        (
            '{"schema": "prunec.session/1", "model": "net.onnx", "providers": ["cpu"]}',
            "it names no providers",
        ),
    ],
)
def test_what_is_no_recipe(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        session(tmp_path / "r.json")
    assert caught.value.place is not None and caught.value.place.file.endswith("r.json")


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the recipe: no such file or directory"):
        session(tmp_path / "r.json")


def test_weights_in_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunec.exporters.onnxruntime.LARGEST_INLINE", 1000)
    done = write(tmp_path / "net.onnx")
    assert [file.name for file in done.files] == ["net.onnx", "net.onnx.json", "net.onnx.data"]
    assert load(done.files[0]).source.size == done.size
