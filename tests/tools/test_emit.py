"""``--emit`` and ``prunec targets``: what is written, and the exit code where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_models import model

from prunec.ir.save import save
from prunec.tools.prunec import run


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory with a sparse model in it, on a machine without a GPU."""
    save(model("cnn"), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    for module in ("session", "cuda"):
        monkeypatch.setattr(
            f"prunec.exporters.tensorrt.{module}.find_gpu", lambda: (None, "no NVIDIA driver is installed")
        )
    return tmp_path


def emit(*arguments: str) -> int:
    return run(["net.onnx", "-p", "canonicalize", *arguments])


RTX = "trt{runtime=tensorrt_rtx}"


@pytest.mark.parametrize(
    ("target", "output"),
    [("onnx", "net.pruned.onnx"), ("ort", "net.pruned.ort.onnx"), (RTX, "net.pruned.engine")],
)
def test_every_target_has_a_default_output(
    target: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert emit("--emit", target) == 0
    assert Path(output).stat().st_size
    assert f"wrote {output}" in capsys.readouterr().err


def test_an_engine_its_ledger_and_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert emit("--emit", RTX, "-o", "net.engine", "-R", "-v") == 0
    err = capsys.readouterr().err
    assert "sparse kernels: 3 of 3 layers are eligible" in err
    assert "engine: not run: no NVIDIA driver is installed" in err
    assert "wrote net.engine, net.engine.json, net.engine.onnx, net.engine.sh" in err
    assert "remark[missed]: trt: it is unknown whether 3 layers" in err
    assert "building with TensorRT-RTX" in err
    assert json.loads(Path("net.engine.json").read_text())["schema"] == "prunec.engine/1"


def test_a_gate_that_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert emit("--emit", RTX, "--require-sparse", "80%", "-o", "net.engine", "--remarks", "r.yaml") == 3
    assert 'Pass: "trt"' in Path("r.yaml").read_text()
    assert capsys.readouterr().err.startswith("error: sparse kernels are proven for 0 of 3 eligible layers; ")
    assert not Path("net.engine").exists()
    assert Path("net.engine.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--emit", "trt{profil=x}"], "error: --emit:1:5: unknown option 'profil' (did you mean 'profile'?)"),
        (["--emit", "engine"], "error: --emit:1:1: unknown target 'engine'"),
        (["--emit", "ort", "--require-sparse", "0.5"], "error: --require-sparse does not apply to --emit ort"),
        (["--emit", RTX, "--require-sparse", "half"], "error: --require-sparse: option 'require-sparse' takes a number"),
        (["--emit", RTX, "--require-sparse", "2"], "error: --require-sparse: option 'require-sparse' takes a number"),
        (["--emit", RTX, "-o", "none/net.engine"], "error: none/net.engine: folder 'none' does not exist"),
        (["--emit", RTX, "-o", "x", "--plan", "x.json"], "error: x.json: two outputs have this name"),
        (["--emit", "trt{runtime=tensorrt_rtx require-gpu}"], "error: a GPU is required: no NVIDIA driver is installed"),
        (["--emit", "trt{runtime=tensorrt_rtx profile=y:1:1:1}"], "error: profile 'y:1:1:1' is for no input of the model"),
    ],
)  # fmt: skip
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(Path().iterdir())
    assert emit(*arguments) == 2
    assert capsys.readouterr().err.startswith(message)
    assert set(Path().iterdir()) == before


def test_the_list_of_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line[:1].isalpha()] == ["onnx", "ort", "trt"]
    assert "`prunec targets NAME` explains one of them." in out


def test_one_target_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "trt"]) == 0
    out = capsys.readouterr().out
    assert "require-sparse=ratio|none" in out and "OUT.json (the ledger)" in out
    assert run(["targets", "tr"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown target 'tr' (did you mean 'trt'?)")
