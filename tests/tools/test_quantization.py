"""What a compile that prunes and quantises prints of the four models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from documents import ROOT
from rich.console import Console

from prunec.passes.judging.quantization_table import QuantizationTable
from prunec.tools import prunec as command
from prunec.tools.quantization import render_table

MODEL = str(ROOT / "examples" / "digits.onnx")


def run(*arguments: str) -> int:
    return command.run([MODEL, "-o", "out.onnx", *arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


PIPELINE = "fold-norm, prune-channels{ratio=60%}, quantize"


def test_the_four_models_are_shown_with_what_each_loses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-p", PIPELINE, "--data", str(ROOT / "examples" / "digits.npz")) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split() == ["dense", "pruned", "quantised", "both"]
    assert lines[1].split()[:3] == ["top1", "99.78", "%"]
    assert lines[2].split()[0] == "lost"
    assert "each by itself (450 samples of" in lines[3]


def test_above_the_limit_there_is_a_warning_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    table = QuantizationTable(
        metric="top1", higher_is_better=True, data="d.npz", samples=450, dense=0.99, pruned=0.98, quantised=0.97,
        both=0.9, limit=0.01,
    )  # fmt: skip
    Console(width=100).print(render_table(table), crop=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith(
        "warning: pruning and quantising together lose 6.00 points of top1 more than each by"
    )
    assert lines[4].startswith("  = help: calibrate on the pruned model")


def test_what_cannot_be_judged_is_a_remark_and_the_model_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = np.load(ROOT / "examples" / "digits.npz")
    np.savez("odd.npz", image=data["image"], label=data["label"] + 100)
    assert run("-p", PIPELINE, "--data", "odd.npz") == 0
    err = capsys.readouterr().err
    assert "remark[missed]: quantize: pruned and quantised models are not compared\n  = reason: " in err
    assert "put `quantize` last" not in err


def test_quantising_before_pruning_cannot_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    passes = "quantize, prune-channels{ratio=50%}"
    assert run("-p", passes, "--data", str(ROOT / "examples" / "digits.npz")) == 0
    err = capsys.readouterr().err
    assert "models are not compared\n  = reason: the plan names tensor " in err
    assert "\n  = help: put `quantize` last\n" in err
    assert Path("out.onnx").exists()


def test_without_data_there_is_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-p", PIPELINE.replace("quantize", "quantize{mode=dynamic}")) == 0
    assert "lost" not in capsys.readouterr().err
