"""The command line on programs of torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_modules import CASES

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
    assert torch.export.load("net.pruned.pt2").module()(torch.randn(5, 3, 8, 8))["logits"].shape == (5, 5)
    assert run(["net.pt2", "--replay", "plan.json", "-o", "again.pt2"]) == 0


def test_a_program_is_inspected(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "net.pt2"]) == 0
    assert run(["inspect", "net.pt2", "--dump"]) == 0
    assert "aten::conv2d.default" in capsys.readouterr().out


def test_a_program_is_not_written_as_onnx(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["net.pt2", "-p", "prune-channels", "-o", "net.onnx"]) == 2
    assert "a program of torch cannot be written as ONNX" in capsys.readouterr().err
    assert not Path("net.onnx").exists()


def test_what_knows_onnx_alone_says_so(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reduce", "net.pt2", "-p", "verify"]) == 2
    assert "only ONNX models can be reduced" in capsys.readouterr().err
    assert run(["bench", "net.pt2"]) == run(["inspect", "net.pt2", "--ceiling"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors.count("error: net.pt2: a program of torch does not run in ONNX Runtime") == 2
    assert run(["diff", "net.pt2", "net.pt2"]) in (0, 2)
    with pytest.raises(UserError, match="does not run in ONNX Runtime"):
        Runner(load(program))
