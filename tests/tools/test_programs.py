"""The command line on programs of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_modules import CASES

import prunec
from prunec.ir.diagnostics import UserError
from prunec.ir.execute import Runner
from prunec.ir.load import load
from prunec.tools.prunec import run


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved program in the working directory."""
    monkeypatch.chdir(tmp_path)
    case = CASES["residual"]
    torch.export.save(torch.export.export(case.made(), case.inputs(), dynamic_shapes=case.dynamic), "net.pt2")
    return tmp_path / "net.pt2"


def test_a_program_is_compiled(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["net.pt2", "-p", "prune-channels{ratio=50%}, verify", "--plan", "plan.json"]) == 0
    said = capsys.readouterr().err
    assert "wrote net.pruned.pt2" in said and "verified: prune-channels" in said
    assert "multiply-accumulates (batch 2)" in said
    assert torch.export.load("net.pruned.pt2").module()(torch.randn(5, 3, 8, 8))["logits"].shape == (5, 5)
    assert run(["net.pt2", "--replay", "plan.json", "-o", "again.pt2"]) == 0


def test_a_program_is_inspected(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "net.pt2"]) == 0
    assert run(["inspect", "net.pt2", "--dump"]) == 0
    assert "aten::conv2d.default" in capsys.readouterr().out


REFUSED = {
    "onnx": (
        "net.pt2 -p prune-channels -o net.onnx",
        "error: net.onnx: a program of torch cannot be written as ONNX\n"
        "  = help: give a name that ends in .pt2, such as net.pt2\n"
        "  = help: to ONNX, in Python: torch.onnx.export(result.to_torch().eval(), inputs, 'net.onnx', dynamo=True)\n"
        "  = help: to ONNX, of a .pt2 file: torch.onnx.export(torch.export.load('net.pt2'), (), 'net.onnx', ",
    ),
    "pth": ("net.pt2 -p prune-channels -o net.pth", "net.pth: a program of torch cannot be written as ONNX"),
    "ort": (
        "net.pt2 -p prune-channels --emit ort",
        "net.pt2: --emit ort takes ONNX models, and this is a program of",
    ),
    "quantize": (
        "net.pt2 -p quantize",
        "net.pt2: `quantize` takes ONNX models, and this is a program of torch\n  = help",
    ),
    "from onnx": (
        "net.onnx -p prune-channels -o out.pt2",
        "error: out.pt2: an ONNX model cannot be written as a program of torch\n"
        "  = help: give a name that ends in .onnx, such as out.onnx",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_wrong_kind_is_refused_before_anything_is_read(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.pt2", "net.onnx"):
        Path(name).write_bytes(b"no model")
    command, words = REFUSED[what]
    assert run(command.split()) == 2
    assert words in capsys.readouterr().err


def test_the_wrong_kind_is_refused_in_python(tmp_path: Path) -> None:
    captured = prunec.trace(CASES["residual"].made(), CASES["residual"].inputs())
    for refused in (
        lambda: prunec.run(captured, "quantize"),
        lambda: prunec.run(captured, "repeat{times=2}(quantize)"),
        lambda: prunec.export(captured, "ort", tmp_path / "net.onnx"),
        lambda: prunec.save(captured, tmp_path / "net.onnx"),
    ):
        with pytest.raises(UserError, match="ONNX") as caught:
            refused()
        assert "= help: to ONNX, in Python: torch.onnx.export(" in caught.value.render()
    assert list(tmp_path.iterdir()) == []


def test_what_the_help_says_exports_a_program(program: Path) -> None:
    torch.onnx.export(torch.export.load("net.pt2"), (), "net.onnx", dynamo=True)
    assert "Conv" in {node.op_type for node in load("net.onnx").graph}


def test_a_pickle_is_led_to_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for new in (True, False):
        torch.save(CASES["residual"].made(), "net.pth", _use_new_zipfile_serialization=new)
        assert run(["net.pth", "-p", "prune-channels"]) == 2
        assert (
            "= help: in Python, build the module and load its weights, then prunec.trace("
            in capsys.readouterr().err
        )


def test_what_knows_onnx_alone_says_so(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    help = (
        "= help: to ONNX, of a .pt2 file: torch.onnx.export(torch.export.load('net.pt2'), (), 'net.onnx', dyn"
    )
    np.savez("data.npz", x=np.zeros((4, 3, 8, 8), np.float32), label=np.zeros(4, np.int64))
    for arguments in (
        ["reduce", "-p", "verify"],
        ["sensitivity", "--data", "data.npz", "-o", "profile.json"],
    ):
        assert run([arguments[0], "net.pt2", *arguments[1:]]) == 2
        told = capsys.readouterr().err
        assert "takes ONNX models, and this is a program of torch" in told
        assert help in told
    assert run(["bench", "net.pt2"]) == run(["inspect", "net.pt2", "--ceiling"]) == 2
    told = capsys.readouterr().err
    assert help in told
    errors = told.splitlines()
    assert errors.count("error: net.pt2: a program of torch does not run in ONNX Runtime") == 2
    assert run(["diff", "net.pt2", "net.pt2"]) in (0, 2)
    with pytest.raises(UserError, match="does not run in ONNX Runtime"):
        Runner(load(program))
