"""Exports to TensorRT from beginning to end: files, ledger, gate, and what is said where there is no GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from core_graphs import graph
from engine_models import MODELS, model, reasons
from fake_gpu import FakeTensorRT, gpu

from prunec.exporters.export import export
from prunec.exporters.target import Export, ExportContext
from prunec.exporters.tensorrt import api as apis
from prunec.exporters.tensorrt import cuda
from prunec.exporters.tensorrt.session import BuildSession
from prunec.exporters.tensorrt.target import TensorRT
from prunec.ir.diagnostics import GateError, UserError, VerificationError

NO_GPU = "no NVIDIA driver is installed"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on machines that have one."""
    for module in ("prunec.exporters.tensorrt.session", "prunec.exporters.tensorrt.cuda"):
        monkeypatch.setattr(f"{module}.find_gpu", lambda: (None, NO_GPU))


def write(
    path: Path,
    context: ExportContext | None = None,
    *,
    name: str = "cnn",
    dense: bool = False,
    **options: Any,
) -> Export:
    target = TensorRT(runtime="tensorrt_rtx", **options)
    target.check()
    return BuildSession(
        target=target, module=model(name, dense=dense), path=path, context=context or ExportContext()
    ).run()


def ledger_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.with_name(f"{path.name}.json").read_text())
    return content


@pytest.mark.parametrize("name", MODELS)
def test_every_model_leaves_an_engine_and_what_belongs_to_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.engine"
    done = write(path, name=name)
    assert [file.name for file in done.files] == [
        "net.engine",
        "net.engine.json",
        "net.engine.onnx",
        "net.engine.sh",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(done.files)
    facts = ledger_of(path)
    assert facts["engine"]["bytes"] == path.stat().st_size == done.size
    assert facts["runtime"]["package"] == "tensorrt_rtx" and facts["runtime"]["gpu"] is None
    layers = facts["sparsity"]["layers"]
    eligible = [layer for layer in layers if layer["eligible"]]
    assert eligible and {layer["picked"] for layer in eligible} <= {"unknown", "no"}
    assert all(layer["engine_layers"] for layer in eligible)
    onnx.checker.check_model(onnx.load(done.files[2]))


def test_what_it_says_without_a_gpu(tmp_path: Path) -> None:
    context = ExportContext()
    done = write(tmp_path / "net.engine", context)
    head, sparse, prepared, engine, latency = done.lines
    assert head.startswith("TensorRT-RTX ") and ": fp16 engine, " in head
    assert sparse == (
        "sparse kernels: 3 of 3 layers are eligible, 3 of these have 2:4 weights; picked for 0, not for 0, unknown for 3"
    )
    assert prepared.startswith("prepared model: outputs equal the module's in ONNX Runtime (relative error ")
    assert engine == f"engine: not run: {NO_GPU}"
    assert latency == f"dense and sparse engine: not run: {NO_GPU}"
    why = reasons(context)("it is unknown whether 3 layers")
    assert why == "kernels are chosen by the machine that runs the engine"
    assert ledger_of(tmp_path / "net.engine")["latency"] == f"not run: {NO_GPU}"


def test_dense_weights_are_no_mystery(tmp_path: Path) -> None:
    write(tmp_path / "net.engine", dense=True)
    counts = ledger_of(tmp_path / "net.engine")["sparsity"]["counts"]
    assert (counts["sparse_weights"], counts["unknown"], counts["not_picked"]) == (0, 0, 3)


def test_what_is_unknown_does_not_pass_the_gate(tmp_path: Path) -> None:
    path = tmp_path / "net.engine"
    with pytest.raises(
        GateError, match="proven for 0 of 3 eligible layers; at least 80 % are required"
    ) as caught:
        write(path, require_sparse=0.8)
    assert not path.exists()
    assert caught.value.notes[-1] == f"ledger: {path}.json"
    facts = ledger_of(path)
    assert facts["engine"] is None and facts["gate"] == caught.value.message


def test_remarks_tell_defaults_and_what_was_done(tmp_path: Path) -> None:
    context = ExportContext()
    write(tmp_path / "net.engine", context, name="dynamic", timing_cache=str(tmp_path / "cache"))
    assert reasons(context)("no profile is given for input `x`")
    assert reasons(context)("no timing cache is used")
    assert any(r.message == "2 of 2 float32 tensors became float16" for r in context.remarks)


def test_bfloat16_is_built_and_the_comparison_says_why_it_was_not_made(tmp_path: Path) -> None:
    context = ExportContext()
    done = write(tmp_path / "net.engine", context, precision="bf16")
    assert "prepared model: not compared: ONNX Runtime cannot run it on the CPU" in done.lines
    assert reasons(context)("the prepared model is not compared").startswith(
        "ONNX Runtime cannot run it on the CPU: "
    )


def test_verification_can_be_left_out(tmp_path: Path) -> None:
    done = write(tmp_path / "net.engine", ExportContext(verify=False))
    assert "prepared model: not compared: verification is off" in done.lines


def test_a_prepared_model_that_computes_something_else_is_not_built(tmp_path: Path) -> None:
    huge = np.full((64, 64), 1e6, np.float32)  # float16 ends at 65,504
    module = graph("net (float[2,64] x) => (float[2,64] y) { y = MatMul(x, w) }", w=huge)
    target = TensorRT(runtime="tensorrt_rtx")
    session = BuildSession(target=target, module=module, path=tmp_path / "e", context=ExportContext())
    with pytest.raises(VerificationError, match="the model prepared for TensorRT computes something else"):
        session.run()
    assert not list(tmp_path.iterdir())


SPARSE = "sm90_xmma_sparse_gemm"


def engine_layers(*, sparse: int) -> list[dict[str, Any]]:
    names = ("conv1", "conv2", "fc")
    return [
        {"Name": name, "TacticName": SPARSE if index < sparse else "sm90_xmma_gemm"}
        for index, name in enumerate(names)
    ]


def on_gpu(
    trt: FakeTensorRT, path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[Export, ExportContext]:
    trt.install(monkeypatch)
    context = ExportContext()
    return write(path, context, runs=3, **options), context


def test_on_a_gpu_the_engine_runs_and_the_inspector_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.engine"
    trt = FakeTensorRT(layers=engine_layers(sparse=2))
    done, _ = on_gpu(trt, path, monkeypatch, require_sparse=0.5)
    facts = ledger_of(path)
    assert facts["runtime"]["gpu"] == "Fake GPU (compute capability 9.0)"
    assert facts["checks"]["engine"].startswith("outputs equal the module's in ONNX Runtime")
    assert [layer["picked"] for layer in facts["sparsity"]["layers"]] == ["yes", "yes", "no"]
    assert facts["sparsity"]["layers"][0]["tactic"] == SPARSE
    assert facts["latency"]["verdict"] in ("faster", "slower", "no difference")
    assert [bool(config.flags) for config in trt.configs] == [True, False], "a sparse and a dense engine"
    assert path.stat().st_size == done.size


def test_on_a_gpu_the_log_decides_where_the_inspector_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = "(Sparsity) Found 3 layer(s) eligible to use sparse tactics\n(Sparsity) Chose 0 layer(s) using sparse tactics"
    path = tmp_path / "net.engine"
    with pytest.raises(GateError):
        on_gpu(FakeTensorRT(log=log), path, monkeypatch, require_sparse=0.1)
    assert ledger_of(path)["sparsity"]["log"]["eligible"] == {"count": 3, "names": []}


def test_an_engine_that_computes_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(VerificationError, match="the engine computes something else: relative error"):
        on_gpu(FakeTensorRT(factor=1.5), tmp_path / "net.engine", monkeypatch)
    assert not list(tmp_path.iterdir())


def test_a_gpu_without_sparse_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTensorRT().install(monkeypatch, on=gpu(capability=(7, 5)))
    context = ExportContext()
    write(tmp_path / "net.engine", context, runs=2)
    assert "NVIDIA Ampere and later" in reasons(context)("no sparse kernel can run on this GPU")


@pytest.mark.parametrize(
    ("old", "kept"), [(b"", b"timings"), (b"earlier", b"earlier"), (b"of another version", b"timings")]
)
def test_the_timing_cache_is_read_and_written(
    old: bytes, kept: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    if old:
        cache.write_bytes(old)
    on_gpu(FakeTensorRT(), tmp_path / "net.engine", monkeypatch, timing_cache=str(cache), workspace=32)
    assert cache.read_bytes() == kept


def test_a_timing_cache_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot read the timing cache: is a directory"):
        on_gpu(FakeTensorRT(), tmp_path / "net.engine", monkeypatch, timing_cache=str(tmp_path))


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find(name))


def test_neither_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tensorrt", "tensorrt_rtx")
    with pytest.raises(UserError, match="tensorrt and tensorrt_rtx are both not installed") as caught:
        export(model("cnn"), "trt", "x.engine")
    assert caught.value.help == ("pip install 'prunec[tensorrt]'",)


def test_the_package_that_was_asked_for_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tensorrt")
    with pytest.raises(UserError, match=r"^error: tensorrt is not installed") as caught:
        TensorRT(runtime="tensorrt").check()
    assert caught.value.help == ("pip install tensorrt",)


def test_graphsurgeon_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnx_graphsurgeon")
    with pytest.raises(UserError, match="onnx-graphsurgeon is not installed"):
        TensorRT(runtime="tensorrt_rtx").check()


def importing(monkeypatch: pytest.MonkeyPatch, found: object) -> None:
    def load(name: str) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(apis, "is_installed", lambda name: name == "tensorrt")
    monkeypatch.setattr(apis.importlib, "import_module", load)


def test_a_package_that_is_too_old_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    importing(monkeypatch, SimpleNamespace(__version__="8.6.1"))
    with pytest.raises(UserError, match=r"tensorrt 8\.6\.1 is too old: 10\.0 or later is needed"):
        apis.load_api()
    importing(monkeypatch, OSError("libnvinfer.so.10: cannot open shared object file\nmore"))
    with pytest.raises(
        UserError, match=r"cannot be imported: libnvinfer\.so\.10: cannot open shared object file"
    ):
        apis.load_api()
    importing(monkeypatch, SimpleNamespace(__version__="11.0.0.1"))
    assert str(apis.load_api()) == "TensorRT 11.0.0.1"
    with pytest.raises(UserError, match=r"TensorRT 11\.0\.0\.1 builds engines only where there is a GPU"):
        TensorRT().check()


def test_a_gpu_that_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=f"a GPU is required: {NO_GPU}"):
        TensorRT(runtime="tensorrt_rtx", require_gpu=True).check()
    monkeypatch.setattr(cuda, "find_gpu", lambda: (gpu(), ""))
    TensorRT(runtime="tensorrt_rtx", require_gpu=True).check()


def test_nothing_of_it_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys; from prunec.exporters.registry import parse_target; parse_target('trt{level=3}'); "
        "import prunec.exporters.tensorrt.session; "
        "print([m for m in ('tensorrt', 'tensorrt_rtx', 'onnx_graphsurgeon', 'torch') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
